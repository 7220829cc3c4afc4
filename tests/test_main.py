import json
import subprocess
import sys
from pathlib import Path

import pytest
from clips import texture, write_clip

from detector.__main__ import COMMANDS, main
from detector.errors import CODES


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_jsonl_goes_on_after_a_bad_file(
    checkpoint: Path, face_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.mp4").write_text("no video")
    write_clip(folder / "b.mp4", [texture(1, 160, 120)] * 3)
    (folder / "notes.txt").write_text("not looked at")
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
    assert "efficientnet_lite0" in {m["name"] for m in listed["models"]}
    assert main(["weights", "verify", str(checkpoint)]) == 0
    assert "sound" in capsys.readouterr().out


def test_nothing_but_json_on_standard_output(checkpoint: Path, face_video: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "detector", "scan", str(face_video), "--weights", str(checkpoint),
         "--jsonl", "-", "--key-frames", "2"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert [json.loads(line)["schema"] for line in done.stdout.splitlines()] == [1]


def test_readme_lists_every_code() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    assert [code for code in CODES if f"`{code}`" not in readme] == []
