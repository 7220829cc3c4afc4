"""The examples' answers that are kept: the same as a fresh scan's, and for the very files alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clips import face_clip, write_clip

from detector import answers
from detector.answers import OutdatedError, keep_answer, recall
from detector.interface import checks
from detector.interface.sessions import Visit
from detector.pipeline import scan, scan_in_stages
from detector.records import Label
from detector.scoring import Detector
from detector.settings import Settings
from detector.stress import Trial
from detector.weights import resolve_weights

TRIALS = (Trial("as it is", 0.9, Label.MANIPULATED), Trial("mirrored", 0.4, Label.INCONCLUSIVE))


@pytest.fixture
def kept(
    detector: Detector, checkpoint: Path, face_video: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Path, Any]:  # fmt: skip
    """A clip's kept answer, and the scan that it was made of."""
    monkeypatch.setattr(
        answers, "resolve_weights", lambda _: resolve_weights("default", checkpoint)
    )
    found = scan(face_video, detector=detector)
    path = tmp_path / "answers.json"
    stored = {"weights": detector.info.sha256, "answers": {"face": keep_answer(found, TRIALS)}}
    path.write_text(json.dumps(stored), encoding="utf-8")
    return path, found


def test_a_kept_answer_is_that_of_a_scan(kept: tuple[Path, Any], face_video: Path) -> None:
    path, found = kept
    known = recall(path, "face", face_video, Settings())
    assert known is not None
    assert known.trials == TRIALS
    *_, last = scan_in_stages(face_video, detector=known, finder=known)
    again = last.scan
    assert again is not None
    assert again.verdict.label is found.verdict.label
    assert again.verdict.probability == pytest.approx(found.verdict.probability, abs=1e-4)
    assert [s.face.box for s in again.people[0].scores] == [
        s.face.box for s in found.people[0].scores
    ]
    with pytest.raises(OutdatedError):
        list(known.find(found.key_frames[1:]))


def test_a_kept_answer_is_for_the_very_file_weights_and_settings(
    kept: tuple[Path, Any], face_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = kept
    other = write_clip(tmp_path / "other.mp4", face_clip()[:5])
    assert recall(path, "face", other, Settings()) is None
    assert recall(path, "face", face_video, Settings(key_frames=8)) is None
    assert recall(path, "nobody", face_video, Settings()) is None
    assert recall(tmp_path / "none.json", "face", face_video, Settings()) is None
    monkeypatch.undo()
    assert recall(path, "face", face_video, Settings(model="nobody")) is None
    monkeypatch.setattr(
        answers, "resolve_weights",
        lambda _: replace(resolve_weights("default"), sha256="0"),
    )  # fmt: skip
    assert recall(path, "face", face_video, Settings()) is None


def test_the_page_gives_a_kept_answer_at_once_and_says_so(
    kept: tuple[Path, Any], face_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged_anew(name: str) -> None:
        raise AssertionError(name)

    shutil.copy(face_video, tmp_path / "face.mp4")
    monkeypatch.setattr(checks, "EXAMPLES", tmp_path)
    monkeypatch.setattr(checks, "ANSWERS", kept[0])
    monkeypatch.setattr(checks.SharedDetector, "of", judged_anew)
    visit = Visit()
    *_, last = checks.check(visit, {"run": 1, "example": "face"}, "default", 32)
    assert last["table"]["state"] == "done"
    assert "Worked out beforehand" in last["table"]["card"]
    assert "Being put to the test" not in last["table"]["card"]
    assert visit.entries[0].trials == TRIALS
