"""The examples' answers, computed in advance, so that a scan of an example only decodes the clip.

An answer holds a clip's faces, their logits and the stress test's trials. The rest of a scan is
computed again. An answer is used only for the same file, weights and key frames.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detector.errors import UserError
from detector.faces import cut_face
from detector.provenance import hash_file
from detector.records import Calibration, Face, Image, KeyFrame, Label, ModelInfo, Scan
from detector.settings import Settings
from detector.stress import Trial
from detector.weights import Checkpoint, parse_metadata, resolve_weights


class OutdatedError(Exception):
    """The answer is for other key frames than this machine's decoder gives."""


@dataclass(frozen=True)
class KnownAnswer:
    """A stored answer. It stands in for the face finder and the detector."""

    info: ModelInfo
    calibration: Calibration
    margin: float
    trials: tuple[Trial, ...]
    frames: tuple[int, ...]
    """Indices of the key frames."""
    faces: Sequence[Mapping[str, Any]]
    logits: np.ndarray
    """(n, signs), those of the fit faces, person by person."""
    finder_device: str = field(default="cpu", init=False)
    in_sequence: bool = field(default=False, init=False)

    @property
    def batch(self) -> int:
        """All faces at once."""
        return max(1, len(self.logits))

    def find(self, key_frames: Iterable[KeyFrame], *, threads: int = 1) -> list[Face]:
        """The stored faces, cut from the frames; raises OutdatedError for other key frames."""
        found, seen = [], []
        for key_frame in key_frames:
            seen.append(key_frame.index)
            found += [
                cut_face(
                    key_frame, tuple(known["box"]), known["confidence"],
                    np.array(known["landmarks"]).reshape(5, 2), self.margin,
                )
                for known in self.faces
                if known["frame"] == key_frame.index
            ]  # fmt: skip
        if tuple(seen) != self.frames:
            raise OutdatedError
        return found

    def score_signs(self, crops: Sequence[Image], *, mirror: bool = False) -> np.ndarray:
        """The stored logits; raises OutdatedError for another number of crops."""
        if len(crops) != len(self.logits):
            raise OutdatedError
        return self.logits


def keep_answer(found: Scan, trials: Sequence[Trial]) -> dict[str, Any]:
    """Convert a scan and its stress test to the JSON of an answer."""
    faces = sorted(
        (face for person in found.people for face in person.person.faces),
        key=lambda face: (face.frame_index, face.box),
    )
    by_number = sorted(found.people, key=lambda person: person.person.id)
    return {
        "sha256": found.provenance.sha256,
        "key_frames": [k.index for k in found.key_frames],
        "faces": [
            {
                "frame": face.frame_index, "box": list(face.box),
                "confidence": round(float(face.confidence), 4),
                "landmarks": [round(float(v), 2) for v in face.landmarks.ravel()],
            }
            for face in faces
        ],
        "logits": [
            [round(v, 5) for v in score.logits] for person in by_number for score in person.scores
        ],
        "trials": [[t.name, round(t.probability, 5), str(t.label)] for t in trials],
    }  # fmt: skip


def recall(kept: Path, name: str, clip: Path, settings: Settings) -> KnownAnswer | None:
    """Read the stored answer of an example.

    Args:
        kept: the file of answers.
        name: the example's name.
        clip: the file to be scanned.
        settings: those of the scan.

    Returns:
        The answer, which raises OutdatedError later if this machine's decoder gives other key
        frames; None if the clip, the weights or the settings are others.
    """
    try:
        stored = json.loads(kept.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    known = stored["answers"].get(name)
    if known is None or settings != Settings(model=settings.model):
        return None
    try:
        checkpoint = resolve_weights(settings.model)
    except UserError:  # an ensemble has no weights of its own
        return None
    if stored["weights"] != checkpoint.sha256 or known["sha256"] != hash_file(clip):
        return None
    return _restore(checkpoint, known)


def _restore(checkpoint: Checkpoint, known: Mapping[str, Any]) -> KnownAnswer:
    info, calibration, margin = parse_metadata(checkpoint)
    logits = np.array(known["logits"], np.float32).reshape(-1, len(calibration.signs))
    trials = tuple(Trial(name, value, Label(label)) for name, value, label in known["trials"])
    return KnownAnswer(
        info, calibration, margin, trials, tuple(known["key_frames"]), known["faces"], logits
    )
