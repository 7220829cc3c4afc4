"""Work that reports as it goes, on a thread of its own, so that it can be left within a moment."""

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from detector.errors import UserError
from detector.settings import Progress

TICK = 0.25  # seconds between two looks at how far the work is
SHARES = {"key frames": 0.2, "faces": 0.5, "scores": 0.3}
"""How a scan's time is usually spent, for guessing what is left."""

Part = TypeVar("Part")


@dataclass(frozen=True)
class Moment:
    """How far the work is."""

    stage: str
    fraction: float
    """Of all stages together."""
    left: float | None
    """Seconds, once they can be guessed."""


def follow(
    work: Callable[[Progress], Iterator[Part]], stopped: Callable[[], bool]
) -> Iterator[Part | Moment]:
    """The parts that the work yields, and between them how far it is.

    Once stopped, this raises UserError("cancelled") at its next tick, whatever the work is at; the
    work itself ends at its next call of `progress`.
    """
    parts: queue.Queue[Part | BaseException | None] = queue.Queue()
    at: tuple[str, float] = "key frames", 0.0
    began = time.monotonic()

    def progress(stage: str, fraction: float) -> None:
        nonlocal at
        if stopped():
            raise UserError("cancelled", "The check was cancelled.")
        at = stage, min(1.0, fraction)

    def run() -> None:
        try:
            for part in work(progress):
                parts.put(part)
            parts.put(None)
        except BaseException as error:  # noqa: BLE001  raised anew by the one who waits
            parts.put(error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), daemon=True).start()
    while True:
        if stopped():
            raise UserError("cancelled", "The check was cancelled.")
        try:
            part = parts.get(timeout=TICK)
        except queue.Empty:
            yield _moment(*at, time.monotonic() - began)
            continue
        if part is None:
            return
        if isinstance(part, BaseException):
            raise part
        yield part


def _moment(stage: str, fraction: float, spent: float) -> Moment:
    names = list(SHARES)
    before = sum(SHARES[name] for name in names[: names.index(stage)]) if stage in names else 0.0
    whole = before + SHARES.get(stage, 0.0) * fraction
    left = spent * (1 - whole) / whole if spent > 1 and whole > 0.05 else None
    return Moment(stage, whole, left)
