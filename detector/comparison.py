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
MIN_OVERLAP_SECONDS = 1.0  # the clips must overlap by this, and by this fraction of the shorter one
MIN_OVERLAP_FRACTION = 0.5
GOOD_AGREEMENT = 0.6  # of both curves, and
GOOD_RESEMBLANCE = 0.8  # of the pictures: from here both clips are taken to show the same scene
THUMBNAIL = 32  # side of the pictures whose resemblance is measured, pixels
LEAST_VARIANCE = 1e-9  # product of both standard deviations below which a picture does not change
MAX_TIME_DIFFERENCE = 0.12  # seconds between two faces of the same moment
FACE_SIDE = 240  # side of the compared faces, pixels
FULL_DIFFERENCE = 80.0  # difference, of 255, that is drawn brightest


@dataclass(frozen=True)
class Alignment:
    """The time offset between two clips."""

    offset: float
    """Seconds to add to the first clip's time."""
    agreement: float
    """Correlation of both difference curves at this offset; 0 if none correlates."""


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
    one, other = _resample(first), _resample(second)
    min_overlap = max(MIN_OVERLAP_SECONDS * RATE, MIN_OVERLAP_FRACTION * min(len(one), len(other)))
    best = Alignment(0.0, 0.0)
    for lag in range(-len(one) + 1, len(other)):
        start, end = max(0, -lag), min(len(one), len(other) - lag)
        if end - start < min_overlap:
            continue
        a, b = one[start:end], other[start + lag : end + lag]
        if a.std() * b.std() > LEAST_VARIANCE:
            agreement = float(np.corrcoef(a, b)[0, 1])
            if agreement > best.agreement:
                best = Alignment(lag / RATE, agreement)
    return best


def show_same_scene(first: Scan, second: Scan, aligned: Alignment) -> bool:
    """Whether both clips show the same scene: their curves agree, and their pictures are alike.

    The curves alone do not tell: those of unrelated clips agree by up to 0.8 at the best of all
    offsets.
    """
    return (
        aligned.agreement >= GOOD_AGREEMENT
        and measure_resemblance(first, second, aligned.offset) >= GOOD_RESEMBLANCE
    )


def measure_resemblance(first: Scan, second: Scan, offset: float) -> float:
    """Return the median correlation of the brightness of key frames of the same moment.

    It is 0 if there are none.
    """
    found = []
    for key_frame in first.key_frames:
        time = key_frame.time + offset
        other = min(second.key_frames, key=lambda k: abs(k.time - time))
        one, two = _thumbnail(key_frame.image), _thumbnail(other.image)
        if abs(other.time - time) <= MAX_TIME_DIFFERENCE and one.std() * two.std() > LEAST_VARIANCE:
            found.append(float(np.corrcoef(one, two)[0, 1]))
    return float(np.median(found)) if found else 0.0


def _thumbnail(image: Image) -> np.ndarray:
    """The brightness of a picture at THUMBNAIL pixels, as one row."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return small.astype(np.float64).ravel()


def _resample(curve: Curve) -> np.ndarray:
    """A difference curve at RATE, as log(1 + difference), so that cuts do not outweigh the rest."""
    if len(curve.times) < 2:
        return np.zeros(1)
    times = np.arange(curve.times[0], curve.times[-1], 1 / RATE)
    return np.log1p(np.interp(times, curve.times, curve.differences))


def pair_faces(first: Scan, second: Scan, offset: float, count: int = 3) -> list[Pair]:
    """Pair faces of the first clip's deciding person with faces of the second at the same moment.

    If the second clip shows several faces then, the one at the most similar position is taken.

    Args:
        first: the scan whose deciding person is compared.
        second: the other scan.
        offset: seconds to add to the first clip's time, as `align_clips` finds it.
        count: the largest number of pairs.

    Returns:
        The pairs that are closest in time, in the order of time; none if the first clip has no
        deciding person.
    """
    decider = find_decider(first)
    if decider is None:
        return []
    found = []
    for score in decider.scores:
        candidates = _faces_at(second, score.face.time + offset)
        if candidates:
            centre = _relative_centre(score.face, first)
            other = min(
                candidates,
                key=lambda face: float(np.abs(_relative_centre(face, second) - centre).sum()),
            )
            seconds = abs(other.time - offset - score.face.time)
            found.append((seconds, -score.probability, score.face, other))
    found.sort(key=lambda item: item[:2])
    chosen = sorted(found[:count], key=lambda item: item[2].time)
    return [Pair(a, b, _compare(a, b)) for _, _, a, b in chosen]


def _faces_at(scan: Scan, time: float) -> list[Face]:
    """The faces of the frame nearest to a time, if it is at most MAX_TIME_DIFFERENCE away."""
    faces = [
        face
        for person in scan.people
        for face in person.person.faces
        if abs(face.time - time) <= MAX_TIME_DIFFERENCE
    ]
    if not faces:
        return []
    nearest = min(faces, key=lambda face: abs(face.time - time)).frame_index
    return [face for face in faces if face.frame_index == nearest]


def _relative_centre(face: Face, scan: Scan) -> np.ndarray:
    """The centre of a face, as fractions of the picture's width and height."""
    left, top, right, bottom = face.box
    size = np.array([scan.video.width, scan.video.height])
    return np.array([left + right, top + bottom]) / (2 * size)


def _compare(first: Face, second: Face) -> tuple[Image, Image, Image]:
    """Both faces upright, and a heatmap of their difference at equal brightness and contrast."""
    upright = [
        align(face.crop, landmarks_in_crop(face, face.crop.shape[0]), FACE_SIDE)
        for face in (first, second)
    ]
    one, other = (cv2.GaussianBlur(u.astype(np.float32), (0, 0), FACE_SIDE / 80) for u in upright)
    # Match brightness and contrast first: another exposure is not another face.
    matched = (other - other.mean()) * (one.std() / max(1e-6, float(other.std()))) + one.mean()
    difference = np.abs(one - matched).mean(axis=2)
    return upright[0], upright[1], colour_heatmap(difference, FULL_DIFFERENCE)
