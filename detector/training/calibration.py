"""Calibration on labelled clips: temperatures, biases and thresholds."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detector.errors import UserError
from detector.records import SIGNS, Calibration, Label
from detector.training import metrics
from detector.training.labelled import ClipScore, LabelledClip
from detector.training.mixture import SIGN_OF
from detector.verdict import choose_label, median_probability

ALARM_BUDGET = 0.05  # fraction of genuine clips that may be called manipulated
MISS_BUDGET = 0.08  # fraction of fakes that may be called free of signs
THRESHOLD_MARGIN = 0.02  # distance of the thresholds from the clips that set them, probability


def sign_of(clip: LabelledClip) -> int:
    """0 for real, 1 for pasted, 2 for drawn; a fake of unknown kind counts as pasted."""
    return SIGN_OF.get(clip.kind, 1) if clip.fake else 0


def scale_signs(scores: Sequence[ClipScore]) -> list[metrics.Scaling]:
    """Temperature and bias of each sign's logit, fitted to its own fakes and the genuine clips.

    Raises:
        UserError: `one_class` if there are no genuine clips, or no fakes of a sign.
    """
    kinds = np.array([sign_of(s.clip) for s in scores])
    medians = np.array([np.median(s.logits, axis=0) for s in scores])
    found = []
    for number in range(medians.shape[1]):
        inside = (kinds == 0) | (kinds == number + 1)
        if len(set(kinds[inside])) < 2:
            raise UserError(
                "one_class", "Genuine clips and fakes of every sign are needed to calibrate."
            )
        found.append(metrics.fit_scaling(kinds[inside] > 0, medians[inside, number]))
    return found


def scaled(score: ClipScore, scalings: Sequence[metrics.Scaling]) -> ClipScore:
    """A clip's score with each sign's logit scaled."""
    temperatures, biases = np.array([(s.temperature, s.bias) for s in scalings]).T
    return replace(score, logits=score.logits / temperatures + biases)


def calibrate(scores: Sequence[ClipScore]) -> Calibration:
    """Fit temperature, bias and thresholds to labelled clips.

    The upper threshold meets the false alarm budget on genuine clips, the lower one the miss budget
    on fakes. For a network with one logit, only fakes of kind `blended` are used if there are any:
    its probability is that of a pasted face.

    Raises:
        UserError: `one_class`.
    """
    signs = 1 if scores[0].logits.ndim == 1 else scores[0].logits.shape[1]
    if signs == 1 and any(s.clip.kind == "blended" for s in scores):
        scores = [s for s in scores if not s.clip.fake or s.clip.kind == "blended"]
    labels = np.array([s.clip.fake for s in scores])
    if labels.all() or not labels.any():
        raise UserError("one_class", "Both genuine and manipulated clips are needed to calibrate.")
    scaling = metrics.fit_scaling(labels, np.array([s.logit for s in scores]))
    reals = [s for s in scores if not s.clip.fake]
    fakes = [s for s in scores if s.clip.fake]
    fitted = Calibration(
        temperature=scaling.temperature,
        bias=scaling.bias,
        calibrated=True,
        real_logits=tuple(sorted(round(s.logit, 4) for s in reals)),
        signs=SIGNS[:signs],
    )
    lows = sorted((median_probability(s.logits, fitted)[1] for s in reals), reverse=True)
    highs = sorted(median_probability(s.logits, fitted)[2] for s in fakes)
    upper = lows[int(ALARM_BUDGET * len(lows))] + THRESHOLD_MARGIN
    lower = highs[int(MISS_BUDGET * len(highs))] - THRESHOLD_MARGIN
    upper = float(np.clip(upper, 0.5, 0.99))
    fitted = replace(fitted, crowd=tail_of([s.logit for s in reals]) / fitted.temperature)
    return replace(fitted, upper=upper, lower=float(np.clip(lower, 0.01, min(0.5, upper - 0.01))))


def tail_of(logits: Sequence[float]) -> float:
    """Mean distance of the upper half of genuine clips' logits from their median.

    If this tail is exponential, judging e times as many people needs a threshold higher by this for
    the same false alarm rate.
    """
    values = np.asarray(logits)
    middle = float(np.median(values))
    return float(np.mean(values[values >= middle] - middle))


def decide(score: ClipScore, calibration: Calibration) -> Label:
    """The label of a clip."""
    _, low, high = median_probability(score.logits, calibration)
    return choose_label((low, high), calibration)


def decide_held_out(scores: Sequence[ClipScore]) -> list[Label]:
    """Each clip's label by thresholds that were set without the clips of its group."""
    labels = []
    for score in scores:
        others = [s for s in scores if s.clip.group != score.clip.group]
        labels.append(decide(score, calibrate(others)))
    return labels
