from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from clips import other_portrait, portrait

from detector import scoring
from detector.report import TOLERANCE, compare, to_text
from detector.verdict import median_probability
from detector.weights import load_detector

REPORT: dict[str, Any] = {
    "schema": 1, "file": "clip.mp4", "sha256": "0", "verdict": "manipulated", "probability": 0.93,
    "interval": [0.9, 0.96], "signs": {"pasted": 0.93, "drawn": 0.04}, "person": 1, "reasons": [],
    "people": [
        {"id": 1, "verdict": "manipulated", "probability": 0.93, "interval": [0.9, 0.96],
         "signs": {"pasted": 0.93, "drawn": 0.04}, "reasons": [], "faces": []},
    ],
    "model": {"sha256": "1"}, "warnings": [],
}  # fmt: skip


def test_signs_are_told_in_words() -> None:
    assert "Signs of a face pasted in 0.93, of a generated face 0.04" in to_text(REPORT)
    single = {**REPORT, "signs": {"pasted": 0.93}}
    assert "Signs of a face pasted in" not in to_text(single)


def test_a_persons_signs_may_differ_by_rounding_and_no_more() -> None:
    rounded, edited = deepcopy(REPORT), deepcopy(REPORT)
    rounded["people"][0]["signs"]["drawn"] = 0.0405
    edited["people"][0]["signs"]["drawn"] = 0.4
    assert compare(rounded, REPORT) == []
    assert compare(edited, REPORT) == ["people 1 signs drawn: 0.4 then, 0.04 now"]


def test_an_error_is_told_with_its_code() -> None:
    failed = {"file": "a.mp4", "error": {"code": "empty_file", "message": "a.mp4 is empty."}}
    assert to_text(failed) == "a.mp4\n  a.mp4 is empty. [empty_file]"


def test_several_people_doubts_and_warnings_are_told() -> None:
    many = deepcopy(REPORT)
    many["people"][0]["faces"] = [{"time": 0.5}, {"time": 2.25}]
    many["people"].append({**many["people"][0], "id": 2, "verdict": "no_signs"})
    many["stress"] = {"holds": False, "verdict": "inconclusive"}
    many["warnings"] = ["The clip is interlaced."]
    lines = to_text(many).splitlines()
    assert lines[0] == "clip.mp4"
    assert "  It does not hold when the file is altered: Inconclusive." in lines
    assert any(
        line.startswith("  person 2, 2 faces from 0.5 s to 2.2 s: No signs") for line in lines
    )
    assert lines[-1] == "  Note: The clip is interlaced."


def test_processors_with_bf16_and_without_agree_within_what_verify_tolerates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the embedded detector, for single faces and for a person of four."""
    faces = [portrait()[:260, 100:360], other_portrait()[40:400, 80:440]]
    crops = [np.ascontiguousarray(face[:, ::step]) for face in faces for step in (1, -1)]
    detector = load_detector(device="cpu")
    answers = []
    for half in (False, True):
        monkeypatch.setattr(scoring, "has_fast_half", lambda _, half=half: half)
        answers.append(detector.score_signs(crops))
    assert not np.array_equal(*answers)
    for part in ([0], [1], [2], [3], [0, 1, 2, 3]):
        one, other = (median_probability(a[part], detector.calibration) for a in answers)
        assert one == pytest.approx(other, abs=TOLERANCE)
