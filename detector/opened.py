"""A file by its path; or, in a process that may open none, as it was opened by another.

A decoder opens nothing itself (sandbox.py): whoever asks it hands over the file, opened. Then the
content comes through the descriptor, and the path is no more than a name.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

_handed: dict[Path, int] = {}


@contextmanager
def handed_over(path: Path, descriptor: int) -> Iterator[None]:
    """Within, the file of this path is the one of the descriptor, which is closed at the end."""
    _handed[path] = descriptor
    try:
        yield
    finally:
        del _handed[path]
        os.close(descriptor)


def is_handed(path: Path) -> bool:
    """Whether it was opened by another."""
    return path in _handed


def open_file(path: Path) -> BinaryIO:
    """For reading, from its beginning."""
    if path in _handed:
        return cast("BinaryIO", io.BufferedReader(_Handed(path, _handed[path]), 1 << 16))
    return path.open("rb")


def read_status(path: Path) -> os.stat_result:
    """Its size and kind."""
    return os.fstat(_handed[path]) if path in _handed else path.stat()


def is_readable(path: Path) -> bool:
    """Whether its content may be read."""
    return path in _handed or os.access(path, os.R_OK)


class _Handed(io.RawIOBase):
    """A descriptor's file, with a place of its own: several may read the same at once."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.name = str(path)
        self._descriptor, self._at = descriptor, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        place = offset + (os.fstat(self._descriptor).st_size if base is None else base)
        if place < 0:
            raise ValueError(f"a place of {place}")
        self._at = place
        return place

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        read = os.pread(self._descriptor, len(buffer), self._at)
        buffer[: len(read)] = read
        self._at += len(read)
        return len(read)
