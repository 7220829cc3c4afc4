"""Logits -> probability, interval and label of a face, a person and a clip. Pure functions."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detector.records import (
    LABEL_TEXT,
    Calibration,
    Face,
    FaceScore,
    Label,
    Person,
    PersonVerdict,
    Verdict,
)

FRAMES_PER_OBSERVATION = 3  # key frames are correlated: three count as one observation
PRIOR_DEVIATION = 0.51  # prior standard deviation of logits within a clip, in temperatures
PRIOR_WEIGHT = 3  # number of frames that this prior counts for
MEDIAN_DEVIATION = 1.2533  # standard error of a median relative to that of a mean: root of pi / 2
STANDARD_ERRORS = 1.96  # on either side of the median: a 95 % interval
FEWEST_FACES = 3  # a person seen less often does not decide a clip alone


def to_probability(logit: float, calibration: Calibration) -> float:
    """The calibrated probability of manipulation."""
    scaled = np.clip(logit / calibration.temperature + calibration.bias, -40, 40)
    return float(1 / (1 + np.exp(-scaled)))


def median_interval(logits: np.ndarray, calibration: Calibration) -> tuple[float, float, float]:
    """The median logit and its 95 % interval, as (median, low, high).

    The interval is wider for fewer frames and for frames that disagree. A median is used because
    spurious evidence comes in bursts (a blink, a turn of the head), which would shift a mean.

    Args:
        logits: (n,), or (n, signs), of which the sign with the highest median is taken.
        calibration: the detector's; its temperature scales the prior deviation.
    """
    logits = strongest_sign(logits)
    middle = float(np.median(logits))
    prior = PRIOR_DEVIATION * calibration.temperature
    squares = float(((logits - logits.mean()) ** 2).sum()) + PRIOR_WEIGHT * prior**2
    deviation = MEDIAN_DEVIATION * np.sqrt(squares / (len(logits) - 1 + PRIOR_WEIGHT))
    reach = STANDARD_ERRORS * deviation / np.sqrt(max(1.0, len(logits) / FRAMES_PER_OBSERVATION))
    return middle, middle - float(reach), middle + float(reach)


def strongest_sign(logits: np.ndarray) -> np.ndarray:
    """The logits, (n,), of the sign with the highest median, from logits (n, signs) or (n,)."""
    if logits.ndim == 1:
        return logits
    return logits[:, int(np.median(logits, axis=0).argmax())]


def median_probability(logits: np.ndarray, calibration: Calibration) -> tuple[float, float, float]:
    """`median_interval` as calibrated probabilities."""
    middle, low, high = (
        to_probability(x, calibration) for x in median_interval(logits, calibration)
    )
    return middle, low, high


def judge_people(
    people: Sequence[Person],
    logits: Sequence[Sequence[float] | np.ndarray],
    calibration: Calibration,
) -> list[PersonVerdict]:
    """Judge every person, given how many people there are and how often each is seen.

    Args:
        people: the people of a clip.
        logits: for each person, those of their fit faces in order.
        calibration: the detector's.
    """
    counts = [len(each) for each in logits]
    needed, judged = fewest_faces(counts), count_judged(counts)
    return [
        judge_person(person, own, calibration, people=judged, brief=0 < len(own) < needed)
        for person, own in zip(people, logits, strict=True)
    ]


def fewest_faces(counts: Sequence[int]) -> int:
    """The number of faces a person needs to be judged; lower if no person has more."""
    return max(1, min(FEWEST_FACES, max(counts, default=0)))


def count_judged(counts: Sequence[int]) -> int:
    """The number of people with enough faces, given each person's number of faces."""
    return sum(count >= fewest_faces(counts) for count in counts)


def judge_person(
    person: Person,
    logits: Sequence[float] | np.ndarray,
    calibration: Calibration,
    *,
    people: int = 1,
    brief: bool = False,
) -> PersonVerdict:
    """Judge one person.

    Args:
        person: the person.
        logits: those of the person's fit faces in order, (n,) or (n, signs).
        calibration: the detector's.
        people: the number of people judged in the clip; the upper threshold rises with it.
        brief: the person is seen too rarely, compared with others: the verdict is inconclusive.

    Raises:
        ValueError: the person has another number of fit faces than there are logits.
    """
    fit = [face for face in person.faces if face.unfit is None]
    if len(fit) != len(logits):
        raise ValueError(f"{len(fit)} faces were to be scored, {len(logits)} logits came")
    if not fit:
        return PersonVerdict(
            person, (), Verdict(Label.INCONCLUSIVE, None, None, _explain_unfit(person))
        )
    given = np.asarray(logits, float).reshape(len(fit), -1)
    probability, low, high = median_probability(given, calibration)
    interval = low, high
    scores = tuple(_score(face, own, calibration) for face, own in zip(fit, given, strict=True))
    label = choose_label(interval, calibration, people)
    reasons = _give_reasons(label, scores, person, calibration)
    if label is Label.INCONCLUSIVE and choose_label(interval, calibration) is Label.MANIPULATED:
        reasons += (f"It would take more to be sure: {people} people were looked at, and the more "
                    "there are, the likelier one looks suspicious by chance.",)  # fmt: skip
    if brief and label is not Label.INCONCLUSIVE:
        reasons = (
            f"Seen in {len(fit)} of the frames only, too few to decide: taken alone they would be "
            f"called {LABEL_TEXT[label].lower()!r}.",
        )
        label = Label.INCONCLUSIVE
    signs = _sign_probabilities(np.median(given, axis=0), calibration)
    return PersonVerdict(person, scores, Verdict(label, probability, interval, reasons, signs))


