"""The stress test, with a detector that looks at nothing but the shape and side of its crops."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from detector.records import Calibration, Face, FaceScore, Label, Person, PersonVerdict, Verdict
from detector.stress import HARD_COMPRESSION, TRIALS, stress

CALIBRATION = Calibration(lower=0.3, upper=0.7, calibrated=True)
MANIPULATED = Verdict(Label.MANIPULATED, 0.99, (0.9, 1.0), ("why",), person=1)


class Watching:
    """Gives each crop the logit that `judge` gives, and keeps the crops."""

    def __init__(self, judge) -> None:
        self.judge, self.seen = judge, []

    def score_signs(self, crops, *, mirror: bool = False) -> np.ndarray:
        self.seen.append(crops)
        return np.array([[self.judge(crop)] for crop in crops])


def crop() -> np.ndarray:
    """Dark on the left, bright on the right."""
    return np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], 64, 0).repeat(3, 2)


def found(verdict: Verdict = MANIPULATED) -> SimpleNamespace:
    faces = [Face(n, float(n), (0, 0, 64, 64), 0.99, np.zeros((5, 2)), crop()) for n in range(6)]
    scores = tuple(FaceScore(face, 5.0, 0.99) for face in faces)
    person = PersonVerdict(Person(1, tuple(faces)), scores, MANIPULATED)
    return SimpleNamespace(people=(person,), verdict=verdict, calibration=CALIBRATION)


def test_a_verdict_that_every_trial_confirms_stays() -> None:
    detector = Watching(lambda image: 5.0)
    trials, verdict = stress(found(), detector)
    assert [t.name for t in trials] == ["as it is", *TRIALS]
    assert {t.label for t in trials} == {Label.MANIPULATED}
    assert verdict == MANIPULATED


def test_a_verdict_that_flips_becomes_inconclusive_and_says_when() -> None:
    trials, verdict = stress(found(), Watching(lambda image: -5.0 if len(image) < 40 else 5.0))
    assert {t.name for t in trials if t.label is Label.NO_SIGNS} == {"half the size"}
    assert verdict.label is Label.INCONCLUSIVE
    assert verdict.reasons[0].endswith("altered: half the size.")
    assert verdict.reasons[1:] == MANIPULATED.reasons


@pytest.mark.parametrize(("half", "label"), [(0.72, Label.MANIPULATED), (0.68, Label.INCONCLUSIVE)])
def test_a_verdict_holds_as_long_as_the_median_stays_beyond_the_threshold(
    half: float, label: Label
) -> None:
    """An interval around 0.72 would reach below the threshold of 0.7."""
    logit = float(np.log(half / (1 - half)))
    trials, verdict = stress(found(), Watching(lambda image: logit if len(image) < 40 else 5.0))
    (halved,) = [t for t in trials if t.name == "half the size"]
    assert halved.probability == pytest.approx(half)
    assert halved.label is label
    assert verdict.label is label


@pytest.mark.parametrize(
    ("before", "after"), [(5.0, Label.MANIPULATED), (-5.0, Label.INCONCLUSIVE)]
)
def test_hard_compression_may_weaken_the_evidence_of_manipulation_but_not_add_to_it(
    before: float, after: Label, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRIALS, HARD_COMPRESSION, lambda crops: [crop[:20, :20] for crop in crops])
    first = Label.MANIPULATED if before > 0 else Label.NO_SIGNS
    scanned = found(replace(MANIPULATED, label=first))
    trials, verdict = stress(scanned, Watching(lambda image: 0.0 if len(image) == 20 else before))
    assert {t.name for t in trials if t.label is Label.INCONCLUSIVE} == {HARD_COMPRESSION}
    assert verdict.label is after


def test_each_trial_alters_the_crops_as_it_says() -> None:
    detector = Watching(lambda image: 5.0)
    stress(found(), detector)
    untouched, *altered = (crops[0].astype(int) for crops in detector.seen)
    shown = dict(zip(TRIALS, altered, strict=True))
    assert np.array_equal(untouched, crop())
    assert np.array_equal(shown["mirrored"], untouched[:, ::-1])
    assert shown["half the size"].shape == (32, 32, 3)
    assert np.array_equal(shown["shifted"], untouched[2:, :-2])
    errors = [np.abs(shown[name] - untouched).mean() for name in list(TRIALS)[:2]]
    assert 0 < errors[0] <= errors[1]


def test_without_a_person_there_is_nothing_to_alter() -> None:
    nobody = Verdict(Label.NO_FACE, None, None, ())
    detector = Watching(lambda image: pytest.fail("nothing is to be scored"))
    assert stress(found(nobody), detector) == ([], nobody)
