"""Frames -> key frames: differences between neighbours, smoothed, their local maxima.

Where a clip changes gradually there are few maxima: the rest of the budget goes to the largest
gaps of the time line. One pass; what is held does not grow with the clip's length.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from detector.records import Curve, Frame, KeyFrame

MAXIMA_SHARE = 0.75  # of the budget; the rest keeps an eye on the quiet parts
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
    """The frames to look at, each with its difference to the one before, and the whole curve."""

    frames: list[tuple[Frame, float]]
    curve: Curve

    def key_frames(self) -> Iterator[KeyFrame]:
        """The key frames, their images made one at a time."""
        for frame, difference in self.frames:
            yield KeyFrame(frame.index, frame.time, difference, frame.image)


def select_key_frames(frames: Iterable[Frame], *, count: int = 32) -> list[KeyFrame]:
    """At most `count` key frames, in order, none twice."""
    return list(choose_frames(frames, count=count).key_frames())


def choose_frames(frames: Iterable[Frame], *, count: int = 32, evenly: bool = False) -> Choice:
    """The same, with images not made yet, and with the curve of differences.

    With `evenly`, for comparison, the frames are evenly spread and differences do not matter.
    """
    maxima: list[_Candidate] = []
    spread: list[_Candidate] = []
    stride, times, differences = 1, [], []
    window: deque[tuple[int, Frame, float]] = deque(maxlen=2 * REACH + 1)
    before: np.ndarray | None = None
    capacity = 2 * count

    def keep_maximum() -> None:
        found = _local_maximum(window)
        if found is None or (maxima and found.number <= maxima_last[0]):
            return
        maxima_last[0] = found.number
        heapq.heappush(maxima, found)
        if len(maxima) > count:
            heapq.heappop(maxima)

    maxima_last = [-1]
    for number, frame in enumerate(frames):
        if number == 0:
            pixels = frame.image.nbytes // 2  # held as yuv: half of RGB
            capacity = int(np.clip(HELD_BYTES // (3 * pixels), 8, 2 * count))
            count = min(count, capacity)
        difference = measure_difference(before, frame.luma)
        before = frame.luma
        times.append(frame.time)
        differences.append(difference)
        window.append((number, frame, difference))
        if len(window) == window.maxlen:
            keep_maximum()
        if number % stride == 0:
            spread.append(_Candidate(difference, number, frame, difference))
            if len(spread) > capacity:
                stride *= 2
                spread = [c for c in spread if c.number % stride == 0]
    for _ in range(min(REACH, len(window) - 1)):  # maxima close to the end
        window.popleft()
        keep_maximum()
    salient = [] if evenly else _salient(maxima, differences, count)
    chosen = _fill(salient, spread, count, len(times))
    return Choice([(c.frame, c.difference) for c in chosen], _make_curve(times, differences))


def measure_difference(before: np.ndarray | None, luma: np.ndarray) -> float:
    """Mean absolute difference of two brightness images, 0 to 255; 0 for the first."""
    if before is None:
        return 0.0
    if before.shape != luma.shape:
        return 255.0
    return float(cv2.norm(before, luma, cv2.NORM_L1)) / luma.size


def _local_maximum(window: Iterable[tuple[int, Frame, float]]) -> _Candidate | None:
    """The strongest raw difference near a maximum of the smoothed curve in the window's middle."""
    held = list(window)
    values = np.array([difference for _, _, difference in held])
    smooth = np.convolve(values, _KERNEL, "same")
    middle = min(REACH, len(held) - 1)
    if smooth[middle] < smooth.max() - 1e-12 and values[middle] < values.max():
        return None
    number, frame, difference = held[int(np.argmax(values))]
    if difference <= 0:
        return None
    return _Candidate(float(smooth[middle]), number, frame, difference)


def _salient(maxima: list[_Candidate], differences: list[float], count: int) -> list[_Candidate]:
    """The maxima that stand out, strongest first, no more than their share of the budget."""
    usual = float(np.median(differences)) if differences else 0.0
    strong = [c for c in maxima if c.difference > SALIENT * usual]
    strong.sort(key=lambda c: (-c.difference, c.number))
    return strong[: max(1, int(count * MAXIMA_SHARE))]


def _fill(
    chosen: list[_Candidate], spread: list[_Candidate], count: int, total: int
) -> list[_Candidate]:
    """The chosen, and of the evenly spread ones those in the largest gaps."""
    taken = {c.number for c in chosen}
    rest = [c for c in spread if c.number not in taken]
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
    """The curve at no more points than a chart needs; of each stretch its peak is kept."""
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
