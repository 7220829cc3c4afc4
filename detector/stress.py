"""The stress test: score altered face crops again and check whether the verdict holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from detector.records import Image, Label, Scan, Verdict
from detector.scoring import Scorer
from detector.settings import Progress, silent
from detector.verdict import choose_label, count_judged, median_probability
from detector.video import Recoder


@dataclass(frozen=True)
class Trial:
    """The deciding person's result after one alteration."""

    name: str
    probability: float
    label: Label
    """By the median alone. A verdict's interval must lie beyond the threshold; asked of all five
    alterations, this would unsettle verdicts that hardly moved."""


Alteration = Callable[[list[Image]], list[Image]]
"""Alters the crops of one person's faces."""


def _recode(crops: list[Image], crf: int) -> list[Image]:
    return [Recoder(crf).run([crop])[0] for crop in crops]


def _halve(crops: list[Image]) -> list[Image]:
    return [
        cv2.resize(crop, (max(2, crop.shape[1] // 2), max(2, crop.shape[0] // 2)),
                   interpolation=cv2.INTER_AREA)
        for crop in crops
    ]  # fmt: skip


def _mirror(crops: list[Image]) -> list[Image]:
    return [np.ascontiguousarray(crop[:, ::-1]) for crop in crops]


def _shift(crops: list[Image]) -> list[Image]:
    """Cut off a little at the top and on the right, as if another face finder had cut the crop."""
    shifted = []
    for crop in crops:
        pixels = max(1, crop.shape[0] // 30)
        shifted.append(np.ascontiguousarray(crop[pixels:, : crop.shape[1] - pixels]))
    return shifted


HARD_COMPRESSION = "re-encoded hard (h264, crf 36)"
"""It removes the traces of most manipulations: weaker evidence after it is no sign of an error."""

TRIALS: dict[str, Alteration] = {
    "re-encoded (h264, crf 28)": lambda crops: _recode(crops, 28),
    HARD_COMPRESSION: lambda crops: _recode(crops, 36),
    "half the size": _halve,
    "mirrored": _mirror,
    "shifted": _shift,
}
"""The alterations by name. The names are part of reports, and of the sentences in each language."""


def stress(
    found: Scan, detector: Scorer, progress: Progress = silent
) -> tuple[list[Trial], Verdict]:
    """Score the deciding person's faces unaltered and after each alteration.

    Args:
        found: the scan.
        detector: the detector of the scan.
        progress: called with a stage and its fraction.

    Returns:
        The trials, the first without an alteration, and the verdict after them; no trials if no
        face was scored.
    """
    people = [p for p in found.people if p.scores and p.person.id == found.verdict.person]
    if not people:
        return [], found.verdict
    crops = [s.face.crop for s in people[0].scores]
    judged = count_judged([len(p.scores) for p in found.people])

    def run_trial(name: str, crops: list[Image]) -> Trial:
        middle, _, _ = median_probability(detector.score_signs(crops), found.calibration)
        return Trial(name, middle, choose_label((middle, middle), found.calibration, judged))

    trials = [run_trial("as it is", crops)]
    for number, (name, alter) in enumerate(TRIALS.items()):
        progress("stress test", number / len(TRIALS))
        trials.append(run_trial(name, alter(crops)))
    return trials, settle(found.verdict, trials)


def settle(verdict: Verdict, trials: Sequence[Trial]) -> Verdict:
    """Return the verdict after a stress test.

    A firm verdict that some trials confirm and others unsettle becomes inconclusive, with a reason
    that names those others.
    """
    if verdict.label is Label.INCONCLUSIVE:
        return verdict
    unsettling = [trial.name for trial in trials if unsettles(trial, verdict)]
    if 0 < len(unsettling) < len(trials):
        reason = f"The verdict does not hold when the clip is altered: {', '.join(unsettling)}."
        verdict = replace(verdict, label=Label.INCONCLUSIVE, reasons=(reason, *verdict.reasons))
    return verdict


def unsettles(trial: Trial, verdict: Verdict) -> bool:
    """Whether a trial speaks against a verdict.

    Every trial with another label does, with one exception: hard compression may weaken the
    evidence of manipulation.
    """
    excused = trial.name == HARD_COMPRESSION and verdict.label is Label.MANIPULATED
    return trial.label is not verdict.label and not excused
