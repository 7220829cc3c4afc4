from dataclasses import replace

import numpy as np
import pytest
from clips import make_face

from detector.records import Calibration, Label, Person, show_probability
from detector.verdict import (
    by_suspicion,
    choose_label,
    count_above,
    judge_clip,
    judge_people,
    judge_person,
    median_interval,
    to_probability,
)

CALIBRATION = Calibration(2.0, 0.5, 0.3, 0.7, True, (-4.0, -2.0, 0.0, 1.0))


def person(faces: int, number: int = 1) -> Person:
    return Person(number, tuple(make_face(i) for i in range(faces)))


def judge(logits: list[float], number: int = 1, calibration: Calibration = CALIBRATION):
    return judge_person(person(len(logits), number), np.array(logits), calibration)


def test_probability_by_hand() -> None:
    assert to_probability(-1.0, CALIBRATION) == pytest.approx(0.5)
    assert to_probability(3.0, CALIBRATION) == pytest.approx(1 / (1 + np.exp(-2)))


@pytest.mark.parametrize(
    ("value", "as_share", "as_number"),
    [
        (0.0, "under 1%", "under 0.01"),
        (0.004, "under 1%", "under 0.01"),
        (0.03, "3%", "0.03"),
        (0.514, "51%", "0.51"),
        (0.99, "99%", "0.99"),
        (0.9966, "over 99%", "over 0.99"),
        (1.0, "over 99%", "over 0.99"),
    ],
)
def test_no_probability_is_shown_as_certain(value: float, as_share: str, as_number: str) -> None:
    assert show_probability(value) == as_share
    assert show_probability(value, ".2f") == as_number


@pytest.mark.parametrize(
    ("logit", "label"),
    [(8.0, Label.MANIPULATED), (-9.0, Label.NO_SIGNS), (-1.0, Label.INCONCLUSIVE)],
)
def test_labels_of_steady_clips(logit: float, label: Label) -> None:
    verdict = judge([logit] * 20).verdict
    assert verdict.label is label
    assert verdict.interval is not None
    assert verdict.interval[0] < verdict.probability < verdict.interval[1]
    assert verdict.reasons


def test_frames_that_disagree_are_inconclusive() -> None:
    verdict = judge([9.0, -3.0] * 3).verdict
    assert verdict.label is Label.INCONCLUSIVE
    assert "3 of 6 look manipulated" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("logits", "said"),
    [
        ([9.0, -3.0] * 3, "do not agree"),
        ([1.2] * 6, "6 of 6 frames look manipulated, but"),
        ([-1.2] * 6, "None of 6 frames"),
    ],
)
def test_the_reason_says_why_a_verdict_is_inconclusive(logits: list[float], said: str) -> None:
    assert said in judge(logits).verdict.reasons[0]


def test_a_clip_manipulated_in_part_is_never_free_of_signs() -> None:
    assert judge([-5.0] * 20).verdict.label is Label.NO_SIGNS
    assert judge([-5.0] * 20 + [9.0] * 8).verdict.label is Label.INCONCLUSIVE


def test_interval_narrows_with_frames_and_widens_with_disagreement() -> None:
    def width(logits: list[float]) -> float:
        _, low, high = median_interval(np.array(logits), Calibration())
        return high - low

    assert width([1.0] * 30) < width([1.0] * 9) < width([1.0])
    assert width([1.0] * 30) < width([3.0, -1.0] * 15)


def test_scaling_logits_and_temperature_alike_changes_nothing() -> None:
    logits = np.array([2.0, 1.0, 3.0, 2.5])
    wide = judge(list(logits)).verdict
    scaled = Calibration(0.5, 0.5, 0.3, 0.7, calibrated=True)
    narrow = judge(list(logits / 4), calibration=scaled).verdict
    assert narrow.probability == pytest.approx(wide.probability)
    assert narrow.interval == pytest.approx(wide.interval)


def test_one_frame_is_answered_only_when_it_is_extreme() -> None:
    assert judge([2.0]).verdict.label is Label.INCONCLUSIVE
    assert judge([12.0]).verdict.label is Label.MANIPULATED


