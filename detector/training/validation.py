"""The sets of crops that are measured on during training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detector.faces import CROP_MARGIN
from detector.records import SIGNS
from detector.training.datasets import Row
from detector.training.decoders import Decoder
from detector.training.forgery import Forger, Sample
from detector.training.mixture import SIGN_OF, left_out_faces
from detector.training.portraits import Portrait
from detector.training.sequence import draw_frames, group_videos, read_sequence
from detector.training.train import Validation

Pair = tuple[list[Sample], list[Sample]]
"""The frames of a genuine clip and of its forgery; one frame each for single crops."""


def validate_forgeries(
    held: Sequence[Portrait],
    side: int,
    kinds: dict[str, float],
    decoders: Sequence[Decoder],
    frames: int = 0,
) -> dict[str, Validation]:
    """Make one real and forged pair of every held-out portrait, the same pairs in every run.

    Args:
        held: the held-out portraits.
        side: side of the crops, pixels.
        kinds: kind of forgery -> its share.
        decoders: small networks that redraw pictures, for the synthetic kind.
        frames: a pair is two clips of as many frames; 0 for single crops.

    Returns:
        The sets `held` (all pairs), `held_<kind>` for each kind of forgery, and `held_clean`
        (self-blends without degradation).
    """
    whole = Forger(held, side=side, margin=CROP_MARGIN, kinds=kinds, decoders=decoders)
    clean = Forger(
        held, side=side, margin=CROP_MARGIN, kinds={"self": 1.0}, degrade=False, jitter=False
    )

    def make(forger: Forger, seed: int) -> list[Pair]:
        if frames:
            return [forger.clip_pair(n, (seed, n), frames) for n in range(len(held))]
        pairs = (forger.pair(n, (seed, n)) for n in range(len(held)))
        return [([real], [fake]) for real, fake in pairs]

    pairs = make(whole, 999)
    sets = {"held": pairs}
    for kind in kinds:
        sets[f"held_{kind}"] = [pair for pair in pairs if pair[1][0].kind == kind]
    sets["held_clean"] = make(clean, 998)
    return {name: _as_validation(chosen) for name, chosen in sets.items() if chosen}


def _as_validation(pairs: Sequence[Pair]) -> Validation:
    clips = [clip for pair in pairs for clip in pair]
    samples = [sample for clip in clips for sample in clip]
    return Validation(
        np.stack([s.image for s in samples]),
        np.array([s.fake for s in samples]),
        np.repeat(np.arange(len(clips)), [len(clip) for clip in clips]),
    )


def validate_left_out(
    held: Sequence[tuple[Path, Row]], side: int, margin: float
) -> dict[str, Validation]:
    """The left-out data sets: all fakes against all real clips, and each sign by itself."""
    crops, rows = left_out_faces(held, side, margin)
    names = {name: n for n, name in enumerate(sorted({row.video for row in rows}))}
    clips = np.array([names[row.video] for row in rows])
    labels = np.array([SIGN_OF.get(row.kind, 0) for row in rows])
    sets = {"left_out": Validation(crops, labels > 0, clips)}
    for number, sign in enumerate(SIGNS):
        inside = (labels == 0) | (labels == number + 1)
        if len(set(labels[inside])) == 2:
            sets[f"left_out_{sign}"] = Validation(crops[inside], labels[inside] > 0, clips[inside])
    return sets


def validate_crops(
    rows: Sequence[Row], split: str, data: Path, side: int, margin: float, limit: int = 2000
) -> Validation | None:
    """At most `limit` crops of a split, at even steps; None if a class is missing."""
    chosen = [row for row in rows if row.split == split]
    chosen = chosen[:: max(1, len(chosen) // limit)]
    if len({row.fake for row in chosen}) < 2:
        return None
    crops = read_sequence(chosen, data, side, margin)
    return Validation(crops, np.array([bool(row.fake) for row in chosen]))


def validate_sequences(
    rows: Sequence[Row],
    split: str,
    data: Path,
    side: int,
    margin: float,
    length: int,
    limit: int = 200,
) -> Validation | None:
    """At most `limit` videos of a split, at even steps; None if a class is missing."""
    videos = group_videos([row for row in rows if row.split == split])
    videos = videos[:: max(1, len(videos) // limit)]
    if len({video[0].fake for video in videos}) < 2:
        return None
    rng = np.random.default_rng(0)
    chosen = [draw_frames(video, length, rng) for video in videos]
    counts = [len(video) for video in chosen]
    return Validation(
        np.concatenate([read_sequence(video, data, side, margin) for video in chosen]),
        np.repeat([bool(video[0].fake) for video in chosen], counts),
        np.repeat(np.arange(len(chosen)), counts),
    )
