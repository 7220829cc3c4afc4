"""Reliability of a map, tested on the face that it explains.

Deletion: blur the places that a map marks; the probability should fall fast (small area under the
curve). Insertion: show only those places; it should rise fast (large area). Both are compared with
random smooth maps and with a map of the centre. Agreement is the mean rank correlation with the
other methods' maps, stability the rank correlation with the map of the same face under faint noise.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch

STEPS = 8  # steps of the deletion and insertion curves
RANDOM_MAPS = 4
BLUR = 0.08  # blur that replaces deleted places: standard deviation as a share of the side
NOISE = 0.02  # standard deviation of the faint noise, of the range 0..1
SIDE = 32  # size at which maps are compared; finer detail is interpolated anyway
LEAST_GAIN = 0.01  # area by which a map must beat random maps

Scorer = Callable[[torch.Tensor], np.ndarray]
"""Pictures, (n, 3, side, side) -> probabilities of manipulation."""


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


def curves(picture: torch.Tensor, maps: list[np.ndarray], score: Scorer) -> np.ndarray:
    """(area under the deletion curve, area under the insertion curve) of each map, (n, 2)."""
    side = picture.shape[-1]
    array = picture.permute(1, 2, 0).cpu().numpy()
    soft = cv2.GaussianBlur(array, (0, 0), side * BLUR)
    blurred = torch.from_numpy(soft).permute(2, 0, 1).to(picture)
    shares = np.arange(1, STEPS) / STEPS
    made = []
    for values in maps:
        # Ties are broken in a fixed random order instead of row by row.
        jitter = np.random.default_rng(0).random(values.shape)
        order = np.lexsort((jitter.ravel(), -values.ravel()))
        rank = np.empty(side * side, np.float32)
        rank[order] = np.arange(side * side, dtype=np.float32) / (side * side)
        for share in shares:
            taken = torch.from_numpy((rank < share).reshape(side, side)).to(picture)
            made += [picture * (1 - taken) + blurred * taken]
            made += [blurred * (1 - taken) + picture * taken]
    whole, empty = score(torch.stack([picture, blurred]))
    scores = score(torch.stack(made)).reshape(len(maps), len(shares), 2)
    areas = []
    for table in scores:
        deletion = np.concatenate([[whole], table[:, 0], [empty]])
        insertion = np.concatenate([[empty], table[:, 1], [whole]])
        areas.append([np.trapezoid(c, dx=1 / STEPS) for c in (deletion, insertion)])
    return np.array(areas)


def judge_maps(
    picture: torch.Tensor,
    maps: dict[str, np.ndarray],
    disturbed: dict[str, np.ndarray],
    score: Scorer,
    *,
    seed: int = 0,
) -> dict[str, dict[str, float | bool]]:
    """The trust figures of every method's map of one picture.

    `disturbed` holds the maps of the same picture under faint noise.
    """
    rng = np.random.default_rng(seed)
    side = picture.shape[-1]
    chance = [random_map(side, rng) for _ in range(RANDOM_MAPS)]
    areas = curves(picture, [*maps.values(), *chance, centre_map(side)], score)
    random = areas[len(maps) : -1].mean(0)
    figures: dict[str, dict[str, float | bool]] = {}
    for number, (name, values) in enumerate(maps.items()):
        others = [rank_correlation(values, m) for n, m in maps.items() if n != name]
        deletion, insertion = areas[number]
        figures[name] = {
            "deletion": float(deletion),
            "deletion_random": float(random[0]),
            "deletion_centre": float(areas[-1][0]),
            "insertion": float(insertion),
            "insertion_random": float(random[1]),
            "insertion_centre": float(areas[-1][1]),
            "agreement": float(np.mean(others)) if others else float("nan"),
            "stability": rank_correlation(values, disturbed[name]),
            "reliable": bool(
                values.max() > 0
                and random[0] - deletion > LEAST_GAIN
                and insertion - random[1] > LEAST_GAIN
            ),
        }
    return figures


def describe_trust(figures: dict[str, float | bool]) -> str:
    """The trust figures as sentences."""
    if figures["reliable"]:
        start = (
            "Checked: blurring the marked places weakens the evidence more than blurring random "
            "ones, and showing only them brings it back sooner."
        )
    else:
        start = (
            "Not reliable here: the marked places matter to the network no more than random ones. "
            "Do not draw conclusions from this map."
        )
    agreement, stability = float(figures["agreement"]), float(figures["stability"])
    close = "agree" if agreement > 0.6 else "agree in part" if agreement > 0.3 else "disagree"
    steady = "hardly changes" if stability > 0.8 else "changes"
    return f"{start} The other methods {close}; the map {steady} under faint noise."
