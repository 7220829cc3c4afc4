"""The memory that a process and its children hold, as Linux tells it."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

SAMPLED_SECONDS = 0.05  # between two measurements


def memory_of(process: int | str = "self", field: str = "Rss") -> float:
    """MiB of a process and of its children that still run.

    Args:
        process: its id.
        field: of /proc/ID/smaps_rollup: Rss counts all its pages, Pss those that it shares with
            others by its share of them. Of children, Pss is counted.
    """
    text = (Path("/proc") / str(process) / "smaps_rollup").read_text(encoding="utf-8")
    total = int(text.partition(f"{field}:")[2].split()[0]) / 1024
    for child in children_of(process):
        with contextlib.suppress(OSError):  # it has ended
            total += memory_of(child, "Pss")
    return total


def children_of(process: int | str) -> Iterator[str]:
    """The ids of a process's children."""
    for task in (Path("/proc") / str(process) / "task").iterdir():
        yield from (task / "children").read_text(encoding="utf-8").split()


class MostHeld:
    """Samples `memory_of` this process while it is entered; `mebibytes` is the most."""

    def __enter__(self) -> "MostHeld":
        self.mebibytes = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLED_SECONDS):
            with contextlib.suppress(OSError):  # a child has ended
                self.mebibytes = max(self.mebibytes, memory_of())
