from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sklearn import linear_model
from sklearn import metrics as sk

from benchmarks import research
from detector.training.datasets import Row, read_index, write_index
from detector.training.train import TrainSettings


@pytest.fixture
def faces(tmp_path: Path) -> research.Faces:
    """Made features of 60 originals with five fakes each; the fakes lie a little apart."""
    rng = np.random.default_rng(0)
    rows, features = [], []
    for group in range(60):
        split = ("train", "train", "train", "val", "test")[group % 5]
        for number in range(6):
            fake = int(number > 0)
            kind = ("real", "swapped")[fake]
            crop = f"{group}-{number}"
            dataset = f"d{group % 10}"
            rows.append(Row(crop, fake, crop, str(group), dataset, "m", split, 0, 0.0, 9, kind))
            features.append(rng.normal(0, 1, 8) + 1.5 * fake * np.eye(8)[0])
    write_index(tmp_path / "index.csv", rows)
    np.save(tmp_path / "features.npy", np.array(features, np.float16))
    return research.Faces(tmp_path)


def test_regression_agrees_with_scikit_learn(faces: research.Faces) -> None:
    x = (faces.features - faces.features.mean(0)) / faces.features.std(0)
    theirs = linear_model.LogisticRegression(
        C=1 / (research.RIDGE * len(x)), class_weight="balanced", tol=1e-8
    ).fit(x, faces.fake)
    ours = research.Regression(faces.features, faces.fake, research.balanced(faces.fake))
    assert ours(faces.features) == pytest.approx(theirs.decision_function(x), abs=0.02)


def test_figures_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(300) < 0.83
    scores = rng.normal(0, 1, 300) + labels
    assert research.at_zero(labels, scores) == pytest.approx(
        sk.balanced_accuracy_score(labels, scores > 0)
    )
    assert research.accuracy(labels, scores) == pytest.approx(sk.accuracy_score(labels, scores > 0))
    assert research.at_zero(labels, np.ones(300)) == 0.5  # always fake


def test_groups_are_held_back_whole(faces: research.Faces) -> None:
    held = research.hold_back(faces.groups, seed=3)
    assert 0.15 < held.mean() <= 0.2
    assert not set(faces.groups[held]) & set(faces.groups[~held])


def test_every_way_with_imbalance_finds_what_there_is(
    faces: research.Faces, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(research, "ROUNDS", 10)
    monkeypatch.setattr(research, "SEEDS", range(2))
    research.imbalance(faces)
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line[2:3].isdigit()]
    assert len(rows) == len(research.FAKES) * len(research.METHODS)
    area = {(row[0], row[1]): float(row[2].split()[0]) for row in rows}
    balance = {(row[0], row[1]): float(row[3].split()[0]) for row in rows}
    assert min(area.values()) > 0.7
    assert balance["| 90", "class weights"] > balance["| 90", "nothing"]


def test_splits_and_carry_over_print_their_tables(
    faces: research.Faces, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(research, "ROUNDS", 10)
    research.splits(faces)
    research.carry(faces, faces)
    printed = capsys.readouterr().out
    assert "by original" in printed
    learned = next(line for line in printed.splitlines() if line.startswith("| DFDC |"))
    assert float(learned.split(" | ")[1].split()[0]) > 0.7


def test_features_are_of_one_face_a_video_and_of_whole_originals() -> None:
    rows = [
        Row(f"{video}-{n}", 0, f"{video}", f"{video % 40}", "d", "m", "train", n, 0.0, 9)
        for video in range(80)
        for n in range(3)
    ]
    chosen = research.choose_faces(rows, 4)
    assert {row.frame for row in chosen} == {1}
    groups = [row.group for row in chosen]
    assert 0 < len(groups) < 40
    assert all(groups.count(group) == 2 for group in groups)


def test_hours_are_told_of_a_recipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = research.Recipe(
        "", TrainSettings("test_efficientnet", steps=100, batch=10), labelled=True
    )
    monkeypatch.setattr(research, "RECIPES", {"tiny": recipe})
    monkeypatch.setattr(research, "GPU_SPEED", 1e6)
    research.hours([])
    row = capsys.readouterr().out.splitlines()[-1].strip("| ").split(" | ")
    assert row[:2] == ["tiny", "64"]
    assert row[3] == "1000"
    operations = float(row[6]) * 60 * 1e6 / 1000  # of a face
    assert operations > 1e6
    assert row[5] == f"{operations / 1e9:.1f}"


def test_one_original_in_twenty_is_set_aside_with_its_copies(tmp_path: Path) -> None:
    originals = [f"{n}.mp4" for n in range(200)]
    marked = [name for name in originals if research.is_aside(name)]
    assert 3 < len(marked) < 20
    kept = next(name for name in originals if name not in marked)
    rows = [
        Row(f"crops/{group}-{fake}.jpg", fake, f"{group}-{fake}", group, "d", "m", "train", 0, 0, 9)
        for group in originals
        for fake in (0, 1)
    ]
    index = tmp_path / "index"
    index.mkdir()
    write_index(index / "index.csv", rows)
    copy = f"/faces/{marked[0][:-4]}.jpg: the same picture as {kept[:-4]}; left out\n"
    (index / "left_out.txt").write_text(copy, encoding="utf-8")
    research.set_aside(index, tmp_path / "learned", tmp_path / "aside")
    learned, aside = (read_index(tmp_path / n / "index.csv") for n in ("learned", "aside"))
    assert {row.group for row in aside} == {*marked, kept}
    assert len(learned) + len(aside) == len(rows)
    crop = tmp_path / "aside" / aside[0].crop
    assert crop.resolve() == (index / "crops" / Path(aside[0].crop).name).resolve()


def test_figures_of_a_checkpoint_stand_beside_always_fake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for number in range(12):
        fake = int(number > 1)
        crop = f"{number}.png"
        cv2.imwrite(str(tmp_path / crop), np.full((8, 8, 3), 100 + 100 * fake, np.uint8))
        rows.append(Row(crop, fake, crop, f"{number % 2}", "d", "m", "test", 0, 0.0, 9))
    write_index(tmp_path / "index.csv", rows)

    def score(weights: Path, faces: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([face.mean() - 150 for face in faces])

    training: dict[str, Any] = {"recipe": {"weighted": True}, "real": 1, "fake": 5}
    monkeypatch.setattr(research, "score_faces", score)
    monkeypatch.setattr(research, "read_metadata", lambda path: {"training": training})
    research.figures(tmp_path, [tmp_path / "mine" / "best.safetensors"], "all", False, 100)
    said = capsys.readouterr().out
    always, mine, moved = said.splitlines()[-3:]
    assert always.startswith("| always fake | 0.833 (")
    assert "| 0, 2 (0% to 66% right) | 10, 0 (72% to 100% right) |" in always
    assert mine.startswith("| mine | 1.000 (1.000 to 1.000) | 1.000")
    assert "| 2, 0 (34% to 100% right) |" in mine
    assert moved.startswith("| mine, at the classes' odds | 1.000 (1.000 to 1.000) |")
    assert research.odds_taken_out(tmp_path) == pytest.approx(np.log(5))
    training["recipe"] = "mixed"  # older checkpoints only name it
    assert research.odds_taken_out(tmp_path) == 0
