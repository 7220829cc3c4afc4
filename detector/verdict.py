"""Logits -> probability, interval, label: for a face, a person, a clip. Pure, without torch."""

from collections.abc import Sequence

import numpy as np

from detector.records import (
    Calibration,
    Face,
    FaceScore,
    Label,
    Person,
    PersonVerdict,
    Verdict,
)

FRAMES_PER_OPINION = 3  # neighbouring key frames show nearly the same: three count as one opinion
USUAL_SPREAD = 0.51  # temperatures between frames of one clip; stands in where there are few
SPREAD_WEIGHT = 3  # frames that this prior spread counts for
MEDIAN_SPREAD = 1.2533  # of a median, in deviations of a mean: the root of pi / 2
CONFIDENCE = 1.96  # standard deviations on either side: 95 %
FEWEST_FACES = 3  # a person seen less often does not decide a clip alone


def to_probability(logit: float, calibration: Calibration) -> float:
    """The calibrated probability of manipulation."""
    scaled = np.clip(logit / calibration.temperature + calibration.bias, -40, 40)
    return float(1 / (1 + np.exp(-scaled)))


def median_interval(logits: np.ndarray, calibration: Calibration) -> tuple[float, float, float]:
    """The median logit and its 95 % interval, wider the fewer the frames and the more they differ.

    Networks differ in how far apart their logits lie, so what is usual is told in temperatures.
    Spurious evidence comes in bursts (a blink, a turn of the head) and moves a mean, not a median.
    """
    middle = float(np.median(logits))
    usual = USUAL_SPREAD * calibration.temperature
    squares = float(((logits - logits.mean()) ** 2).sum()) + SPREAD_WEIGHT * usual**2
    spread = MEDIAN_SPREAD * np.sqrt(squares / (len(logits) - 1 + SPREAD_WEIGHT))
    reach = CONFIDENCE * spread / np.sqrt(max(1.0, len(logits) / FRAMES_PER_OPINION))
    return middle, middle - float(reach), middle + float(reach)


def median_probability(logits: np.ndarray, calibration: Calibration) -> tuple[float, float, float]:
    """The median and its interval as calibrated probabilities."""
    middle, low, high = (
        to_probability(x, calibration) for x in median_interval(logits, calibration)
    )
    return middle, low, high


def judge_person(
    person: Person, logits: Sequence[float] | np.ndarray, calibration: Calibration
) -> PersonVerdict:
    """What the logits of a person's fit faces, in order, amount to."""
    fit = [face for face in person.faces if face.unfit is None]
    if len(fit) != len(logits):
        raise ValueError(f"{len(fit)} faces were to be scored, {len(logits)} logits came")
    if not fit:
        return PersonVerdict(person, (), Verdict(Label.INCONCLUSIVE, None, None, _unfit(person)))
    probability, low, high = median_probability(np.asarray(logits, float), calibration)
    interval = low, high
    scores = tuple(
        FaceScore(face, float(logit), to_probability(float(logit), calibration))
        for face, logit in zip(fit, logits, strict=True)
    )
    label = choose_label(interval, calibration)
    reasons = _explain(label, scores, person, calibration)
    return PersonVerdict(person, scores, Verdict(label, probability, interval, reasons))


def choose_label(interval: tuple[float, float], calibration: Calibration) -> Label:
    """The label that an interval and the thresholds give."""
    if not calibration.calibrated:
        return Label.INCONCLUSIVE
    if interval[0] > calibration.upper:
        return Label.MANIPULATED
    if interval[1] < calibration.lower:
        return Label.NO_SIGNS
    return Label.INCONCLUSIVE


def _explain(
    label: Label, scores: Sequence[FaceScore], person: Person, calibration: Calibration
) -> tuple[str, ...]:
    above = sum(s.probability > calibration.upper for s in scores)
    below = sum(s.probability < calibration.lower for s in scores)
    total, reasons = len(scores), []
    if not calibration.calibrated:
        reasons.append(
            "The network's weights carry no calibration: its numbers cannot be turned into a "
            "verdict."
        )
    if label is Label.MANIPULATED:
        reasons.append(f"The network finds traces of manipulation in {above} of {total} frames.")
    elif label is Label.NO_SIGNS:
        reasons.append(f"The network finds nothing suspicious in {below} of {total} frames.")
    else:
        reasons.append(_doubt(above, below, total))
        if total < FEWEST_FACES:
            reasons.append("There are too few frames with this face: a longer clip would help.")
    left_out = len(person.faces) - total
    if left_out:
        reasons.append(f"{left_out} more faces were left out: {_commonest(person.faces)}.")
    return tuple(reasons)


def _doubt(above: int, below: int, total: int) -> str:
    if above and below:
        return (
            f"The frames do not agree enough to decide: {above} of {total} look manipulated, "
            f"{below} do not, {total - above - below} lie between."
        )
    if above:
        return f"{above} of {total} frames look manipulated, but not clearly enough to be sure."
    return f"None of {total} frames looks manipulated, but not clearly enough to rule it out."


def _commonest(faces: Sequence[Face]) -> str:
    reasons = [face.unfit.split(" (")[0] for face in faces if face.unfit]
    return max(sorted(set(reasons)), key=reasons.count)


def _unfit(person: Person) -> tuple[str, ...]:
    return (
        f"None of the {len(person.faces)} faces can be judged: {_commonest(person.faces)}. "
        "Ask for the original file, or a part in which the face is larger and sharper.",
    )


def judge_clip(people: Sequence[PersonVerdict], calibration: Calibration) -> Verdict:
    """The clip's verdict: that of its most suspicious person."""
    if not people:
        return Verdict(Label.NO_FACE, None, None, ("No face was found in the frames looked at.",))
    judged = [p for p in people if p.verdict.probability is not None]
    if not judged:
        return Verdict(Label.INCONCLUSIVE, None, None, people[0].verdict.reasons)
    most = max(len(p.scores) for p in judged)
    lasting = [p for p in judged if len(p.scores) >= min(FEWEST_FACES, most)]
    worst = max(lasting, key=_suspicion)
    reasons = list(worst.verdict.reasons)
    others = len(people) - 1
    if others:
        reasons.append(
            f"This is person {worst.person.id}, the most suspicious of {len(people)} people."
        )
    unjudged = len(people) - len(lasting)
    if unjudged:
        reasons.append(
            f"{unjudged} of them could not be judged, or are seen too briefly to decide."
        )
    verdict = worst.verdict
    return Verdict(verdict.label, verdict.probability, verdict.interval, tuple(reasons))


def _suspicion(person: PersonVerdict) -> tuple[bool, float]:
    return person.verdict.label is Label.MANIPULATED, person.verdict.probability or 0.0


def by_suspicion(people: Sequence[PersonVerdict]) -> list[PersonVerdict]:
    """The most suspicious first; those who could not be judged last."""
    return sorted(people, key=_suspicion, reverse=True)


def count_above(probability: float, calibration: Calibration) -> tuple[int, int]:
    """Of how many genuine clips of the validation, how many scored at least this high."""
    reals = [to_probability(logit, calibration) for logit in calibration.real_logits]
    return sum(p >= probability - 1e-9 for p in reals), len(reals)