def _score(face: Face, logits: np.ndarray, calibration: Calibration) -> FaceScore:
    """The score of a face with these logits, (signs,)."""
    largest = float(logits.max())
    return FaceScore(
        face,
        largest,
        to_probability(largest, calibration),
        _sign_probabilities(logits, calibration),
        tuple(logits.tolist()),
    )


def _sign_probabilities(logits: np.ndarray, calibration: Calibration) -> dict[str, float]:
    """The probability of each sign; empty if the logits are not one per sign of the calibration."""
    if len(logits) != len(calibration.signs):
        return {}
    return {
        sign: to_probability(float(logit), calibration)
        for sign, logit in zip(calibration.signs, logits, strict=True)
    }


def choose_label(interval: tuple[float, float], calibration: Calibration, people: int = 1) -> Label:
    """The label for an interval of probabilities, when this many people are judged."""
    if not calibration.calibrated:
        return Label.INCONCLUSIVE
    if interval[0] > raised_threshold(calibration, people):
        return Label.MANIPULATED
    if interval[1] < calibration.lower:
        return Label.NO_SIGNS
    return Label.INCONCLUSIVE


def raised_threshold(calibration: Calibration, people: int) -> float:
    """The upper threshold, as a probability, when this many people are judged."""
    upper = np.log(calibration.upper / (1 - calibration.upper))
    return float(1 / (1 + np.exp(-(upper + calibration.crowd * np.log(max(1, people))))))


def _give_reasons(
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
        reasons.append(_describe_doubt(above, below, total))
        if total < FEWEST_FACES:
            reasons.append("There are too few frames with this face: a longer clip would help.")
    left_out = len(person.faces) - total
    if left_out:
        reasons.append(f"{left_out} more faces were left out: {_common_reason(person.faces)}.")
    return tuple(reasons)


def _describe_doubt(above: int, below: int, total: int) -> str:
    if above and below:
        return (
            f"The frames do not agree enough to decide: {above} of {total} look manipulated, "
            f"{below} do not, {total - above - below} lie between."
        )
    if above:
        return f"{above} of {total} frames look manipulated, but not clearly enough to be sure."
    return f"None of {total} frames looks manipulated, but not clearly enough to rule it out."


def _common_reason(faces: Sequence[Face]) -> str:
    reasons = [face.unfit.split(" (")[0] for face in faces if face.unfit]
    return max(sorted(set(reasons)), key=reasons.count)


def _explain_unfit(person: Person) -> tuple[str, ...]:
    return (
        f"None of the {len(person.faces)} faces can be judged: {_common_reason(person.faces)}. "
        "Ask for the original file, or a part in which the face is larger and sharper.",
    )


def judge_clip(people: Sequence[PersonVerdict], calibration: Calibration) -> Verdict:
    """The clip's verdict: that of its most suspicious person, whom it names."""
    if not people:
        return Verdict(Label.NO_FACE, None, None, ("No face was found in the frames looked at.",))
    judged = [p for p in people if p.verdict.probability is not None]
    if not judged:
        return Verdict(Label.INCONCLUSIVE, None, None, people[0].verdict.reasons)
    needed = fewest_faces([len(p.scores) for p in judged])
    deciding = [p for p in judged if len(p.scores) >= needed]
    worst = max(deciding, key=_suspicion)
    label, reasons = worst.verdict.label, list(worst.verdict.reasons)
    if len(people) > 1:
        reasons.append(
            f"This is person {worst.person.id}, the most suspicious of {len(people)} people."
        )
    unjudged = len(people) - len(deciding)
    if unjudged:
        reasons.append(
            f"{unjudged} of them could not be judged, or are seen too briefly to decide."
        )
    suspects = [p for p in judged if p not in deciding and _looks_manipulated(p, calibration)]
    if label is Label.NO_SIGNS and suspects:
        label = Label.INCONCLUSIVE
        reasons.insert(
            0,
            f"Person {suspects[0].person.id} looks manipulated, but is seen too briefly to be "
            "sure: look at those frames.",
        )
    return replace(worst.verdict, label=label, reasons=tuple(reasons), person=worst.person.id)


def _looks_manipulated(person: PersonVerdict, calibration: Calibration) -> bool:
    return calibration.calibrated and (person.verdict.probability or 0.0) > calibration.upper


def _suspicion(person: PersonVerdict) -> tuple[bool, float]:
    return person.verdict.label is Label.MANIPULATED, person.verdict.probability or 0.0


def deciding_sign(person: PersonVerdict) -> str | None:
    """The sign with a person's highest probability; None for a person who was not judged."""
    return max(person.verdict.signs, key=person.verdict.signs.__getitem__, default=None)


def by_suspicion(people: Sequence[PersonVerdict]) -> list[PersonVerdict]:
    """The most suspicious first, then those seen too briefly, then those without a fit face."""
    needed = fewest_faces([len(p.scores) for p in people])
    return sorted(people, key=lambda p: (len(p.scores) >= needed, *_suspicion(p)), reverse=True)


def count_above(probability: float, calibration: Calibration) -> tuple[int, int]:
    """(number of genuine validation clips with at least this probability, their total number)."""
    reals = [to_probability(logit, calibration) for logit in calibration.real_logits]
    return sum(p >= probability - 1e-9 for p in reals), len(reals)
