"""The records that cross a boundary between modules. Read top to bottom, they are the data flow.

Times are seconds from exact time stamps. A *probability* is always that of manipulation;
*confidence* is the face finder's; *difference* belongs to key frames.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any

import numpy as np

Image = np.ndarray
"""RGB uint8, height x width x 3, upright."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the full frame; right and bottom exclusive."""


class Label(StrEnum):
    """What a verdict says. `no_signs` is never called real or authentic."""

    MANIPULATED = "manipulated"
    NO_SIGNS = "no_signs"
    INCONCLUSIVE = "inconclusive"
    NO_FACE = "no_face"


SIGNS = "pasted", "drawn"
"""The kinds of traces. *Pasted*: something of another origin inside a genuine frame (a swapped
face, a moved mouth). *Drawn*: a generator made every pixel (an animated portrait, an invented
person)."""

SIGN_TEXT = {"pasted": "a face pasted in", "drawn": "a generated face"}
"""The words a person reads for each kind of traces."""

LABEL_TEXT = {
    Label.MANIPULATED: "Signs of manipulation",
    Label.NO_SIGNS: "No signs of manipulation found",
    Label.INCONCLUSIVE: "Inconclusive",
    Label.NO_FACE: "No face found",
}
"""The words a person reads for each label."""


def show_probability(value: float, form: str = ".0%") -> str:
    """Format a probability for people; never as 0 % or 100 %, since no detector is certain."""
    shown = format(value, form)
    if shown == format(0, form):
        return f"under {0.01:{form}}"
    if shown == format(1, form):
        return f"over {0.99:{form}}"
    return shown


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a clip. A still image is a clip of one frame."""

    path: str
    width: int
    """Pixels, upright."""
    height: int
    rate: Fraction
    """Average frames a second; 0 for a still image."""
    duration: float
    frames: int | None
    """The number that the container states; None if it states none."""
    codec: str
    rotation: int
    """Degrees clockwise that were applied to bring the frames upright."""


@dataclass(frozen=True)
class Frame:
    """One decoded frame. The RGB image is made only when asked for."""

    index: int
    time: float
    luma: np.ndarray = field(repr=False, compare=False)
    """Brightness at reduced size, uint8, for differences."""
    load: Callable[..., Image] | None = field(repr=False, compare=False)
    """Makes the RGB image, at full size or with its longer side at most the given pixels; None
    after release."""

    @property
    def image(self) -> Image:
        """The full-size RGB image."""
        return self.shrink(None)

    def shrink(self, side: int | None) -> Image:
        """The RGB image, its longer side at most `side` pixels; at full size for None."""
        if self.load is None:
            raise ValueError(f"frame {self.index} was released")
        return self.load() if side is None else self.load(side)


@dataclass(frozen=True)
class KeyFrame:
    """A frame that is searched for faces."""

    index: int
    time: float
    difference: float
    """Mean absolute brightness difference to the frame before, 0 to 255."""
    image: Image = field(repr=False, compare=False)


@dataclass(frozen=True)
class Curve:
    """Frame differences over the whole clip, at most a few thousand points."""

    times: np.ndarray = field(repr=False, compare=False)
    differences: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True)
class Face:
    """A face in a key frame."""

    frame_index: int
    time: float
    box: Box
    confidence: float
    landmarks: np.ndarray = field(repr=False, compare=False)
    """(5, 2) float: left eye, right eye, nose, mouth corners left and right, in the full frame."""
    crop: Image = field(repr=False, compare=False)
    """Square, cut from the full-size frame with the margin the checkpoint asks for."""
    crop_box: Box = (0, 0, 0, 0)
    """The crop's box in the frame; it may reach beyond the frame's edge."""
    appearance: np.ndarray = field(
        default_factory=lambda: np.zeros(0, np.float32), repr=False, compare=False
    )
    """The face's descriptor: tells people apart, never enters the verdict."""
    unfit: str | None = None
    """Why this face cannot be judged; None when it can."""


@dataclass(frozen=True)
class Person:
    """The faces of one person over time, in order."""

    id: int
    faces: tuple[Face, ...]


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities and verdicts; travels with the checkpoint."""

    temperature: float = 1.0
    bias: float = 0.0
    lower: float = 0.5
    """Below this probability: no signs found."""
    upper: float = 0.5
    """Above this probability: signs of manipulation."""
    calibrated: bool = False
    """False when the numbers above are defaults, not measured."""
    real_logits: tuple[float, ...] = ()
    """The logits of the genuine validation clips, from which natural frequencies are counted."""
    signs: tuple[str, ...] = SIGNS[:1]
    """The sign that each of the network's logits stands for, in order."""
    crowd: float = 0.0
    """The upper threshold, as a calibrated logit, rises by this times the logarithm of the number
    of people judged: the more people, the likelier a false alarm for one of them."""


@dataclass(frozen=True)
class FaceScore:
    """The detector's score of one face."""

    face: Face
    logit: float
    """The largest of the network's logits."""
    probability: float
    signs: dict[str, float] = field(default_factory=dict, compare=False)
    """The probability of each kind of traces."""
    logits: tuple[float, ...] = ()
    """All of the network's logits, one a sign."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on a person or a clip."""

    label: Label
    probability: float | None
    interval: tuple[float, float] | None
    reasons: tuple[str, ...]
    signs: dict[str, float] = field(default_factory=dict, compare=False)
    """The probability of each kind of traces; the largest is `probability`."""
    person: int | None = None
    """For a clip: the id of the person whose verdict it is."""


@dataclass(frozen=True)
class PersonVerdict:
    """The verdict on one person, with the scores of their faces."""

    person: Person
    scores: tuple[FaceScore, ...]
    verdict: Verdict


@dataclass(frozen=True)
class Heatmap:
    """A map of the evidence for manipulation in one face."""

    method: str
    face: Face
    values: np.ndarray = field(repr=False, compare=False)
    """Float32 at crop resolution; the peak is the face's probability."""
    trust: dict[str, Any] = field(default_factory=dict, compare=False)
    regions: dict[str, float] = field(default_factory=dict, compare=False)
    """Share of the map's mass on each region of the face; sums to 1."""
    sign: str = ""
    """The sign whose evidence the map shows."""


@dataclass(frozen=True)
class ModelInfo:
    """The network that was used, and where its weights came from."""

    name: str
    source: str
    """embedded, path, cache or hub."""
    sha256: str
    calibrated: bool
    figures: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The figures of its evaluation, as stored in the checkpoint."""


@dataclass(frozen=True)
class Statement:
    """A statement in the file about how it was made."""

    kind: str
    """generated, altered or captured."""
    who: str
    """The program that made it; empty if the file does not say."""
    where: str
    """Where the statement is: Content Credentials, XMP, EXIF, …"""


@dataclass(frozen=True)
class Provenance:
    """What the file states about its origin. It never enters the verdict."""

    sha256: str
    content_credentials: str
    """absent, valid, invalid, remote (stored elsewhere, not fetched), or unchecked."""
    signer: str | None
    container: dict[str, str]
    statements: tuple[Statement, ...] = ()
    """The file's statements about how it was made."""


@dataclass(frozen=True)
class Scan:
    """The result of a scan."""

    video: VideoInfo
    key_frames: tuple[KeyFrame, ...]
    curve: Curve
    people: tuple[PersonVerdict, ...]
    verdict: Verdict
    model: ModelInfo
    calibration: Calibration
    settings: dict[str, Any]
    provenance: Provenance
    timings: dict[str, float]
    warnings: tuple[str, ...]
