"""The crops of an index, grouped by video: sequences of one person's faces."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detector.faces import resize
from detector.records import Image
from detector.training.datasets import Row
from detector.training.mixture import read_face


def group_videos(rows: Sequence[Row]) -> list[list[Row]]:
    """The crops of each video, in temporal order."""
    videos: dict[str, list[Row]] = {}
    for row in rows:
        videos.setdefault(row.video, []).append(row)
    return [sorted(crops, key=lambda row: row.frame) for crops in videos.values()]


def draw_frames(rows: Sequence[Row], length: int, rng: np.random.Generator) -> list[Row]:
    """At most `length` random crops of a video, in order."""
    if len(rows) <= length:
        return list(rows)
    chosen = np.sort(rng.choice(len(rows), length, replace=False))
    return [rows[number] for number in chosen]


def read_sequence(
    rows: Sequence[Row], data: Path, side: int, margin: float, mirrored: bool = False
) -> Image:
    """Read faces, (n, side, side, 3), as `read_face` does, all of them mirrored or none."""
    crops = np.stack([resize(read_face(data, row, margin), side, side) for row in rows])
    return np.ascontiguousarray(crops[:, :, ::-1]) if mirrored else crops
