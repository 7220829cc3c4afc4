from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clips import make_row, texture
from codes import raises_code

from detector.__main__ import main
from detector.architectures import build_network
from detector.scoring import Detector
from detector.training import runs, teacher
from detector.training.datasets import read_index, write_index
from detector.training.losses import weighted_loss
from detector.training.mixture import read_face
from detector.training.recipes import find_recipe
from detector.training.train import TrainingSample
from detector.verdict import to_probability
from detector.weights import load_network, read_metadata, resolve_weights, save_checkpoint

BOX = 20, 20, 100, 100


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Two dozen textures, half of them called fake."""
    folder = tmp_path / "index"
    folder.mkdir()
    rows = []
    for number in range(24):
        crop, kind = f"{number}.png", ("real", "swapped")[number % 2]
        cv2.imwrite(str(folder / crop), texture(number, 120, 120))
        row = make_row(
            crop, fake=number % 2, video=f"clip{number}", group=f"group{number}",
            dataset="set", kind=kind, box=BOX,
        )  # fmt: skip
        rows.append(replace(row, split=("train", "val")[number > 15]))
    write_index(folder / "index.csv", rows)
    return folder


def test_a_target_weighs_label_and_teacher_and_stays_on_its_labels_side() -> None:
    rows = [make_row("real", fake=0), make_row("fake", fake=1)]
    targets = teacher.soften(rows, {"real": 1.0, "fake": 0.0})
    assert targets["real"] == pytest.approx(0.4)
    assert targets["fake"] == pytest.approx(0.6)
    logits, labels, answers = torch.tensor([[-1.0, 0.3], [0.0, 1.0], [0.2, 0.9]])
    weights = (3.0, 0.5)
    mixed = weighted_loss(logits, 0.6 * labels + 0.4 * answers, weights)
    each = torch.tensor(weights)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    of_labels, of_teacher = (bce(logits, wanted, weight=each) for wanted in (labels, answers))
    assert mixed == pytest.approx(float(0.6 * of_labels + 0.4 * of_teacher))


def test_the_teacher_is_asked_once_for_each_face(
    index: Path, checkpoint: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_index(index / "index.csv")
    first = teacher.ask_teacher(checkpoint, index, rows[:5])
    logit = detector.score([read_face(index, rows[3], detector.margin)])[0]
    expected = to_probability(float(logit), detector.calibration)
    assert first[rows[3].crop] == pytest.approx(expected, abs=1e-3)
    asked = []
    monkeypatch.setattr(teacher, "read_face", lambda *given: asked.append(1) or read_face(*given))
    more = teacher.ask_teacher(checkpoint, index, rows[:7])
    assert len(asked) == 2
    assert more.keys() == {row.crop for row in rows[:7]}
    assert more[rows[3].crop] == pytest.approx(first[rows[3].crop], abs=1e-4)
    monkeypatch.setattr(teacher, "load_detector", None)  # not needed again
    assert teacher.ask_teacher(checkpoint, index, rows[:7]) == more


def test_training_learns_from_the_teacher_and_names_it(
    index: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples: list[TrainingSample] = []

    def watch(network: object, make: Callable[[int], TrainingSample], *given, **named):
        samples.extend(make(number) for number in range(8))
        return train(network, make, *given, **named)

    train = runs.train
    monkeypatch.setattr(runs, "train", watch)
    code = main([
        "train", "test-labelled", "--data", str(index), "--out", str(tmp_path / "run"),
        "--start", "scratch", "--device", "cpu", "--teacher", str(checkpoint),
    ])  # fmt: skip
    assert code == 0
    rows = [row for row in read_index(index / "index.csv") if row.split == "train"]
    wanted = teacher.soften(rows, teacher.ask_teacher(checkpoint, index, rows))
    targets = [float(sample.labels[0]) for sample in samples]
    assert all(np.isclose(list(wanted.values()), target).any() for target in targets)
    assert {target > 0.5 for target in targets} == {True, False}
    trained = read_metadata(tmp_path / "run" / "best.safetensors")["training"]
    assert trained["teacher"] == resolve_weights("default", checkpoint).sha256
    assert trained["cpu_seconds"] >= 0


def test_faces_with_a_box_are_cut_with_the_recipes_margin(index: Path) -> None:
    row = read_index(index / "index.csv")[0]
    assert read_face(index, row, 0.0).shape == (80, 80, 3)
    assert read_face(index, row, 0.25).shape == (100, 100, 3)
    assert read_face(index, replace(row, right=0), 0.25).shape == (120, 120, 3)


def test_a_recurrent_network_can_start_from_its_backbone(
    index: Path, checkpoint: Path, tmp_path: Path
) -> None:
    recipe = find_recipe("test-sequence")
    network = runs.start_network(recipe, str(checkpoint))
    given = load_network(resolve_weights("default", checkpoint)).backbone.state_dict()
    own = network.backbone.state_dict()
    assert network.in_sequence
    assert own.keys() < given.keys()  # all but the classifier
    assert all(torch.equal(own[name], given[name]) for name in own)
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, build_network("plain_cnn", side=32), margin=0.5)
    with raises_code("weights_mismatch"):
        runs.start_network(recipe, str(other))


def test_only_labelled_recipes_take_a_teacher(
    index: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(index), "--out", str(tmp_path / "run"), "--teacher"]
    assert main(["train", "test", *given, str(checkpoint)]) == 2
    assert "labelled faces" in capsys.readouterr().err
    assert main(["train", "test-labelled", *given, str(tmp_path / "nothing")]) == 1
    assert "no weights file" in capsys.readouterr().err
