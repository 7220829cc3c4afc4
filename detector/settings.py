"""The options of a scan, with units and defaults. They are validated once, on construction."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_type_hints

from detector.errors import UserError

Progress = Callable[[str, float], None]
"""Called with a stage (key frames, faces, scores, explanation) and the fraction of it done.

It may raise `UserError("cancelled", ...)` to stop the work.
"""


def silent(stage: str, fraction: float) -> None:
    """The default `Progress`: report nothing."""


@dataclass(frozen=True)
class Settings:
    """The options of a scan."""

    model: str = "default"
    """Name of a model or an ensemble in the catalogue."""
    weights: str | None = None
    """Path of a checkpoint to use in place of the catalogue's."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    key_frames: int = 32
    """Number of frames that are searched for faces, 1 to 512."""
    frames: str = "some"
    """The frames that key frames are chosen from. some: of a long clip only those that
    other frames refer to, at most 16 a second, which takes less time; all: every frame, as in the
    paper."""
    explain: str | None = None
    """Method of the heatmaps that are drawn of the most suspicious faces: smoothgrad, gradcam,
    gradcam++, faster-scorecam, layercam, hirescam, scorecam; or none."""
    mirror: bool = False
    """Average each face's logit with that of its mirror image, at twice the time."""
    threads: int = 0
    """Number of threads that find and score faces; 0 for one per core."""
    max_bytes: int = 4 * 2**30
    """Largest file that is opened."""
    max_pixels: int = 8192 * 4352
    """Largest frame that is decoded (a little over 8K)."""
    max_duration: float = 600.0
    """Seconds; of longer clips an evenly spread sample is decoded."""
    max_decode_time: float = 600.0
    """Seconds after which decoding stops. The part decoded by then is judged, with a warning."""

    def __post_init__(self) -> None:
        """Raise UserError `bad_setting` for a value outside its range."""
        for name, kind in get_type_hints(Settings).items():
            value = getattr(self, name)
            if kind is float and type(value) is int:
                continue
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise UserError("bad_setting", f"{name} cannot be {value!r}.")
        if not 1 <= self.key_frames <= 512:
            raise UserError("bad_setting", "The number of key frames must be between 1 and 512.")
        if self.device not in ("auto", "cpu", "cuda", "mps"):
            raise UserError("bad_setting", f"{self.device!r} is no device: auto, cpu, cuda, mps.")
        if self.frames not in ("some", "all"):
            raise UserError("bad_setting", f"frames cannot be {self.frames!r}: some or all.")
        if self.threads < 0:
            raise UserError("bad_setting", "The number of threads must not be below zero.")
        for name in ("max_bytes", "max_pixels", "max_duration", "max_decode_time"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError("bad_setting", f"{name} must be a number above zero.")
