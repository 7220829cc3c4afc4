"""Reliability of a map, tested on the face that it explains.

Deletion: blur the pixels that a map marks; the probability should fall fast (small area under the
curve). Insertion: show only those pixels; it should rise fast (large area). Both are compared with
random smooth maps and with a map of the centre. Agreement is the mean rank correlation with the
other methods' maps. Stability is the mean rank correlation with the maps of the same face after
mirroring, and after a small shift and re-encoding.

Blurring cannot test maps of the sign *pasted*: a blurred face looks pasted in itself, so that even
the true mask of a paste fails (benchmarks/explanations.py). Such a map is unreliable if it is not
stable; whether a stable one is right stays open, and `reliable` is None.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch

from detector.records import Image

STEPS = 8  # steps of the deletion and insertion curves
RANDOM_MAPS = 4
BLUR = 0.08  # blur that replaces deleted pixels: standard deviation as a share of the side
SHIFT = 1 / 30  # of the side
QUALITY = 60  # of the JPEG that a face is re-encoded as
SIDE = 32  # size at which maps are compared; finer detail is interpolated anyway
LEAST_GAIN = 0.01  # area by which a map must beat random maps
LEAST_STABILITY = 0.5  # of a map that blurring cannot test

ScorePictures = Callable[[torch.Tensor], np.ndarray]
"""Pictures, (n, 3, side, side) -> probabilities of manipulation."""


def mirror(image: np.ndarray) -> np.ndarray:
    """A picture or a map, mirrored."""
    return np.ascontiguousarray(image[:, ::-1])


def shift(image: np.ndarray, share: float) -> np.ndarray:
    """A picture or a map, shifted right and up by a share of its side; its edge is repeated."""
    by = share * image.shape[0]
    matrix = np.array([[1, 0, by], [0, 1, -by]], np.float32)
    size = image.shape[1], image.shape[0]
    return cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE)


def shift_and_recode(crop: Image) -> Image:
    """A crop, shifted and compressed as JPEG."""
    coded = cv2.imencode(".jpg", shift(crop, SHIFT), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))


DISTURBANCES: tuple[tuple[Callable[[Image], Image], Callable[[np.ndarray], np.ndarray]], ...] = (
    (mirror, mirror),
    (shift_and_recode, lambda values: shift(values, -SHIFT)),
)
"""Each: alters a face, and moves a map of the altered face back to the face's position."""


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two maps at coarse size; 0 if one is constant.

    Equal values share the mean of their ranks: most of a map is zero.
    """
    from scipy.stats import rankdata  # here, because loading it takes a second

    ranks = []
    for values in (first, second):
        small = cv2.resize(values.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        if float(small.std()) <= 1e-12:
            return 0.0
        ranks.append(rankdata(small.ravel()))
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def random_map(side: int, rng: np.random.Generator) -> np.ndarray:
    """A random map, about as coarse as a class activation map."""
    noise = rng.standard_normal((7, 7)).astype(np.float32)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)


def centre_map(side: int) -> np.ndarray:
    """A Gaussian at the centre of the crop, where the face is."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    return np.exp(-(axis[None] ** 2 + axis[:, None] ** 2) / 0.3)


def blur(picture: torch.Tensor) -> torch.Tensor:
    """A picture, blurred beyond recognition."""
    array = picture.permute(1, 2, 0).cpu().numpy()
    soft = cv2.GaussianBlur(array, (0, 0), picture.shape[-1] * BLUR)
    return torch.from_numpy(soft).permute(2, 0, 1).to(picture)


def measure_areas(
    picture: torch.Tensor, baseline: torch.Tensor, maps: list[np.ndarray], score: ScorePictures
) -> np.ndarray:
    """(area under the deletion curve, area under the insertion curve) of each map, (n, 2).

    Args:
        picture: (3, side, side) in 0..1.
        baseline: the picture whose pixels replace deleted ones: blurred, for example.
        maps: (side, side) each.
        score: pictures -> probabilities.
    """
    side = picture.shape[-1]
    shares = np.arange(1, STEPS) / STEPS
    altered = []
    for values in maps:
        # Ties are broken in a fixed random order instead of row by row.
        jitter = np.random.default_rng(0).random(values.shape)
        order = np.lexsort((jitter.ravel(), -values.ravel()))
        rank = np.empty(side * side, np.float32)
        rank[order] = np.arange(side * side, dtype=np.float32) / (side * side)
        for share in shares:
            deleted = torch.from_numpy((rank < share).reshape(side, side)).to(picture)
            altered += [picture * (1 - deleted) + baseline * deleted]
            altered += [baseline * (1 - deleted) + picture * deleted]
    whole, empty = score(torch.stack([picture, baseline]))
    scores = score(torch.stack(altered)).reshape(len(maps), len(shares), 2)
    areas = []
    for table in scores:
        deletion = np.concatenate([[whole], table[:, 0], [empty]])
        insertion = np.concatenate([[empty], table[:, 1], [whole]])
        areas.append([np.trapezoid(c, dx=1 / STEPS) for c in (deletion, insertion)])
    return np.array(areas)


