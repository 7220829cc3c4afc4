"""What the page is told, step by step, without a browser."""

import csv
import io
import json
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from codes import raises_code
from scans import make_scan

from detector.errors import UserError
from detector.interface import checks
from detector.interface.background import Moment, follow
from detector.interface.detectors import DETECTORS
from detector.interface.sessions import Entry, Visit, uploaded
from detector.records import Label, Scan
from detector.scoring import Detector
from detector.settings import Progress
from detector.stress import Trial, stress


@pytest.fixture
def visit(detector: Detector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Visit]:
    """Someone who had a clip of two people and a picture checked."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setitem(DETECTORS._loaded, "default", detector)
    visit = Visit(run=1)
    visit.entries = [
        Entry(tmp_path / "a.mp4", "=a.mp4", scan=make_scan(people=2, frames=4)),
        Entry(tmp_path / "b.jpg", "b.jpg", scan=make_scan(frames=1, probability=0.5)),
        Entry(tmp_path / "c.mp4", "c.mp4", error=UserError("no_frames", "Nothing decodes.")),
    ]
    visit.open = visit.entries[0]
    yield visit
    visit.clear()


def test_after_the_verdict_come_maps_stress_test_and_their_own_test(visit: Visit) -> None:
    entry = visit.entries[0]
    (drawn,) = checks.draw_maps(visit, "gradcam")
    assert drawn["faces"].count('class="plate') >= 2
    tested, others = checks.run_stress(visit)
    assert "holds" not in others
    assert all(each.trials for each in visit.entries if each.scan is not None)
    assert entry.trials is not None
    assert len(entry.trials) == 6
    assert "Being put to the test" not in tested["table"]["card"]
    assert "mirrored" in tested["holds"]
    *_, proved = checks.test_maps(visit, "gradcam")
    assert "is being tested" not in proved["faces"]
    assert all(made["gradcam"].trust for made in entry.maps.values())


def test_a_picked_face_is_shown_at_once_and_tested_next(visit: Visit) -> None:
    testing = checks.test_maps(visit, "gradcam")
    assert "Person 2 at 0.40 s" not in next(testing)["faces"]
    picked = checks.choose_face(visit, 10, 2, "gradcam")
    assert "Person 2 at 0.40 s" in picked["faces"]
    next(testing)
    assert visit.entries[0].maps[10, 2]["gradcam"].trust


def test_a_report_waits_for_the_stress_test(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Scan] = []

    def slow(found: Scan, detector: object) -> object:
        runs.append(found)
        time.sleep(0.3)
        return stress(found, detector)

    monkeypatch.setattr(checks, "stress", slow)
    beside = threading.Thread(target=lambda: list(checks.run_stress(visit)))
    beside.start()
    shown = checks.write_files(visit, "gradcam", "")
    beside.join()
    assert len(runs) == 2  # each of the two scanned files once
    for text in (Path(name).read_text(encoding="utf-8") for name in shown["files"][:2]):
        assert "re-encoded hard" in text
    with zipfile.ZipFile(shown["archive"][1]) as packed:
        reports = [json.loads(packed.read(n)) for n in packed.namelist() if n.endswith(".json")]
    assert [len(report["stress"]["trials"]) for report in reports] == [6, 6]


def test_a_verdict_that_falls_changes_label_sentence_and_report(visit: Visit) -> None:
    entry = visit.entries[0]
    assert entry.scan is not None
    entry.trials = (
        Trial("as it is", 0.9, Label.MANIPULATED), Trial("mirrored", 0.4, Label.INCONCLUSIVE)
    )  # fmt: skip
    entry.tested = replace(entry.scan.verdict, label=Label.INCONCLUSIVE)
    shown = checks.show_entry(visit)
    assert '<div class="card inconclusive">' in shown["table"]["card"]
    assert "inconclusive" in shown["sentence"]
    files = checks.write_files(visit, "gradcam", "")["files"]
    report = json.loads(Path(files[1]).read_text(encoding="utf-8"))
    assert report["stress"]["holds"] is False
    assert report["stress"]["verdict"] == "inconclusive"


def test_frames_are_told_with_the_verdict_only(visit: Visit) -> None:
    assert len(checks.show_entry(visit)["table"]["frames"]) == 4
    assert "frames" not in checks.view(visit)
    people = checks.view(visit)["people"]
    assert [p["id"] for p in people] == [1, 2]
    assert people[0]["runs"] == [1, 1, 1, 1]
    assert people[0]["boxes"][0] == [40, 40, 120, 140]


def test_reports_of_several_files(visit: Visit) -> None:
    shown = checks.write_files(visit, "gradcam", "seen in a chat")
    page, report, captions = map(Path, shown["files"])
    assert "seen in a chat" in page.read_text(encoding="utf-8")
    assert json.loads(report.read_text(encoding="utf-8"))["file"] == "=a.mp4"
    assert captions.read_text(encoding="utf-8").startswith("WEBVTT")
    table, packed = map(Path, shown["archive"])
    rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"))))
    assert [row["file"] for row in rows] == ["'=a.mp4", "b.jpg", "c.mp4"]
    assert rows[2]["verdict"] == "error"
    with zipfile.ZipFile(packed) as archive:
        assert len(archive.namelist()) == 6
        reports = {n: json.loads(archive.read(n)) for n in archive.namelist() if n.endswith("json")}
    for name, told in reports.items():
        assert Path(name).name == told["made"]["report"]  # which the page's command names
        assert told["made"]["note"] == ("seen in a chat" if told["file"] == "=a.mp4" else "")
    folder = visit.folder
    visit.clear()
    assert folder is not None
    assert not folder.exists()


def test_nothing_is_shown_of_a_file_that_is_no_longer_open(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = checks._write_entry

    def open_another(*arguments: Any) -> list[str]:
        checks.open_row(visit, 1)
        return write(*arguments)

    monkeypatch.setattr(checks, "_write_entry", open_another)
    assert checks.write_files(visit, "gradcam", "") == {}


def test_a_new_check_amid_writing_is_no_error(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = checks._write_entry

    def begin_another(*arguments: Any) -> list[str]:
        visit.begin(2, "en", "default")
        return write(*arguments)

    monkeypatch.setattr(checks, "_write_entry", begin_another)
    assert checks.write_files(visit, "gradcam", "") == {}


def test_an_answer_that_does_not_hold_says_so_in_the_table(visit: Visit) -> None:
    entry = visit.entries[0]
    assert entry.scan is not None
    assert "It does not hold" not in checks.view(visit)["desk"]
    entry.trials = (
        Trial("as it is", 0.9, Label.MANIPULATED), Trial("mirrored", 0.4, Label.INCONCLUSIVE)
    )  # fmt: skip
    entry.tested = replace(entry.scan.verdict, label=Label.INCONCLUSIVE)
    assert "It does not hold" in checks.view(visit)["desk"]


def test_the_row_that_was_opened_stays_open(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned = {entry.name: entry for entry in visit.entries}

    def check_one(visit: Visit, entry: Entry, *_: object) -> Iterator[dict[str, Any]]:
        entry.scan = scanned[entry.name].scan
        yield checks.show_entry(visit)

    monkeypatch.setattr(checks, "_check_one", check_one)
    fresh = [Entry(each.path, each.name) for each in reversed(visit.entries[:2])]
    monkeypatch.setattr(checks, "take_files", lambda _: list(fresh))
    for _ in checks.check(visit, {"run": 2}, "default", 4):
        pass
    assert visit.open is fresh[1]  # the most suspicious one
    for _ in checks.check(visit, {"run": 3}, "default", 4):
        checks.open_row(visit, 0)
    assert visit.open is fresh[0]


def test_a_row_opens_its_file(visit: Visit) -> None:
    assert "b.jpg" in checks.open_row(visit, 1)["table"]["card"]
    assert "Nothing decodes" in checks.open_row(visit, 2)["table"]["card"]
    assert checks.open_row(visit, 9) == {}


def test_a_cancelled_check_is_left_within_a_second() -> None:
    stopped = [False]

    def work(progress: Progress) -> Iterator[int]:
        yield 1
        time.sleep(3)
        yield 2

    parts = follow(work, lambda: stopped[0])
    assert next(part for part in parts if not isinstance(part, Moment)) == 1
    stopped[0] = True
    began = time.monotonic()
    with raises_code("cancelled"):
        list(parts)
    assert time.monotonic() - began < 1


def test_an_older_check_is_silent_once_a_newer_one_began() -> None:
    visit = Visit()
    first = visit.begin(1, "en", "default")
    assert not first()
    second = visit.begin(2, "en", "default")
    assert first()
    assert not second()
    visit.stopped = 2
    assert second()
    assert list(checks.check(visit, {"run": 2, "example": "genuine"}, "default", 8)) == []


def test_what_cannot_be_checked_is_told_at_once() -> None:
    for asked, frames in (({"example": "../../secret"}, 8), ({"example": "genuine"}, 0)):
        (shown,) = checks.check(Visit(), {"run": 1, **asked}, "default", frames)
        assert shown["table"]["state"] == "error"
        assert shown["faces"] == ""


def test_only_uploads_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    for outside in ("/etc/hostname", f"{tmp_path}/uploads/../secret.mp4"):
        with raises_code("missing_file"):
            uploaded(outside)
    assert uploaded(f"{tmp_path}/uploads/a.mp4") == tmp_path / "uploads" / "a.mp4"
