"""Limit how much visitors upload, together and each, before a request's body is read.

Gradio limits the size of one file, but not their number.
"""

import shutil
import time
from collections import deque
from typing import Any

from fastapi import Request
from fastapi.responses import PlainTextResponse

from detector.interface.sessions import KEPT_SECONDS, temporary_folder
from detector.turns import is_public, name_visitor

HELD_BYTES = 20 * 2**30  # of all uploads on the disk
MIN_FREE_BYTES = 2 * 2**30  # bytes of the disk that uploads leave free
VISITOR_BYTES = 4 * 2**30  # of one remote visitor
VISITOR_FILES = 100  # of one remote visitor
MESSAGE_BYTES = 32 * 2**20  # of a request without files, which is held in memory
UNCOUNTED_BYTES = 2**16  # bytes up to which such a request is not counted
STORED_SECONDS = 1.25 * KEPT_SECONDS  # longest time on disk: checked every quarter of it

FULL = "The server has no space for more files at the moment. Please try again in an hour."
FULL_EACH = (
    f"You have sent {VISITOR_FILES} files or {VISITOR_BYTES // 2**30} GiB within an hour. "
    "Please wait, or run Unmask on your own machine, where there is no such limit."
)
TOO_LONG = f"A request without files must not exceed {MESSAGE_BYTES // 2**20} MiB."
NO_LENGTH = "The request needs a Content-Length header."


class UploadQuota:
    """The recent uploads, and the limits on them."""

    def __init__(self) -> None:
        self._sent: deque[tuple[float, str, int]] = deque()

    def admit(self, visitor: str, size: int, *, free: int, public: bool) -> str | None:
        """Admit an upload or return the reason why not.

        Args:
            visitor: who sends it.
            size: its bytes.
            free: free bytes on the disk.
            public: whether the visitor is remote, so that the limits on each apply.
        """
        now = time.monotonic()
        while self._sent and self._sent[0][0] < now - STORED_SECONDS:
            self._sent.popleft()
        if size > free - MIN_FREE_BYTES or size + sum(n for _, _, n in self._sent) > HELD_BYTES:
            return FULL
        own = [n for _, who, n in self._sent if who == visitor]
        if public and (len(own) >= VISITOR_FILES or size + sum(own) > VISITOR_BYTES):
            return FULL_EACH
        self._sent.append((now, visitor, size))
        return None


class UploadLimiter:
    """ASGI middleware that refuses requests beyond the limits before their body is read."""

    def __init__(self, app: Any) -> None:
        self.app, self.quota = app, UploadQuota()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        refusal = self._refuse(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)

    def _refuse(self, scope: Any) -> PlainTextResponse | None:
        request = Request(scope)
        if request.method not in ("POST", "PUT", "PATCH"):
            return None
        length = request.headers.get("content-length", "")
        if not length.isdecimal():
            return PlainTextResponse(NO_LENGTH, 411)
        size = int(length)
        if not request.headers.get("content-type", "").startswith("multipart/"):
            if size > MESSAGE_BYTES:
                return PlainTextResponse(TOO_LONG, 413)
            if size <= UNCOUNTED_BYTES:
                return None
        told = self.quota.admit(
            name_visitor(None, request), size,
            free=shutil.disk_usage(temporary_folder()).free, public=is_public(request),
        )  # fmt: skip
        return PlainTextResponse(told, 413) if told else None
