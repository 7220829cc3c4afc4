"""Run work in a thread and report its progress, so that it can be cancelled at any time."""

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from detector.errors import UserError
from detector.settings import Progress

TICK = 0.25  # seconds between progress reports
SHARES = {"key frames": 0.2, "faces": 0.5, "scores": 0.3}
"""Typical share of each stage in a scan's time, for estimating the remaining time."""

Part = TypeVar("Part")


@dataclass(frozen=True)
class Moment:
    """The progress at one moment."""

    stage: str
    fraction: float
    """Share of the whole work that is done."""
    left: float | None
    """Estimated remaining seconds; None while there is no estimate."""


def follow(
    work: Callable[[Progress], Iterator[Part]], stopped: Callable[[], bool]
) -> Iterator[Part | Moment]:
    """Yield what the work yields, and its progress in between.

    Args:
        work: a generator function; it must call the `progress` it is given.
        stopped: whether the user has cancelled.

    Raises:
        UserError: `cancelled`, at most TICK after `stopped` is true. The thread itself ends at its
            next call of `progress`.
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
        except BaseException as error:  # noqa: BLE001  raised again in `follow`
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
