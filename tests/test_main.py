import copy
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from clips import texture, write_clip

from detector import archive
from detector.__main__ import COMMANDS, main
from detector.commands.verify import stored_settings
from detector.heatmaps import METHODS
from detector.page import MARK, NUMBER, PICTURE
from detector.report import compare, compare_heatmaps, read_report
from detector.settings import Settings
from detector.training.readers import READERS


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_jsonl_goes_on_after_a_bad_file(
    checkpoint: Path, face_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.mp4").write_text("no video", encoding="utf-8")
    write_clip(folder / "b.mp4", [texture(1, 160, 120)] * 3)
    (folder / "notes.txt").write_text("not looked at", encoding="utf-8")
    code = main([
        "scan", str(folder), str(face_video), str(tmp_path / "gone.mp4"),
        "--weights", str(checkpoint), "--jsonl", "-", "--key-frames", "4",
    ])  # fmt: skip
    bad, none, face, gone = lines(capsys)
    assert code == 1
    assert bad["error"]["code"] == "unreadable_video"
    assert none["verdict"] == "no_face"
    assert gone["error"]["code"] == "missing_file"
    assert face["schema"] == 1
    assert face["file"] == "face.mp4"
    assert set(face) >= {
        "sha256", "verdict", "probability", "interval", "reasons", "people", "key_frames",
        "video", "model", "provenance", "timings", "warnings",
    }  # fmt: skip
    assert set(face["people"][0]) >= {"id", "verdict", "probability", "interval", "faces"}
    assert set(face["people"][0]["faces"][0]) >= {"index", "time", "box", "probability"}
    assert set(face["video"]) == {
        "width", "height", "fps", "duration", "frames", "codec", "rotation"
    }  # fmt: skip


def test_readable_output(
    checkpoint: Path, face_video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["scan", str(face_video), "--weights", str(checkpoint), "--key-frames", "4"])
    assert code == 0
    text = capsys.readouterr().out
    assert text.startswith("face.mp4\n")
    assert "probability" in text


DEFAULTS = ["1 to 512 (default: 32)", "(default: auto)", "(default: default)"]
HELP = {"scan": [*DEFAULTS, *METHODS], "explain": [*DEFAULTS, *METHODS], "prepare": list(READERS)}


@pytest.mark.parametrize("command", HELP)
def test_help_names_what_can_be_chosen(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = "".join(capsys.readouterr().out.split())  # lines are broken at hyphens, too
    for expected in HELP[command]:
        assert expected.replace(" ", "") in text


def test_explain_none_is_no_map(
    checkpoint: Path, face_video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = ["--weights", str(checkpoint), "--key-frames", "2"]
    assert main(["scan", str(face_video), *weights, "--explain", "none", "--jsonl", "-"]) == 0
    (report,) = lines(capsys)
    assert report["settings"]["explain"] is None


def test_report_and_verify(
    checkpoint: Path, face_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "reports"
    main([
        "scan", str(face_video), "--weights", str(checkpoint), "--key-frames", "4",
        "--report", str(folder), "--explain", "gradcam",
    ])  # fmt: skip
    inside = {p.name for p in (folder / "face.mp4").iterdir()}
    assert {"report.json", "report.html", "gradcam.png", "gradcam.npy"} <= inside
    report = folder / "face.mp4" / "report.json"
    written = json.loads(report.read_text(encoding="utf-8"))
    assert len(written["stress"]["trials"]) == 6
    assert written["made"]["maps"] == "gradcam"
    assert read_report(report.with_suffix(".html")) == read_report(report)
    assert main(["verify", str(report), str(face_video)]) == 0
    other = write_clip(tmp_path / "other.mp4", [texture(1, 160, 120)] * 3)
    assert main(["verify", str(report), str(other)]) == 1
    assert "Differs: the clip's content" in capsys.readouterr().out


def test_explain(
    checkpoint: Path, face_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([
        "explain", str(face_video), "--weights", str(checkpoint), "--key-frames", "4",
        "--method", "gradcam++", "--time", "0.5", "--out", str(tmp_path), "--json", "-",
        "--whole-person",
    ])  # fmt: skip
    (answer,) = lines(capsys)
    assert code == 0
    assert Path(answer["map"]).is_file()
    assert Path(answer["picture"]).is_file()
    assert Path(answer["person_picture"]).is_file()
    assert set(answer["trust"]) >= {
        "deletion", "deletion_random", "insertion", "insertion_random", "agreement", "stability",
        "reliable",
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ["scan", "x.mp4", "--key-frames", "0"],
        ["scan", "x.mp4", "--model", "nobody"],
        ["explain", "x.mp4", "--method", "crystal-ball", "--out", "x"],
    ],
    ids=lambda a: a[-1],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert main(arguments) == 2


def test_unknown_option_is_2() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["scan", "x.mp4", "--colour", "blue"])
    assert caught.value.code == 2


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_weights_list_and_verify(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "list", "--json", "-"]) == 0
    (listed,) = lines(capsys)
    needs = {model["name"]: model["needs"] for model in listed["models"]}
    assert needs["xception"] == "python -m detector train xception --data DIR --out RUN"
    assert needs["efficientnet_lite2"] is None
    assert main(["weights", "list"]) == 0
    shown = capsys.readouterr().out
    assert f"      needs {needs['xception']}\n" in shown
    assert re.search(r"video AUC: 0\.\d\d \(0\.\d\d to [01]\.\d\d\)\n", shown)
    assert re.search(r"real clips called manipulated: \d+ of \d+ \(\d+% to \d+%\)\n", shown)
    assert main(["weights", "verify", str(checkpoint)]) == 0
    assert "sound" in capsys.readouterr().out


def test_nothing_but_json_on_standard_output(checkpoint: Path, face_video: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "detector", "scan", str(face_video), "--weights", str(checkpoint),
         "--jsonl", "-", "--key-frames", "2"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert [json.loads(line)["schema"] for line in done.stdout.splitlines()] == [1]


@pytest.fixture(scope="module")
def report(checkpoint: Path, face_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a clip with one face."""
    folder = tmp_path_factory.mktemp("report")
    given = ["scan", str(face_video), "--weights", str(checkpoint), "--key-frames", "3"]
    assert main([*given, "--report", str(folder), "--explain", "gradcam"]) == 0
    return folder / "face.mp4" / "report.json"


def set_at(report: dict, place: str, value: object) -> None:
    """Put a value where `place` says, as in people.0.interval.1."""
    *path, last = [int(p) if p.isdigit() else p for p in place.split(".")]
    for part in path:
        report = report[part]
    report[last] = value


FORGERIES = [
    ("verdict", "no_signs"), ("probability", 0.01), ("interval", [0.0, 0.02]),
    ("interval.1", 0.9999), ("reasons", ["Nothing suspicious."]), ("people", []),
    ("people.0.probability", 0.01), ("people.0.verdict", "no_signs"),
    ("people.0.interval.0", 0.0), ("people.0.reasons", []), ("people.0.faces.1.probability", 0.0),
    ("people.0.faces.0.time", 0.9), ("people.0.faces.0.box.0", 0), ("people.0.id", 7),
    ("key_frames.1.index", 0), ("key_frames.1.difference", 99.0), ("video.duration", 3.0),
    ("video.width", 1920), ("video.codec", "av1"), ("model.name", "xception"),
    ("model.calibrated", False), ("model.thresholds.lower", 0.1), ("model.thresholds.upper", 0.9),
    ("provenance.signer", "The Times"), ("provenance.content_credentials", "valid"),
    ("provenance.container", {"encoder": "a camera"}), ("warnings", ["All is well."]),
    ("stress.holds", None), ("stress.trials.1.probability", 1.5), ("stress.trials", []),
    ("added", "by a stranger"), ("settings.added", 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def fresh(report: Path) -> dict:
    """What a fresh scan gives: the same."""
    return json.loads(report.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("place", "value"), FORGERIES, ids=lambda v: str(v)[:30])
def test_a_forged_figure_is_found(fresh: dict, place: str, value: object) -> None:
    forged = copy.deepcopy(fresh)
    assert compare(forged, fresh) == []
    set_at(forged, place, value)
    (difference, *_) = compare(forged, fresh)
    assert difference.startswith(" ".join(place.split(".")[:1]))


@pytest.mark.parametrize("value", [None, "x", 1e999, True, [], {}, -1, 10**18], ids=str)
@pytest.mark.parametrize(
    "place",
    ["settings", "settings.key_frames", "settings.max_pixels", "settings.model", "settings.mirror",
     "model", "model.sha256", "probability", "people", "people.0.faces", "interval", "schema",
     "key_frames", "sha256", "made", "made.when", "stress", "stress.trials"],
)  # fmt: skip
def test_wrong_types_in_a_report_give_an_error_with_a_code(
    report: Path, fresh: dict, tmp_path: Path, place: str, value: object,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    forged = copy.deepcopy(fresh)
    set_at(forged, place, value)
    path = tmp_path / "forged.json"
    path.write_text(json.dumps(forged), encoding="utf-8")
    monkeypatch.setattr(archive, "scan", lambda *_, **__: None)
    monkeypatch.setattr(archive, "to_json", lambda _: fresh)
    monkeypatch.setattr(archive, "_run_stress_test", lambda *_: ((), None))
    monkeypatch.setattr(archive, "stress_json", lambda _: fresh["stress"])
    code = main(["verify", str(path), "clip.mp4"])
    told = capsys.readouterr()
    assert code != 0
    assert "internal" not in told.err


@pytest.fixture
def computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first `verify` scans, tests and explains its clip; the next ones get the same results."""
    for name in ("scan", "_run_stress_test", "explain_telling_faces"):
        monkeypatch.setattr(archive, name, once(getattr(archive, name)))


def once(compute: Callable[..., object]) -> Callable[..., object]:
    """The function's first result, whatever it is called with later."""
    results: list[object] = []

    def call(*given: object, **named: object) -> object:
        if not results:
            results.append(compute(*given, **named))
        return results[0]

    return call


@pytest.mark.parametrize(
    ("place", "change", "found"),
    [("trust.stability", 0.09, False), ("trust.stability", -0.3, True),
     ("regions.nose", 0.04, False), ("regions.nose", 0.2, True), ("index", 1, True)],
)  # fmt: skip
def test_a_heatmaps_figures_may_differ_as_between_processors_and_no_more(
    fresh: dict, place: str, change: float, found: bool
) -> None:
    told = copy.deepcopy(fresh)
    assert compare_heatmaps(told, fresh["heatmaps"]) == []
    *path, last = place.split(".")
    figures = told["heatmaps"][0][path[0]] if path else told["heatmaps"][0]
    figures[last] += change
    differences = compare_heatmaps(told, fresh["heatmaps"])
    assert bool(differences) is found
    assert all(line.startswith(f"heatmap 1 {place.replace('.', ' ')}") for line in differences)


def test_a_heatmap_at_the_limit_of_reliability_may_lie_beyond_it_on_another_processor() -> None:
    def figures(stability: float, reliable: bool | None) -> list[dict]:
        return [{"sign": "pasted", "trust": {"stability": stability, "reliable": reliable}}]

    assert compare_heatmaps({"heatmaps": figures(0.49, False)}, figures(0.51, None)) == []
    assert compare_heatmaps({"heatmaps": figures(0.49, None)}, figures(0.49, False)) != []
    assert compare_heatmaps({"heatmaps": figures(0.2, False)}, figures(0.8, None)) != []
    assert compare_heatmaps({"heatmaps": [{"sign": "pasted"}]}, figures(0.8, None)) != []
    assert compare_heatmaps({"heatmaps": [None]}, figures(0.8, None)) != []


@pytest.mark.usefixtures("computed_once")
def test_verify_finds_a_heatmap_that_is_called_reliable(
    report: Path, fresh: dict, face_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = copy.deepcopy(fresh)
    figures = told["heatmaps"][0]["trust"]
    figures["reliable"] = not figures["reliable"]
    path = tmp_path / "report.json"
    path.write_text(json.dumps(told), encoding="utf-8")
    assert main(["verify", str(report), str(face_video)]) == 0
    assert main(["verify", str(path), str(face_video)]) == 1
    assert "Differs: heatmap 1 trust reliable" in capsys.readouterr().out


@pytest.mark.usefixtures("computed_once")
@pytest.mark.parametrize(("by", "code"), [(2, 0), (9, 1)])
def test_a_mark_may_lie_a_little_elsewhere(
    report: Path, face_video: Path, tmp_path: Path, by: int, code: int
) -> None:
    page = report.with_suffix(".html").read_text(encoding="utf-8")
    mark = MARK.findall(page)[0]
    left = int(NUMBER.findall(mark)[0])
    moved = mark.replace(f"left:{left}%", f"left:{left + by}%")
    path = tmp_path / "report.html"
    path.write_text(page.replace(mark, moved, 1), encoding="utf-8")
    assert main(["verify", str(path), str(face_video)]) == code


@pytest.mark.usefixtures("computed_once")
def test_a_forged_page_is_found(
    report: Path, face_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = report.with_suffix(".html").read_text(encoding="utf-8")
    pictures = PICTURE.findall(page)
    for number, forged in enumerate([
        page.replace("<b>", "<b>Genuine: ", 1),
        page.replace(pictures[0], pictures[1], 1),
        page.replace(pictures[-1], pictures[0], 1),
        page.replace("</body>", "<script>document.body.innerHTML = ''</script></body>"),
    ]):  # fmt: skip
        assert forged != page
        path = tmp_path / f"{number}.html"
        path.write_text(forged, encoding="utf-8")
        assert main(["verify", str(path), str(face_video)]) == 1
        assert "Differs: the page" in capsys.readouterr().out


def test_limits_of_a_report_cannot_exceed_the_defaults() -> None:
    stored = stored_settings({"max_pixels": 10**12, "max_decode_time": 5}, None)
    assert stored.max_pixels == Settings().max_pixels
    assert stored.max_decode_time == 5


def test_a_traceback_is_in_the_log_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def fail(_: object) -> int:
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(COMMANDS["scan"][0], "run", fail)
    log = tmp_path / "log.txt"
    handlers = list(logging.getLogger().handlers)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    try:
        assert main(["--log", str(log), "scan", "x.mp4"]) == 1
        for handler in logging.getLogger().handlers:
            handler.close()
    finally:
        monkeypatch.setattr(logging.getLogger(), "handlers", handlers)
    told = capsys.readouterr()
    assert "[internal]" in told.err
    assert "Traceback" not in told.err + told.out
    assert "Traceback" in log.read_text(encoding="utf-8")
    caplog.clear()


def test_a_closed_pipe_is_no_internal_error() -> None:
    program = [sys.executable, "-m", "detector", "weights", "list"]
    told = subprocess.run(
        ["sh", "-c", 'exec "$@" | true', "sh", *program], capture_output=True, text=True, check=True
    )
    assert "internal" not in told.stderr
