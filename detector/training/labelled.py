"""Labelled clips, and their logits: of clips that are scanned, or of the crops of an index.

Clips lie in `real/` and `fake/`; a `manifest.tsv` may give each clip's kind, data set, method and
group (clips of one source).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from detector.errors import UserError
from detector.pipeline import scan
from detector.records import Image
from detector.scoring import Detector, Ensemble
from detector.settings import Progress, Settings, silent
from detector.training.datasets import read_index
from detector.training.readers import list_labelled
from detector.training.robustness import CROPS_EACH
from detector.training.sequence import group_videos
from detector.training.train import batch_bounds
from detector.verdict import FEWEST_FACES, by_suspicion, strongest_sign
from detector.video import read_image


@dataclass(frozen=True)
class LabelledClip:
    """A clip with its label and origin."""

    path: Path
    fake: bool
    kind: str
    dataset: str
    method: str
    group: str


@dataclass(frozen=True)
class ClipScore:
    """A clip with the logits of the person who decides its verdict."""

    clip: LabelledClip
    logits: np.ndarray = field(repr=False, compare=False)
    """(n,), or (n, signs)."""
    crops: tuple[Image, ...] = field(default=(), repr=False, compare=False)
    """A few of the faces, for the robustness sweep."""

    @property
    def logit(self) -> float:
        """The clip's logit: the largest median over the signs."""
        return float(np.median(strongest_sign(self.logits)))


class CropScores(NamedTuple):
    """Label, logit and group (for the bootstrap) of every crop of an index."""

    labels: np.ndarray
    logits: np.ndarray
    groups: np.ndarray


def find_labelled(folder: Path) -> list[LabelledClip]:
    """The clips below real/ and fake/; raises UserError `no_data` or `one_class`."""
    clips = [LabelledClip(path, fake, **facts) for path, fake, facts in list_labelled(folder)]
    if not clips:
        raise UserError("no_data", f"{folder} has no clips in real/ and fake/.")
    if len({c.fake for c in clips}) == 1:
        raise UserError("one_class", f"{folder} holds clips of one class only.")
    return clips


def score_clips(
    clips: Sequence[LabelledClip],
    detector: Detector | Ensemble,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> tuple[list[ClipScore], list[str]]:
    """Scan every clip.

    Args:
        clips: the clips.
        detector: the detector.
        settings: those of the scans.
        progress: called with the fraction of clips done.

    Returns:
        The score of the most suspicious person of each clip, and a sentence for each clip that
        could not be scored.
    """
    scores, failed = [], []
    for number, clip in enumerate(clips):
        progress("clips", number / len(clips))
        try:
            found = scan(clip.path, settings, detector=detector)
        except UserError as error:
            failed.append(f"{clip.path.name}: {error.message}")
            continue
        scored = [p.scores for p in by_suspicion(found.people) if p.scores]
        if not scored:
            failed.append(f"{clip.path.name}: no face that can be judged")
            continue
        # People who are seen too briefly do not decide, unless there is nobody else.
        faces = next((faces for faces in scored if len(faces) >= FEWEST_FACES), scored[0])
        logits = np.array([s.logits for s in faces])
        scores.append(ClipScore(clip, logits, _sample([s.face.crop for s in faces])))
    return scores, failed


def _sample(items: Sequence[Any] | np.ndarray) -> tuple[Any, ...]:
    """At most CROPS_EACH items, evenly spaced."""
    numbers = np.linspace(0, len(items) - 1, min(len(items), CROPS_EACH)).round().astype(int)
    return tuple(items[number] for number in numbers)


def score_index(
    folder: Path, detector: Detector | Ensemble, split: str = "test", progress: Progress = silent
) -> tuple[list[ClipScore], CropScores]:
    """Score a split of an index, by clip and by crop.

    Args:
        folder: holds `index.csv` and the crops.
        detector: the detector.
        split: train, val or test.
        progress: called with the fraction of crops done.

    Raises:
        UserError: `no_data` if the split is empty, `one_class`.
    """
    rows = [row for row in read_index(folder / "index.csv") if row.split == split]
    if not rows:
        raise UserError("no_data", f"The {split} split of {folder} is empty.")
    if len({row.fake for row in rows}) < 2:
        raise UserError("one_class", f"The {split} split of {folder} holds one class only.")
    rows = [row for video in group_videos(rows) for row in video]
    videos = np.array([row.video for row in rows])
    labels = np.array([bool(row.fake) for row in rows])
    logits = np.zeros((len(rows), len(detector.calibration.signs)))
    for start, end in batch_bounds(len(rows), videos if detector.in_sequence else None):
        progress("crops", start / len(rows))
        logits[start:end] = detector.score_signs(
            [read_image(folder / row.crop) for row in rows[start:end]]
        )
    scores = []
    for video in sorted(set(videos)):
        inside = np.flatnonzero(videos == video)
        row = rows[inside[0]]
        kind = row.method if row.fake else "real"
        clip = LabelledClip(Path(video), bool(row.fake), kind, row.dataset, row.method, row.group)
        crops = tuple(read_image(folder / rows[i].crop) for i in _sample(inside))
        scores.append(ClipScore(clip, logits[inside], crops))
    groups = np.array([row.group for row in rows])
    return scores, CropScores(labels, logits.max(1), groups)
