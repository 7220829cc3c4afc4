from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import drift, read_frames, texture, write_clip
from scipy.signal import find_peaks

from detector import keyframes
from detector.keyframes import choose_frames, measure_difference
from detector.records import Frame


def shots(lengths: list[int]) -> tuple[list[np.ndarray], list[int]]:
    """Shots of slow camera movement, and the first frame of each but the first."""
    frames: list[np.ndarray] = []
    cuts = []
    for number, length in enumerate(lengths):
        if number:
            cuts.append(len(frames))
        frames += drift(texture(number, 240, 180), length, 160, 120, speed=0.5)
    return frames, cuts


@pytest.mark.parametrize("lengths", [[30, 25, 40, 20], [12, 9, 50, 14, 8, 30], [100, 100]])
def test_every_cut_is_found(tmp_path: Path, lengths: list[int]) -> None:
    frames, cuts = shots(lengths)
    path = write_clip(tmp_path / "cuts.mp4", frames)
    chosen = [k.index for k in list(choose_frames(read_frames(path), count=16).key_frames())]
    for cut in cuts:
        assert min(abs(index - cut) for index in chosen) <= 1
    assert len(chosen) == len(set(chosen)) == 16
    assert chosen == sorted(chosen)


def test_cross_fade_is_covered_evenly(tmp_path: Path) -> None:
    first, second = texture(1).astype(float), texture(2).astype(float)
    frames = [(first * (1 - a) + second * a).astype(np.uint8) for a in np.linspace(0, 1, 120)]
    chosen = list(
        choose_frames(read_frames(write_clip(tmp_path / "fade.mp4", frames)), count=12).key_frames()
    )
    assert len(chosen) == 12
    assert np.diff([0, *(k.index for k in chosen), 119]).max() <= 40


def test_still_clip_is_covered_evenly(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "still.mp4", [texture(1)] * 90)
    chosen = list(choose_frames(read_frames(path), count=10).key_frames())
    assert len(chosen) == 10
    assert np.diff([0, *(k.index for k in chosen), 89]).max() <= 25


@pytest.mark.parametrize("count", [1, 3, 5])
def test_fewer_frames_than_the_budget(tmp_path: Path, count: int) -> None:
    frames = drift(texture(1, 240, 180), count, 160, 120)
    path = write_clip(tmp_path / "short.mkv", frames, codec="ffv1", pixels="bgr0")
    chosen = list(choose_frames(read_frames(path), count=32).key_frames())
    assert [k.index for k in chosen] == list(range(count))


def test_times_are_exact(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    frames, _ = shots([20, 20])
    path = write_clip(tmp_path / "ntsc.mp4", frames, rate=rate)
    for key_frame in list(choose_frames(read_frames(path), count=8).key_frames()):
        assert key_frame.time == pytest.approx(float(key_frame.index / rate), abs=1e-4)


def test_memory_does_not_grow_with_the_clip() -> None:
    alive: set[int] = set()

    class Load:
        def __init__(self, index: int) -> None:
            self.index = index
            alive.add(index)

        def __call__(self) -> np.ndarray:
            return np.zeros((90, 160, 3), np.uint8)

        def __del__(self) -> None:
            alive.discard(self.index)

    most = 0

    def frames():
        nonlocal most
        rng = np.random.default_rng(0)
        for index in range(3000):
            luma = rng.integers(0, 256, (9, 16), np.uint8)
            yield Frame(index, index / 25, luma, Load(index))
            most = max(most, len(alive))

    choice = choose_frames(frames(), count=16)
    assert len(choice.frames) == 16
    assert most < 16 * 3 + 20
    assert len(choice.curve.times) <= 2000
    assert choice.curve.differences.max() > 50


def test_maxima_are_maxima_of_the_smoothed_curve() -> None:
    curve = np.random.default_rng(3).uniform(1, 2, 500)
    window = keyframes._Window()
    found = [window.add(n, Frame(n, n / 25, curve, None), c) for n, c in enumerate(curve)]
    found += window.finish()
    smooth = np.convolve(curve, keyframes._KERNEL, "same")
    peaks, _ = find_peaks(np.pad(smooth, 1))
    assert [round(f.strength, 9) for f in found if f] == [round(smooth[n - 1], 9) for n in peaks]
    for candidate, peak in zip([f for f in found if f], peaks - 1, strict=True):
        assert abs(candidate.number - peak) <= keyframes.REACH


def test_frames_too_large_to_hold_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def frames():
        rng = np.random.default_rng(0)
        for index in range(300):
            luma = rng.integers(0, 256, (9, 16), np.uint8)
            yield Frame(index, index / 25, luma, lambda: np.zeros((90, 160, 3), np.uint8))

    whole = choose_frames(frames(), count=16)
    monkeypatch.setattr(keyframes, "HELD_BYTES", 90 * 160 * 3 // 2 * 20)
    assert len(choose_frames(frames(), count=16).frames) < 16
    again = choose_frames(frames(), count=16, again=frames)
    assert [(f.index, d) for f, d in again.frames] == [(f.index, d) for f, d in whole.frames]
    assert len(list(again.key_frames())) == 16


def test_difference_by_hand() -> None:
    dark, light = np.full((4, 4), 10, np.uint8), np.full((4, 4), 13, np.uint8)
    assert measure_difference(dark, light) == 3
    assert measure_difference(light, dark) == 3
    assert measure_difference(None, dark) == 0
