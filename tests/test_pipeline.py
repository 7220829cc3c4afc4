import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import portrait, texture, write_clip
from codes import raises_code

from detector.cards import Answer
from detector.errors import UserError
from detector.page import full_json, to_page, write_report
from detector.pipeline import find_face, scan
from detector.records import Label
from detector.report import compare, read_report, to_json
from detector.scoring import Detector
from detector.settings import Settings


def test_scan_from_end_to_end(detector: Detector, face_video: Path) -> None:
    stages: list[tuple[str, float]] = []
    found = scan(
        face_video, Settings(key_frames=8), detector=detector,
        progress=lambda stage, fraction: stages.append((stage, fraction)),
    )  # fmt: skip
    assert len(found.key_frames) == 8
    (person,) = found.people
    assert len(person.scores) == 8
    assert found.verdict.probability == person.verdict.probability
    assert {s for s, _ in stages} == {"key frames", "faces", "scores"}
    assert all(0 <= f <= 1 for _, f in stages)
    assert set(found.timings) == {"decode", "faces", "scores", "total"}
    assert found.curve.times.shape == (40,)


def test_scan_is_repeatable(detector: Detector, face_video: Path) -> None:
    first, second = (
        to_json(scan(face_video, Settings(key_frames=4), detector=detector)) for _ in range(2)
    )
    first.pop("timings"), second.pop("timings")
    assert first == second


def test_no_face(detector: Detector, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "none.mp4", [texture(1, 320, 240)] * 5)
    found = scan(path, detector=detector)
    assert found.verdict.label is Label.NO_FACE
    assert found.verdict.probability is None
    with raises_code("no_face_at_time"):
        find_face(found)


def test_still_image(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "still.png"
    cv2.imwrite(str(path), portrait()[..., ::-1])
    found = scan(path, detector=detector)
    assert len(found.people) == 1


def test_cancelling_stops_and_leaves_nothing(
    detector: Detector, face_video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def cancel(stage: str, fraction: float) -> None:
        if stage == "faces":
            raise UserError("cancelled", "Cancelled.")

    with raises_code("cancelled"):
        scan(face_video, detector=detector, progress=cancel)
    assert list(tmp_path.iterdir()) == []


def test_report_round_trip(detector: Detector, face_video: Path, tmp_path: Path) -> None:
    found = scan(face_video, Settings(key_frames=4), detector=detector)
    written = full_json(Answer(found, "face.mp4"), language="en", file="report.json")
    write_report(found, written, tmp_path / "report", {})
    report = read_report(tmp_path / "report" / "report.json")
    assert report == written
    assert compare(report, to_json(found)) == []
    report["probability"] = 0.9999
    assert "probability" in compare(report, to_json(found))[0]
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "data:image/" in page
    assert "http" not in page


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 1}', "nonsense"])
def test_bad_reports_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content, encoding="utf-8")
    with raises_code("bad_report"):
        read_report(path)


def test_page_escapes_what_the_clip_says(detector: Detector, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "<b>&.mp4", [texture(1, 320, 240)] * 2)
    found = scan(path, detector=detector)
    report = full_json(Answer(found, path.name), language="en", file="report.json")
    page = to_page(found, report, {})
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;.mp4" in page


def test_boxes_are_in_full_frame_pixels(detector: Detector, tmp_path: Path) -> None:
    big = cv2.resize(portrait(), (2048, 2048), interpolation=cv2.INTER_CUBIC)
    path = tmp_path / "big.png"
    cv2.imwrite(str(path), big[..., ::-1])
    (person,) = scan(path, detector=detector).people
    left, top, right, bottom = person.person.faces[0].box
    assert np.allclose([left, top, right, bottom], [712, 248, 1080, 720], atol=60)


def test_answers_are_the_same_on_any_number_of_threads(
    detector: Detector, face_video: Path
) -> None:
    alone, beside = (
        scan(face_video, Settings(key_frames=9, threads=count), detector=detector)
        for count in (1, 3)
    )
    assert len(alone.people) == len(beside.people) == 1
    for one, other in zip(alone.people[0].scores, beside.people[0].scores, strict=True):
        assert one.face.box == other.face.box
        assert one.probability == pytest.approx(other.probability, abs=1e-3)
