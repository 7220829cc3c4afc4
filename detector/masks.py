"""Masks of a face and its parts from MTCNN's five landmarks.

Outlines are given in face coordinates, so that masks follow the head's pose: the origin is between
the eyes, the unit of x is the distance between the eyes, that of y the distance from eyes to mouth.
"""

import cv2
import numpy as np

Points = np.ndarray
"""(n, 2) float, x and y in pixels."""

OUTLINES: dict[str, list[tuple[float, float]]] = {
    "face": [
        (-1.05, -0.25), (-0.85, -0.55), (-0.4, -0.68), (0, -0.6), (0.4, -0.68), (0.85, -0.55),
        (1.05, -0.25), (1.1, 0.3), (1.0, 0.85), (0.78, 1.3), (0.42, 1.7), (0, 1.85),
        (-0.42, 1.7), (-0.78, 1.3), (-1.0, 0.85), (-1.1, 0.3),
    ],
    "head": [
        (-1.15, -0.6), (-0.8, -1.35), (0, -1.65), (0.8, -1.35), (1.15, -0.6), (1.2, 0.3),
        (1.05, 1.0), (0.7, 1.6), (0, 1.95), (-0.7, 1.6), (-1.05, 1.0), (-1.2, 0.3),
    ],
    "inner": [
        (-0.85, -0.4), (-0.4, -0.5), (0, -0.4), (0.4, -0.5), (0.85, -0.4), (0.9, 0.3),
        (0.65, 1.1), (0.35, 1.4), (-0.35, 1.4), (-0.65, 1.1), (-0.9, 0.3),
    ],
    "lower": [
        (-1.05, 0.35), (-0.4, 0.45), (0, 0.5), (0.4, 0.45), (1.05, 0.35), (0.95, 0.9),
        (0.75, 1.35), (0.4, 1.72), (0, 1.85), (-0.4, 1.72), (-0.75, 1.35), (-0.95, 0.9),
    ],
    "mouth": [
        (-0.62, 1.0), (-0.3, 0.78), (0, 0.82), (0.3, 0.78), (0.62, 1.0), (0.35, 1.28),
        (0, 1.36), (-0.35, 1.28),
    ],
    "eyes": [
        (-0.95, -0.22), (-0.5, -0.35), (0, -0.2), (0.5, -0.35), (0.95, -0.22), (0.95, 0.12),
        (0.5, 0.25), (0, 0.15), (-0.5, 0.25), (-0.95, 0.12),
    ],
    "nose": [
        (-0.15, 0.0), (0.15, 0.0), (0.25, 0.4), (0.38, 0.7), (0.2, 0.82), (-0.2, 0.82),
        (-0.38, 0.7), (-0.25, 0.4),
    ],
    "cheeks": [
        (-0.95, 0.22), (-0.3, 0.3), (0, 0.4), (0.3, 0.3), (0.95, 0.22), (0.9, 0.8),
        (0.68, 1.1), (0, 1.2), (-0.68, 1.1), (-0.9, 0.8),
    ],
    "forehead": [
        (-1.0, -0.4), (-0.7, -1.1), (0, -1.35), (0.7, -1.1), (1.0, -0.4), (0.4, -0.45),
        (0, -0.4), (-0.4, -0.45),
    ],
    "square": [(-1.25, -0.9), (1.25, -0.9), (1.25, 1.8), (-1.25, 1.8)],
}  # fmt: skip
"""The parts of a face as polygons; `square` is the region that early face swappers pasted."""


def face_axes(landmarks: Points) -> tuple[Points, Points, Points]:
    """Origin, x axis and y axis of the face coordinates, as vectors in pixels."""
    eyes, mouth = landmarks[:2], landmarks[3:5]
    origin = eyes.mean(0)
    down = mouth.mean(0) - origin
    across = eyes[1] - eyes[0]
    # On a turned head the eyes come closer together, but the outline narrows less.
    least = 0.8 * float(np.linalg.norm(down))
    length = float(np.linalg.norm(across))
    if length < least:
        across = across * (least / max(length, 1e-6))
    return origin, across, down


def outline(landmarks: Points, part: str) -> Points:
    """The polygon of a part, in pixels."""
    origin, across, down = face_axes(landmarks)
    shape = np.array(OUTLINES[part], np.float64)
    # On a turned head the nose leaves the middle; the outline follows it in part.
    shift = (landmarks[2] - origin - down * 0.55) * 0.3
    return origin + shift + shape[:, :1] * across + shape[:, 1:] * down


def draw_mask(shape: tuple[int, ...], polygon: Points) -> np.ndarray:
    """A float32 mask, (height, width), 1 inside the polygon, with antialiased edge."""
    mask = np.zeros(shape[:2], np.uint8)
    points = np.rint(polygon * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, lineType=cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def part_mask(shape: tuple[int, ...], landmarks: Points, part: str) -> np.ndarray:
    """A float32 mask of a part of the face."""
    return draw_mask(shape, outline(landmarks, part))
