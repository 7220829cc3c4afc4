import json
import operator
import os
import shutil
import sys
from pathlib import Path

import pytest
from clips import texture, write_clip

from detector import archive
from detector.__main__ import main
from detector.archive import shorten_names
from detector.errors import UserError
from detector.settings import Settings
from detector.workers import map_jobs


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_come_in_order(workers: int) -> None:
    """The function is one that a new process imports quickly."""
    assert list(map_jobs(operator.neg, range(20), workers=workers)) == [-n for n in range(20)]


def test_an_archive_over_ray(
    checkpoint: Path, face_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        (tmp_path / "bad.mp4").write_text("no video", encoding="utf-8")
        given = [str(face_video), str(tmp_path), str(tmp_path / "missing")]
        options = ["--weights", str(checkpoint), "--key-frames", "3", "--jsonl", "-"]
        assert main(["scan", *given, *options, "--ray"]) == 1
        there = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert main(["scan", *given, *options]) == 1
        here = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    finally:
        ray.shutdown()
    assert len(there) == len(here) == 3
    assert there[0]["verdict"] == here[0]["verdict"]
    assert [r["error"]["code"] for r in there[1:]] == ["unreadable_video", "missing_file"]


def test_many_files_are_spread_over_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def watch(
        function: object, jobs: list[archive.ScanJob], *, workers: int, ray: bool
    ) -> list[object]:
        asked.append((workers, jobs[0].settings.threads))
        return []

    monkeypatch.setattr(archive, "map_jobs", watch)
    monkeypatch.setattr(archive, "count_cores", lambda: 3)
    monkeypatch.setattr(archive, "_load", lambda settings: None)
    for count in (11, 12):
        list(archive.scan_files([f"{n}.mp4" for n in range(count)], Settings()))
    assert asked == [(1, 0), (3, 1)]


def test_ray_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.util.multiprocessing", None)
    with pytest.raises(UserError) as caught:
        list(map_jobs(operator.neg, [1], ray=True))
    assert "requirements-ray.txt" in caught.value.message


def scan_lines(
    given: list[str], checkpoint: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> list[dict]:
    main(["scan", *given, "--weights", str(checkpoint), "--key-frames", "2", "--jsonl", "-", *more])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_files_of_one_name_are_told_apart(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, folder in enumerate(("a", "b", "deep/a")):
        (tmp_path / folder).mkdir(parents=True)
        write_clip(tmp_path / folder / "x.mp4", [texture(number, 160, 120)] * 2)
    write_clip(tmp_path / "y.mp4", [texture(9, 160, 120)] * 2)
    out = tmp_path / "out"
    reports = scan_lines([str(tmp_path)], checkpoint, capsys, "--report", str(out))
    assert [r["file"] for r in reports] == [
        f"{tmp_path.name}/a/x.mp4", "b/x.mp4", "deep/a/x.mp4", "y.mp4"
    ]  # fmt: skip
    for report in reports:
        written = json.loads((out / report["file"] / "report.json").read_text(encoding="utf-8"))
        assert written["sha256"] == report["sha256"]
    assert len({r["sha256"] for r in reports}) == 4


def test_names_are_as_short_as_they_can_be() -> None:
    paths = ["/a/x.mp4", "/b/x.mp4", "/b/y.mp4", "/B/Y.MP4", "/a/x.mp4", "/z.mp4"]
    assert shorten_names([Path(p) for p in paths]) == [
        "a/x.mp4", "b/x.mp4", "b/y.mp4", "B/Y.MP4", "a/x.mp4", "z.mp4"
    ]  # fmt: skip


def test_an_unexpected_exception_is_internal_and_the_rest_goes_on(
    checkpoint: Path, face_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(face_video.read_bytes())
    honest = archive.scan

    def scan(clip: Path, *given: object, **named: object) -> object:
        if clip == bad:
            raise ZeroDivisionError("the secret of the traceback")
        return honest(clip, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(archive, "scan", scan)
    failed, done = scan_lines([str(bad), str(face_video)], checkpoint, capsys)
    assert failed["error"]["code"] == "internal"
    assert "secret" not in failed["error"]["message"]
    assert done["schema"] == 1
    assert "error" not in done
    (record,) = caplog.records
    assert record.exc_info is not None
    caplog.clear()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "missing_file"),
        ("x" * 300 + ".mp4", "missing_file"),
        ("\udcff.mp4", "unreadable_video"),
    ],
    ids=["empty", "long", "no UTF-8"],
)
def test_odd_names_do_not_stop_the_rest(
    checkpoint: Path, face_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    name: str, code: str,
) -> None:  # fmt: skip
    given = name
    if code == "unreadable_video":
        given = os.fsdecode(os.fsencode(tmp_path) + b"/" + os.fsencode(name))
        Path(given).write_text("no video", encoding="utf-8")
    odd, done = scan_lines([given, str(face_video)], checkpoint, capsys)
    assert odd["error"]["code"] == code
    assert "error" not in done


def test_a_clip_whose_name_is_not_utf8_has_a_report(
    checkpoint: Path, face_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    shutil.copy(face_video, path)
    out = tmp_path / "out"
    given = ["scan", os.fsdecode(path), "--weights", str(checkpoint), "--key-frames", "2"]
    assert main([*given, "--report", str(out)]) == 0
    assert "caf\\xe9.mp4" in capsys.readouterr().out
    assert (out / "caf\\xe9.mp4" / "report.json").is_file()


def test_an_unreadable_folder_is_reported_and_the_rest_goes_on(
    checkpoint: Path, face_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "closed").mkdir()
    (tmp_path / "open").mkdir()
    shutil.copy(face_video, tmp_path / "open" / "face.mp4")
    honest = os.scandir

    def scandir(path: str) -> object:
        if os.path.basename(path) == "closed":
            raise PermissionError(13, "Permission denied", path)
        return honest(path)

    monkeypatch.setattr(os, "scandir", scandir)
    done, closed = scan_lines([str(tmp_path)], checkpoint, capsys)
    assert done["file"] == "face.mp4"
    assert closed["file"] == "closed"
    assert closed["error"]["code"] == "no_permission"


def test_an_unwritable_report_is_noticed_before_the_scan(
    checkpoint: Path, face_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(archive, "scan", lambda *_, **__: pytest.fail("scanned"))
    (tmp_path / "file").touch()
    given = ["scan", str(face_video), "--weights", str(checkpoint)]
    assert main([*given, "--report", str(tmp_path / "file" / "out")]) == 1
    assert "[no_permission]" in capsys.readouterr().err
