"""Comparison of two clips: their alignment in time, and the differences between their faces."""

from dataclasses import dataclass

import cv2
import numpy as np

from detector.charts import colour_heatmap
from detector.faces import align
from detector.heatmaps.regions import landmarks_in_crop
from detector.records import Curve, Face, Image, Scan
from detector.texts import find_decider

RATE = 25  # samples a second of the curves that are correlated
LEAST_OVERLAP = 1.0  # seconds, and of the shorter clip this share
LEAST_SHARE = 0.5
WELL = 0.6  # least correlation of clips of the same scene
STILL = 1e-9  # product of both deviations below which a picture does not change
CLOSE = 0.12  # largest distance in time of two faces of the same moment, seconds
SIDE = 240  # side of the compared faces, pixels
FULL_DIFFERENCE = 80.0  # difference, of 255, that is drawn brightest


@dataclass(frozen=True)
class Alignment:
    """The time offset between two clips."""

    offset: float
    """Seconds to add to the first clip's time."""
    agreement: float
    """Correlation of both curves of differences there, -1 to 1."""


@dataclass(frozen=True)
class Pair:
    """Faces of the same moment in both clips, aligned."""

    first: Face
    second: Face
    pictures: tuple[Image, Image, Image]
    """The first face, the second, and where they differ."""


def align_clips(first: Curve, second: Curve) -> Alignment:
    """Find the offset at which the two difference curves correlate best.

    The clips may differ in resolution.
    """
    one, other = _sample(first), _sample(second)
    least = max(LEAST_OVERLAP * RATE, LEAST_SHARE * min(len(one), len(other)))
    best = Alignment(0.0, 0.0)
    for lag in range(-len(one) + 1, len(other)):
        begin, end = max(0, -lag), min(len(one), len(other) - lag)
        if end - begin < least:
            continue
        a, b = one[begin:end], other[begin + lag : end + lag]
        deviations = float(a.std() * b.std())
        moves = deviations > STILL
        agreement = float(((a - a.mean()) * (b - b.mean())).mean()) / deviations if moves else 0.0
        if agreement > best.agreement:
            best = Alignment(lag / RATE, agreement)
    return best


def _sample(curve: Curve) -> np.ndarray:
    """Resample a curve of differences at RATE; large peaks are compressed."""
    if len(curve.times) < 2:
        return np.zeros(1)
    times = np.arange(curve.times[0], curve.times[-1], 1 / RATE)
    return np.log1p(np.interp(times, curve.times, curve.differences))


def pair_faces(first: Scan, second: Scan, offset: float, count: int = 3) -> list[Pair]:
    """Pair the deciding person's faces with the other clip's at the same moment, the closest first.

    If there are several faces, the one at the most similar position in the picture is taken.
    """
    decider = find_decider(first)
    if decider is None:
        return []
    found = []
    for score in decider.scores:
        beside = _same_moment(second, score.face.time + offset)
        if beside:
            place = _place(score.face, first)
            other = min(beside, key=lambda f: float(np.abs(_place(f, second) - place).sum()))
            apart = abs(other.time - offset - score.face.time)
            found.append((apart, -score.probability, score.face, other))
    found.sort(key=lambda item: item[:2])
    return [Pair(a, b, _compare(a, b)) for _, _, a, b in found[:count]]


def _same_moment(scan: Scan, time: float) -> list[Face]:
    faces = [f for p in scan.people for f in p.person.faces if abs(f.time - time) <= CLOSE]
    if not faces:
        return []
    nearest = min(faces, key=lambda f: abs(f.time - time)).frame_index
    return [f for f in faces if f.frame_index == nearest]


def _place(face: Face, scan: Scan) -> np.ndarray:
    """The centre of a face, as shares of the picture's width and height."""
    left, top, right, bottom = face.box
    size = np.array([scan.video.width, scan.video.height])
    return np.array([left + right, top + bottom]) / (2 * size)


def _compare(first: Face, second: Face) -> tuple[Image, Image, Image]:
    upright = [align(f.crop, landmarks_in_crop(f, f.crop.shape[0]), SIDE) for f in (first, second)]
    soft = [cv2.GaussianBlur(u.astype(np.float32), (0, 0), SIDE / 80) for u in upright]
    # Match brightness and contrast first: another exposure is not another face.
    scaled = (soft[1] - soft[1].mean()) * (soft[0].std() / max(1e-6, float(soft[1].std())))
    difference = np.abs(soft[0] - (scaled + soft[0].mean())).mean(axis=2)
    return upright[0], upright[1], colour_heatmap(difference, FULL_DIFFERENCE)
