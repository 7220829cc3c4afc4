from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import research_clips
from detector.heatmaps import PAPER
from detector.pipeline import scan
from detector.records import Heatmap
from detector.scoring import Detector
from detector.settings import Settings
from detector.training.labelled import LabelledClip
from tests.clips import make_face


def test_key_frames_are_judged_as_a_scan_judges_them(detector: Detector, face_video: Path) -> None:
    ways = research_clips.judge_ways(detector, face_video, [5], 12)
    assert set(ways) == {"5 key", "5 even", "12 even"}
    logit, verdict = ways["5 key"]
    settings = Settings(key_frames=5, frames="all", device="cpu")
    found = scan(face_video, settings, detector=detector)
    # Faces are followed through the frames of all ways, so that their boxes differ a little.
    assert logit == pytest.approx(np.median([s.logit for s in found.people[0].scores]), abs=0.15)
    assert verdict.probability == pytest.approx(found.verdict.probability, abs=0.04)


def test_frames_print_a_line_a_way(
    detector: Detector, face_video: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(research_clips, "load_detector", lambda **_: detector)
    monkeypatch.setattr(research_clips, "ROUNDS", 5)
    clips = [
        LabelledClip(face_video, fake, "kind", "dataset", "method", f"group {fake}")
        for fake in (False, True)
    ]
    research_clips.compare_frames(clips, [4], 8)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 clips, 1 of them fake."
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| 4 key", "| 4 even", "| 8 even"]
    assert all("| 0.500 (" in line and line.endswith("| 2 of 2 |") for line in lines[4:])


def test_methods_count_the_maps_that_pass_and_correlate_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(research_clips, "ROUNDS", 5)
    face = make_face(0)
    ramp = np.outer(np.ones(64), np.linspace(0, 1, 64)).astype(np.float32)
    good = {"deletion": 0.2, "deletion_random": 0.5, "insertion": 0.7, "insertion_random": 0.5,
            "reliable": None}  # fmt: skip
    maps = {method: Heatmap(method, face, ramp, good) for method in PAPER}
    maps["gradcam"] = replace(maps["gradcam"], values=1 - ramp, trust=good | {"deletion": 0.6})
    fakes = [LabelledClip(Path("a.mp4"), True, "blended", "d", "m", "g")]
    research_clips.print_trust(fakes, [maps])
    research_clips.print_agreement(fakes, [maps])
    said = capsys.readouterr().out
    assert "| SmoothGrad | 1 of 1 (21% to 100%) | +0.300 | +0.200 | 0 |" in said
    assert "| Grad-CAM | 0 of 1 (0% to 79%) |" in said
    smooth = next(line for line in said.splitlines() if line.startswith("| SmoothGrad |  |"))
    assert smooth == (
        "| SmoothGrad |  | -1.00 (-1.00 to -1.00) | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) |"
    )
