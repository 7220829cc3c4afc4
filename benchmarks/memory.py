"""The memory that a process and its children hold, as Linux tells it."""

import contextlib
from pathlib import Path


def memory_of(process: int | str = "self", field: str = "VmRSS") -> float:
    """MiB of a process and of its children that still run.

    Args:
        process: its id.
        field: of /proc/ID/status: VmRSS for what is held now, VmHWM for the most that was held.
    """
    folder = Path("/proc") / str(process)
    text = (folder / "status").read_text(encoding="utf-8")
    total = int(text.partition(f"{field}:")[2].split()[0]) / 1024
    for task in (folder / "task").iterdir():
        for child in (task / "children").read_text(encoding="utf-8").split():
            with contextlib.suppress(OSError):  # it has ended
                total += memory_of(child, field)
    return total