def beats_random(areas: Sequence[float] | np.ndarray, random: Sequence[float] | np.ndarray) -> bool:
    """Whether areas of a map, as `measure_areas` gives them, are better than random maps'."""
    return bool(random[0] - areas[0] > LEAST_GAIN and areas[1] - random[1] > LEAST_GAIN)


def is_reliable(figures: Mapping[str, Any], *, pasted: bool) -> bool | None:
    """What the trust figures of a map amount to, if it is not empty; None if they cannot tell."""
    if pasted:
        return None if figures["stability"] >= LEAST_STABILITY else False
    return beats_random(
        (figures["deletion"], figures["insertion"]),
        (figures["deletion_random"], figures["insertion_random"]),
    )


def judge_maps(
    picture: torch.Tensor,
    maps: Mapping[str, np.ndarray],
    disturbed: Sequence[Mapping[str, np.ndarray]],
    score: ScorePictures,
    *,
    pasted: bool = False,
    seed: int = 0,
) -> dict[str, dict[str, float | bool | None]]:
    """The trust figures of every method's map of one picture.

    Args:
        picture: (3, side, side) in 0..1.
        maps: (side, side) by method.
        disturbed: for each of DISTURBANCES, the maps of the altered picture by method, moved back.
        score: pictures -> probabilities.
        pasted: the maps are of that sign, which blurring cannot test.
        seed: of the random maps.
    """
    rng = np.random.default_rng(seed)
    side = picture.shape[-1]
    random_maps = [random_map(side, rng) for _ in range(RANDOM_MAPS)]
    compared = [*maps.values(), *random_maps, centre_map(side)]
    areas = measure_areas(picture, blur(picture), compared, score)
    random = areas[len(maps) : -1].mean(0)
    figures: dict[str, dict[str, float | bool | None]] = {}
    for number, (name, values) in enumerate(maps.items()):
        others = [rank_correlation(values, m) for n, m in maps.items() if n != name]
        stability = float(np.mean([rank_correlation(values, made[name]) for made in disturbed]))
        deletion, insertion = areas[number]
        told: dict[str, float | bool | None] = {
            "deletion": float(deletion),
            "deletion_random": float(random[0]),
            "deletion_centre": float(areas[-1][0]),
            "insertion": float(insertion),
            "insertion_random": float(random[1]),
            "insertion_centre": float(areas[-1][1]),
            "agreement": float(np.mean(others)) if others else float("nan"),
            "stability": stability,
        }
        told["reliable"] = bool(values.max() > 0) and is_reliable(told, pasted=pasted)
        figures[name] = told
    return figures


def describe_trust(figures: Mapping[str, float | bool | None], sign: str) -> str:
    """The trust figures as sentences."""
    agreement, stability = float(figures["agreement"] or 0), float(figures["stability"] or 0)
    if figures["reliable"]:
        start = (
            "Checked: blurring the marked places weakens the evidence more than blurring random "
            "ones, and showing only them brings it back sooner."
        )
    elif figures["reliable"] is None:
        start = (
            "Not tested: the test is to blur the marked places, but a blurred face looks pasted in "
            "itself."
        )
    elif sign == "pasted":
        start = (
            "Not reliable here: another map comes out when the face is mirrored, shifted or "
            "re-encoded. Do not draw conclusions from this map."
        )
    else:
        start = (
            "Not reliable here: the marked places matter to the network no more than random ones. "
            "Do not draw conclusions from this map."
        )
    close = "agree" if agreement > 0.6 else "agree in part" if agreement > 0.3 else "disagree"
    steady = "hardly changes" if stability > 0.8 else "changes"
    return (
        f"{start} The other methods {close}; the map {steady} when the face is mirrored, or "
        "shifted and re-encoded."
    )
