"""Open a file by its path, or read it through a descriptor that another process has passed.

A sandboxed decoder cannot open files (see sandbox.py). The process that asks it opens the clip and
passes the descriptor; the path is then only a name.
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
    """Within this context `path` stands for the descriptor's file; it is closed at the end."""
    _handed[path] = descriptor
    try:
        yield
    finally:
        del _handed[path]
        os.close(descriptor)


def is_handed(path: Path) -> bool:
    """Whether the file is read through a descriptor that was passed."""
    return path in _handed


def open_file(path: Path) -> BinaryIO:
    """Open the file for reading, from its beginning."""
    if path in _handed:
        return cast("BinaryIO", io.BufferedReader(_Handed(path, _handed[path]), 1 << 16))
    return path.open("rb")


def read_status(path: Path) -> os.stat_result:
    """Return the file's status, as `Path.stat` does."""
    return os.fstat(_handed[path]) if path in _handed else path.stat()


def is_readable(path: Path) -> bool:
    """Whether this process may read the file."""
    return path in _handed or os.access(path, os.R_OK)


class _Handed(io.RawIOBase):
    """A reader of a descriptor with a position of its own, so that several can read at once."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.name = str(path)
        self._descriptor, self._position = descriptor, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        position = offset + (os.fstat(self._descriptor).st_size if base is None else base)
        if position < 0:
            raise ValueError(f"negative position {position}")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        read = os.pread(self._descriptor, len(buffer), self._position)
        buffer[: len(read)] = read
        self._position += len(read)
        return len(read)