def test_without_calibration_nothing_is_decided() -> None:
    verdict = judge([20.0] * 20, calibration=Calibration()).verdict
    assert verdict.label is Label.INCONCLUSIVE
    assert "no calibration" in verdict.reasons[0]


def test_thresholds_are_those_of_the_interval() -> None:
    assert choose_label((0.71, 0.9), CALIBRATION) is Label.MANIPULATED
    assert choose_label((0.69, 0.9), CALIBRATION) is Label.INCONCLUSIVE
    assert choose_label((0.1, 0.29), CALIBRATION) is Label.NO_SIGNS
    assert choose_label((0.1, 0.31), CALIBRATION) is Label.INCONCLUSIVE


def test_unfit_faces_are_inconclusive_and_say_why() -> None:
    faces = (make_face(0, unfit="too small (20 pixels wide)"), make_face(1, unfit="too blurred"))
    verdict = judge_person(Person(1, (*faces, faces[0])), [], CALIBRATION).verdict
    assert verdict.label is Label.INCONCLUSIVE
    assert verdict.probability is None
    assert "too small" in verdict.reasons[0]


def test_logits_must_fit_the_faces() -> None:
    with pytest.raises(ValueError, match="1 faces were to be scored, 2 logits"):
        judge_person(Person(1, (make_face(0),)), [1.0, 2.0], CALIBRATION)


def test_clip_follows_its_most_suspicious_person() -> None:
    people = [judge([-9.0] * 20, 1), judge([8.0] * 20, 2)]
    verdict = judge_clip(people, CALIBRATION)
    assert verdict.label is Label.MANIPULATED
    assert "person 2" in verdict.reasons[-1]
    assert [p.person.id for p in by_suspicion(people)] == [2, 1]


def test_who_is_seen_too_briefly_does_not_stand_before_who_decides() -> None:
    people = [judge([9.0], 1), judge([2.0] * 20, 2), judge([-9.0] * 20, 3)]
    assert [p.person.id for p in by_suspicion(people)] == [2, 3, 1]
    assert judge_clip(people, CALIBRATION).person == 2


def test_a_face_seen_once_neither_accuses_nor_lets_the_clip_be_cleared() -> None:
    verdict = judge_clip([judge([-9.0] * 20, 1), judge([2.0], 2)], CALIBRATION)
    assert verdict.label is Label.INCONCLUSIVE
    assert verdict.person == 1
    assert "Person 2 looks manipulated" in verdict.reasons[0]
    harmless = judge_clip([judge([-9.0] * 20, 1), judge([-2.0], 2)], CALIBRATION)
    assert harmless.label is Label.NO_SIGNS


def test_the_more_people_are_judged_the_higher_the_threshold() -> None:
    strict = replace(CALIBRATION, crowd=2.0)
    alone, crowd = (
        judge_people(
            [person(20, number) for number in range(count)],
            [[4.0] * 20] + [[-4.0] * 20] * (count - 1),
            strict,
        )
        for count in (1, 9)
    )
    assert alone[0].verdict.label is Label.MANIPULATED
    assert crowd[0].verdict.label is Label.INCONCLUSIVE
    assert "9 people were looked at" in crowd[0].verdict.reasons[-1]


def test_of_two_signs_the_stronger_decides_and_is_named() -> None:
    two = replace(CALIBRATION, signs=("pasted", "drawn"))
    logits = np.tile([-3.0, 5.0], (20, 1))
    found = judge_person(person(20), logits, two).verdict
    assert found.label is Label.MANIPULATED
    assert found.signs["drawn"] == found.probability > 0.9
    assert found.signs["pasted"] == pytest.approx(1 / (1 + np.exp(1)))


def test_no_people_is_no_face() -> None:
    assert judge_clip([], CALIBRATION).label is Label.NO_FACE


def test_natural_frequencies_by_hand() -> None:
    assert count_above(to_probability(0.0, CALIBRATION), CALIBRATION) == (2, 4)
    assert count_above(0.999, CALIBRATION) == (0, 4)
