import json
from pathlib import Path

import pytest

from detector.__main__ import main
from detector.errors import UserError
from detector.workers import spread


def square(number: int) -> int:
    return number**2


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_come_in_order(workers: int) -> None:
    assert list(spread(square, range(20), workers=workers)) == [n**2 for n in range(20)]


def test_an_archive_over_ray(
    checkpoint: Path, face_video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        (tmp_path / "bad.mp4").write_text("no video")
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


def test_ray_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray.util.multiprocessing", None)
    with pytest.raises(UserError) as caught:
        list(spread(square, [1], ray=True))
    assert "requirements-ray.txt" in caught.value.message
