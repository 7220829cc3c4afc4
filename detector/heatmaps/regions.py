"""How a map's mass is distributed over the regions of the face, in numbers and words."""

from collections.abc import Mapping

import cv2
import numpy as np

from detector.masks import part_mask
from detector.records import Face

PARTS = "eyes", "nose", "mouth", "forehead", "cheeks"
BORDER = 0.12  # of the face's width: how far the border reaches to either side of its outline
REGION_TEXT = {
    "eyes": "around the eyes",
    "nose": "around the nose",
    "mouth": "around the mouth",
    "forehead": "on the forehead",
    "cheeks": "on the cheeks",
    "border": "along the face's border",
    "outside": "outside the face",
}


def landmarks_in_crop(face: Face, side: int) -> np.ndarray:
    """The landmarks in the coordinates of a crop of `side` pixels."""
    left, top, right, _ = face.crop_box
    return (face.landmarks - [left, top]) * (side / max(1, right - left))


def region_masks(face: Face, side: int) -> dict[str, np.ndarray]:
    """A boolean mask of each region; every pixel lies in exactly one."""
    landmarks = landmarks_in_crop(face, side)
    shape = side, side
    width = (face.box[2] - face.box[0]) * side / max(1, face.crop_box[2] - face.crop_box[0])
    unassigned = np.ones(shape, bool)
    masks = {}
    whole = (part_mask(shape, landmarks, "face") > 0.5).astype(np.uint8)
    reach = max(1, round(width * BORDER))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    ring = (cv2.dilate(whole, kernel) > 0) & (cv2.erode(whole, kernel) == 0)
    for part in PARTS:
        inside = unassigned & (part_mask(shape, landmarks, part) > 0.5)
        masks[part] = inside
        unassigned &= ~inside
    masks["border"] = unassigned & ring
    unassigned &= ~ring
    masks["cheeks"] |= unassigned & (whole > 0)
    masks["outside"] = unassigned & (whole == 0)
    return masks


def share_regions(values: np.ndarray, face: Face) -> dict[str, float]:
    """The share of the map's mass on each region; they sum to 1, or are all 0 for an empty map."""
    masks = region_masks(face, values.shape[0])
    total = float(values.sum())
    if total <= 0:
        return dict.fromkeys(masks, 0.0)
    return {name: float(values[mask].sum()) / total for name, mask in masks.items()}


def describe_regions(shares: Mapping[str, float]) -> str:
    """The shares of the largest regions as a sentence."""
    if not any(shares.values()):
        return "The map is empty: the network found no evidence for manipulation here."
    ranked = sorted(shares, key=lambda name: -shares[name])
    first, second = ranked[:2]
    text = f"Mostly {REGION_TEXT[first]} ({shares[first]:.0%}), then {REGION_TEXT[second]} "
    text += f"({shares[second]:.0%})."
    if shares["outside"] > 0.5:
        text += " Most of it lies outside the face: do not read it as a trace on the face."
    return text
