"""What visitors send is bounded, on the disk and in memory, and each visitor's part of it."""

import asyncio
from typing import Any

import pytest

from detector.interface import room
from detector.interface.room import UploadLimiter, UploadQuota

PLENTY = 2**40


def test_the_disk_is_never_filled() -> None:
    held = UploadQuota()
    assert held.admit("a", room.HELD_BYTES, free=PLENTY, public=False) is None
    assert held.admit("b", 1, free=PLENTY, public=False) == room.FULL
    assert UploadQuota().admit("a", 2**30, free=room.MIN_FREE_BYTES, public=False) == room.FULL


def test_a_visitor_who_sends_very_many_files_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: clock[0])
    held = UploadQuota()
    for _ in range(room.VISITOR_FILES):
        assert held.admit("a", 1000, free=PLENTY, public=True) is None
    assert held.admit("a", 1000, free=PLENTY, public=True) == room.FULL_EACH
    assert held.admit("b", room.VISITOR_BYTES, free=PLENTY, public=True) is None
    assert held.admit("b", 1, free=PLENTY, public=True) == room.FULL_EACH
    assert held.admit("a", 1000, free=PLENTY, public=False) is None  # on one's own machine
    clock[0] = room.STORED_SECONDS + 1
    assert held.admit("a", 1000, free=PLENTY, public=True) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "multipart/form-data; boundary=x", "content-length": "1000"}, 200),
        ({"content-type": "multipart/form-data; boundary=x", "content-length": str(2**50)}, 413),
        ({"content-type": "multipart/form-data; boundary=x"}, 411),
        ({"content-type": "application/json", "content-length": "1000"}, 200),
        ({"content-type": "application/json", "content-length": str(2**30)}, 413),
        ({"content-type": "application/json", "transfer-encoding": "chunked"}, 411),
        ({"content-type": "application/json", "content-length": "-5"}, 411),
    ],
)
def test_what_is_too_large_is_refused_unread(headers: dict[str, str], status: int) -> None:
    statuses: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        statuses.append(200)

    async def receive() -> Any:
        pytest.fail("its content was read")

    async def send(message: dict[str, Any]) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    scope = {
        "type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b"",
        "client": ("1.2.3.4", 5), "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    asyncio.run(UploadLimiter(app)(scope, receive, send))
    assert statuses == [status]
