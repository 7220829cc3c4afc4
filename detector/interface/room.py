"""How much visitors may send: the disk and the memory are bounded, and one visitor's part of them.

Gradio bounds the size of a file, and takes any number of them.
"""

import shutil
import time
from collections import deque
from typing import Any

from fastapi import Request
from fastapi.responses import PlainTextResponse

from detector.interface.sessions import KEPT_SECONDS, temporary_folder
from detector.turns import is_public, name_visitor

HELD_BYTES = 20 * 2**30  # of uploads that may lie on the disk
LEAST_FREE = 2 * 2**30  # bytes of the disk that uploads leave free
EACH_BYTES = 4 * 2**30  # of one visitor from elsewhere
EACH_FILES = 100  # likewise
MESSAGE_BYTES = 32 * 2**20  # of a request without files, which is held in memory
SMALL = 2**16  # bytes of such a request that count for nothing
LIES = 1.25 * KEPT_SECONDS  # seconds: files that are too old are looked for every quarter of that

FULL = "There is no room for more files just now. Please try again in an hour."
FULL_EACH = (
    f"You have sent {EACH_FILES} files or {EACH_BYTES // 2**30} GiB within the hour. Please wait, "
    "or run Unmask on your own machine, where there is no such limit."
)
TOO_LONG = f"A request without files may have {MESSAGE_BYTES // 2**20} MiB."
NO_LENGTH = "A request must say how long it is."


class Room:
    """What was sent of late, and by whom."""

    def __init__(self) -> None:
        self._sent: deque[tuple[float, str, int]] = deque()

    def take(self, visitor: str, size: int, *, free: int, public: bool) -> str | None:
        """Take in so many bytes; or say why not. `free` is what the disk has left."""
        now = time.monotonic()
        while self._sent and self._sent[0][0] < now - LIES:
            self._sent.popleft()
        if size > free - LEAST_FREE or size + sum(n for _, _, n in self._sent) > HELD_BYTES:
            return FULL
        own = [n for _, who, n in self._sent if who == visitor]
        if public and (len(own) >= EACH_FILES or size + sum(own) > EACH_BYTES):
            return FULL_EACH
        self._sent.append((now, visitor, size))
        return None


class Doorkeeper:
    """Refuses requests that there is no room for, before any of their content is read."""

    def __init__(self, app: Any) -> None:
        self.app, self.room = app, Room()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on, or answer it."""
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
            if size <= SMALL:
                return None
        told = self.room.take(
            name_visitor(None, request), size,
            free=shutil.disk_usage(temporary_folder()).free, public=is_public(request),
        )  # fmt: skip
        return PlainTextResponse(told, 413) if told else None
