"""Frames -> key frames: the local maxima of the smoothed difference between neighbouring frames.

A clip that changes gradually has few maxima; the rest of the budget goes to the largest gaps in
time. One pass, and memory does not grow with the clip's length.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from detector.records import Curve, Frame, KeyFrame

MAXIMA_SHARE = 0.75  # share of the budget for maxima; the rest covers the quiet parts
REACH = 3  # frames on either side that the smoothing looks at
SALIENT = 1.25  # times the median difference that a maximum must exceed
HELD_BYTES = 600 * 2**20  # of decoded frames kept at once
CURVE_POINTS = 2000

_KERNEL = np.hanning(2 * REACH + 3)[1:-1] / np.hanning(2 * REACH + 3).sum()


@dataclass(order=True)
class _Candidate:
    strength: float
    number: int
    frame: Frame = field(compare=False)
    difference: float = field(compare=False)


@dataclass(frozen=True)
class Choice:
    """The chosen frames, each with its difference to the frame before, and the whole curve."""

    frames: list[tuple[Frame, float]]
    curve: Curve

    def key_frames(self, side: int | None = None) -> Iterator[KeyFrame]:
        """The key frames; images are made one at a time, at most `side` pixels long."""
        for frame, difference in self.frames:
            yield KeyFrame(frame.index, frame.time, difference, frame.shrink(side))


def choose_frames(
    frames: Iterable[Frame],
    *,
    count: int = 32,
    evenly: bool = False,
    again: Callable[[], Iterable[Frame]] | None = None,
) -> Choice:
    """Choose at most `count` key frames, in order.

    Args:
        frames: the frames of a clip.
        count: the largest number of key frames.
        evenly: choose evenly spaced frames and ignore differences, for comparison.
        again: reads the clip a second time. With it, frames that are too large to be held in
            memory are released in the first pass and read again when chosen.
    """
    maxima: list[_Candidate] = []
    spaced: list[_Candidate] = []
    stride, times, differences = 1, [], []
    window = _Window()
    before: np.ndarray | None = None
    capacity, held = 2 * count, True

    def keep(found: _Candidate | None) -> None:
        if found is None or any(c.number == found.number for c in maxima):
            return
        heapq.heappush(maxima, found)
        if len(maxima) > count:
            heapq.heappop(maxima)

    for number, frame in enumerate(frames):
        if number == 0:
            pixels = frame.image.nbytes // 2  # held as yuv: half of RGB
            count = min(count, max(8, HELD_BYTES // pixels))
            held = again is None or can_be_held(pixels, count)
            if held:
                capacity = int(np.clip(HELD_BYTES // (3 * pixels), 8, 2 * count))
                count = min(count, capacity)
        difference = measure_difference(before, frame.luma)
        before = frame.luma
        times.append(frame.time)
        differences.append(difference)
        if not held:
            frame = replace(frame, load=None)
        keep(window.add(number, frame, difference))
        if number % stride == 0:
            spaced.append(_Candidate(difference, number, frame, difference))
            if len(spaced) > capacity:
                stride *= 2
                spaced = [c for c in spaced if c.number % stride == 0]
    for found in window.finish():
        keep(found)
    salient = [] if evenly else _salient(maxima, differences, count)
    chosen = _fill(salient, spaced, count, len(times))
    looked_at = [(c.frame, c.difference) for c in chosen]
    if not held and again is not None:
        differs = {c.frame.index: c.difference for c in chosen}
        looked_at = [(f, differs[f.index]) for f in again() if f.index in differs]
    return Choice(looked_at, _make_curve(times, differences))


def can_be_held(pixels: int, count: int) -> bool:
    """Whether frames of so many bytes can all be kept until it is known which are chosen."""
    return 3 * count * pixels <= HELD_BYTES


def measure_difference(before: np.ndarray | None, luma: np.ndarray) -> float:
    """Mean absolute difference of two brightness images, 0 to 255; 0 for the first."""
    if before is None:
        return 0.0
    if before.shape != luma.shape:
        return 255.0
    return float(cv2.norm(before, luma, cv2.NORM_L1)) / luma.size


class _Window:
    """A sliding window that finds the maxima of the smoothed differences."""

    def __init__(self) -> None:
        self._size = 2 * (REACH + 1) + 1
        self._held: deque[tuple[int, Frame | None, float]] = deque(
            [(-1, None, 0.0)] * self._size, self._size
        )

    def add(self, number: int, frame: Frame | None, difference: float) -> _Candidate | None:
        """The frame of largest difference near a maximum in the middle of the window, or None."""
        self._held.append((number, frame, difference))
        values = np.array([value for _, _, value in self._held])
        left, middle, right = np.convolve(values, _KERNEL, "valid")
        if not left < middle >= right:
            return None
        near = list(self._held)[1:-1]
        number, strongest, difference = near[int(np.argmax(values[1:-1]))]
        if strongest is None or difference <= 0:
            return None
        return _Candidate(float(middle), number, strongest, difference)

    def finish(self) -> Iterator[_Candidate | None]:
        """The maxima close to the end."""
        for _ in range(REACH + 1):
            yield self.add(-1, None, 0.0)


def _salient(maxima: list[_Candidate], differences: list[float], count: int) -> list[_Candidate]:
    """The maxima that stand out, largest first, at most their share of the budget."""
    usual = float(np.median(differences)) if differences else 0.0
    strong = [c for c in maxima if c.difference > SALIENT * usual]
    strong.sort(key=lambda c: (-c.difference, c.number))
    return strong[: max(1, int(count * MAXIMA_SHARE))]


def _fill(
    chosen: list[_Candidate], spaced: list[_Candidate], count: int, total: int
) -> list[_Candidate]:
    """Fill the budget with evenly spaced frames, each in the largest remaining gap."""
    taken = {c.number for c in chosen}
    rest = [c for c in spaced if c.number not in taken]
    if not chosen and rest:
        middle = min(rest, key=lambda c: abs(c.number - total // 2))
        chosen = [middle]
        rest.remove(middle)
    numbers = np.array([c.number for c in chosen], float)
    distances = [float(np.abs(numbers - c.number).min()) for c in rest]
    while len(chosen) < count and rest:
        best = int(np.argmax(distances))
        picked = rest.pop(best)
        distances.pop(best)
        chosen.append(picked)
        distances = [
            min(d, abs(c.number - picked.number)) for d, c in zip(distances, rest, strict=True)
        ]
    return sorted(chosen, key=lambda c: c.number)


def _make_curve(times: list[float], differences: list[float]) -> Curve:
    """The curve reduced to CURVE_POINTS; each point is the peak of its stretch."""
    step = max(1, -(-len(times) // CURVE_POINTS))
    peaks = (
        [
            max(part, key=lambda point: point[1])
            for part in (
                list(itertools.islice(zip(times, differences, strict=True), at, at + step))
                for at in range(0, len(times), step)
            )
        ]
        if step > 1
        else list(zip(times, differences, strict=True))
    )
    array = np.array(peaks, np.float64).reshape(-1, 2)
    return Curve(array[:, 0], array[:, 1])
