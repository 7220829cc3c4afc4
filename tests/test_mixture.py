import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clips import make_row, other_portrait, portrait, texture

from detector.__main__ import main
from detector.errors import UserError
from detector.faces import FaceFinder
from detector.records import SIGNS, KeyFrame
from detector.training.datasets import read_index, write_index
from detector.training.forgery import Forger
from detector.training.left_out import SourceScore, evaluate_left_out, table_of
from detector.training.losses import signs_loss
from detector.training.mixture import (
    Mixture,
    check_rows,
    find_video_portraits,
    left_out_faces,
    to_portrait,
)
from detector.training.recipes import RECIPES
from detector.training.runs import RunOptions, start_network, train_from_mixture
from detector.weights import average_checkpoints, load_detector, load_network, resolve_weights

SIDE = 64
KINDS = {"pairs": ("real", "swapped"), "drawings": ("animated",), "kept": ("real", "synthesised")}
BOX = 30, 24, 90, 96


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three data sets of textures, two clips of each kind, three faces a clip."""
    folder = tmp_path_factory.mktemp("index")
    rows = []
    for number, (dataset, kinds) in enumerate(KINDS.items()):
        for kind in kinds:
            for clip in range(2):
                for face in range(3):
                    crop = f"{dataset}-{kind}-{clip}-{face}.png"
                    cv2.imwrite(
                        str(folder / crop), texture(number * 40 + clip * 5 + face, 120, 120)
                    )
                    rows.append(make_row(
                        crop, fake=int(kind != "real"), video=f"{dataset}-{kind}-{clip}",
                        group=f"group{clip}", dataset=dataset, kind=kind, frame=face, width=60,
                        box=BOX,
                    ))  # fmt: skip
    write_index(folder / "index.csv", rows)
    return folder


@pytest.fixture(scope="module")
def mixture(index: Path) -> Mixture:
    rows = [(index, row) for row in read_index(index / "index.csv")]
    return Mixture(rows, _forger(), SIDE)


def _forger() -> Forger:
    portraits = []
    for image in (portrait(), other_portrait()):
        height, width = image.shape[:2]
        box = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
        eyes, mouth = height * 0.45, height * 0.62
        points = np.array(
            [[0.42 * width, eyes], [0.58 * width, eyes], [0.5 * width, height * 0.53],
             [0.44 * width, mouth], [0.56 * width, mouth]]
        )  # fmt: skip
        portraits.append(to_portrait(make_row(kind="real", box=box), image, points))
    return Forger(portraits, side=SIDE, kinds={"self": 1.0})


def test_a_pair_follows_from_its_seed_and_has_the_label_of_its_kind(mixture: Mixture) -> None:
    labels = set()
    for number in range(40):
        real, fake, label = mixture.pair((0, number))
        assert real.shape == fake.shape == (SIDE, SIDE, 3)
        labels.add(label)
        again = mixture.pair((0, number))
        assert np.array_equal(real, again[0])
        assert np.array_equal(fake, again[1])
    assert labels == {1, 2}


def test_a_fake_is_paired_with_a_genuine_face_of_its_own_group(mixture: Mixture) -> None:
    fake = next(row for _, row in mixture.rows if row.kind == "swapped")
    partners = [mixture._partner(fake, np.random.default_rng(n)) for n in range(60)]
    own = [p for p in partners if (p.dataset, p.group) == (fake.dataset, fake.group)]
    assert all(p.kind == "real" for p in partners)
    assert len(own) > 45


def test_both_halves_are_altered_alike(mixture: Mixture) -> None:
    row = mixture.rows[0][1]
    for number in range(10):
        real, fake, _ = mixture._read_pair(row, row, np.random.default_rng(number), 1)
        assert np.array_equal(real, fake)


def test_a_margin_of_zero_crops_the_square_around_the_box(index: Path) -> None:
    rows = [(index, row) for row in read_index(index / "index.csv")]
    tight, kept = left_out_faces(rows[:1], SIDE, 0.0)
    image = cv2.imread(str(index / kept[0].crop))[..., ::-1]
    left, top, right, bottom = BOX
    grown = (bottom - top - (right - left)) // 2  # the box's longer side makes the square
    expected = image[top:bottom, left - grown : right + grown]
    assert np.abs(cv2.resize(expected, (SIDE, SIDE)).astype(int) - tight[0]).mean() < 3


@pytest.mark.parametrize(
    ("change", "left_out", "said"),
    [
        ({"crop": "gone.png"}, [], "line 2: gone.png does not exist"),
        ({"kind": "odd"}, [], "line 2: .* unknown kind 'odd'"),
        ({"fake": 1}, [], "has the kind real, but fake is 1"),
        ({"right": 900}, [], "line 2: .* box outside its 120 x 120"),
        ({}, ["nowhere"], "No data set is called nowhere"),
        ({}, ["pairs", "kept"], "one class only"),
        ({"video": "kept-real-0"}, ["kept"], "also one of a data set that is left out"),
    ],
)
def test_an_index_that_cannot_be_learned_from_is_refused(
    index: Path, change: dict[str, object], left_out: list[str], said: str
) -> None:
    rows = [(index, row) for row in read_index(index / "index.csv")]
    rows[0] = index, replace(rows[0][1], **change)
    with pytest.raises(UserError, match=said):
        check_rows(rows, left_out)


def test_an_unreadable_line_of_an_index_is_named(index: Path, tmp_path: Path) -> None:
    lines = (index / "index.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "index.csv").write_text(
        "\n".join([*lines[:3], lines[3].replace(",60,", ",wide,")]), encoding="utf-8"
    )
    with pytest.raises(UserError, match="line 4"):
        read_index(tmp_path / "index.csv")


def test_signs_loss_by_hand() -> None:
    logits = torch.tensor([[-1.0, -2.0], [3.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([0.0, 1.0, 0.0, 2.0])
    z = torch.exp(torch.cat([torch.zeros(4, 1), logits], 1))
    chosen = z[torch.arange(4), labels.long()] / z.sum(1)
    assert signs_loss(logits, labels) == pytest.approx(float(-chosen.log().mean()))
    evidence = logits.logsumexp(1)
    order = torch.log1p(torch.exp(evidence[[0, 2]] - evidence[[1, 3]])).mean()
    expected = float(-chosen.log().mean() + 0.5 * order)
    assert signs_loss(logits, labels, pair_weight=0.5) == pytest.approx(expected)


@pytest.fixture(scope="module")
def trained(index: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The checkpoints of two runs that left the data set `kept` out."""
    folder = tmp_path_factory.mktemp("runs")
    faces = folder / "faces"
    faces.mkdir()
    for number in range(4):
        for name, image in (("a", portrait()), ("b", other_portrait())):
            cv2.imwrite(str(faces / f"{name}{number}x{number}.png"), image[..., ::-1])
    recipe = RECIPES["test-mixed"]
    return [
        train_from_mixture(
            replace(recipe, settings=replace(recipe.settings, seed=seed)),
            faces, [index], RunOptions(folder / f"run{seed}", start="scratch"), left_out=["kept"],
        )
        for seed in (1, 2)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def averaged(trained: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mean of both."""
    path = tmp_path_factory.mktemp("mean") / "mean.safetensors"
    average_checkpoints([resolve_weights(path=p) for p in trained], path)
    return path


def test_a_mixed_recipe_is_validated_on_left_out_data_sets(trained: list[Path]) -> None:
    with (trained[0].parent / "log.csv").open() as file:
        assert "left_out_drawn" in next(csv.DictReader(file))


def test_an_averaged_checkpoint_holds_the_mean_and_what_both_left_out(
    trained: list[Path], averaged: Path
) -> None:
    name = "backbone.conv_stem.weight"
    first, second, mean = (
        load_network(resolve_weights(path=path)).state_dict()[name] for path in (*trained, averaged)
    )
    torch.testing.assert_close(mean, (first + second) / 2, atol=1e-3, rtol=0)
    assert resolve_weights(path=averaged).metadata["training"]["left_out"] == ["kept"]


def test_left_out_data_sets_are_scored_source_by_source(
    index: Path, averaged: Path, tmp_path: Path
) -> None:
    detector = load_detector(weights=averaged, device="cpu")
    assert detector.calibration.signs == SIGNS
    scores = evaluate_left_out(index, detector, ["kept"], tmp_path)
    assert {s.kind for s in scores} == {"real", "synthesised"}
    assert all(s.logits.shape == (3, 2) for s in scores)
    with (tmp_path / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    assert "kept, synthesised" in (tmp_path / "sources.md").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="names no data set"):
        evaluate_left_out(index, detector, [], tmp_path)


@pytest.mark.usefixtures("few_bootstrap_rounds")
def test_left_out_data_sets_are_calibrated_on_too(
    index: Path, averaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The index holds no drawn faces: without the left-out ones that sign cannot be calibrated."""
    rows = [row for row in read_index(index / "index.csv") if row.dataset == "pairs"]
    (tmp_path / "pairs").mkdir()
    crops = [replace(row, split="test", crop=str(index / row.crop)) for row in rows]
    write_index(tmp_path / "pairs" / "index.csv", crops)
    calibrated = tmp_path / "calibrated.safetensors"
    words = [
        "evaluate", "--weights", str(averaged), "--data", str(tmp_path / "pairs"), "--device",
        "cpu", "--out", str(tmp_path / "out"), "--calibrate", str(calibrated),
    ]  # fmt: skip
    assert main(words) == 1
    assert "[one_class]" in capsys.readouterr().err
    assert main([*words, "--left-out", str(index)]) == 0
    assert "kept, synthesised" in capsys.readouterr().err
    calibration = load_detector(weights=calibrated, device="cpu").calibration
    assert calibration.calibrated
    assert len(calibration.real_logits) == 4  # two clips of either data set


def test_a_network_with_one_sign_is_extended_to_two(checkpoint: Path) -> None:
    one = load_network(resolve_weights(path=checkpoint))
    two = start_network(RECIPES["test-mixed"], str(checkpoint))
    assert two.architecture.signs == SIGNS
    pictures = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        answers = two.eval().logits(pictures)
        torch.testing.assert_close(answers[:, 0], one.eval()(pictures))
    assert not torch.equal(answers[:, 0], answers[:, 1])


def test_sources_are_measured_one_by_one() -> None:
    def score(dataset: str, kind: str, number: int, logit: float) -> SourceScore:
        return SourceScore(
            dataset, kind, f"g{number}", f"{dataset}{number}", np.full((2, 2), logit)
        )

    scores = [score("a", "real", n, float(n)) for n in range(20)]
    scores += [score("seen", "animated", n, 30.0) for n in range(4)]
    scores += [score("missed", "swapped", n, -5.0) for n in range(4)]
    table = table_of(scores)["sources"]
    assert table["seen, animated"]["auc"][0] == 1.0
    assert table["seen, animated"]["caught"] == 4
    assert table["missed, swapped"]["auc"][0] == 0.0
    assert table["missed, swapped"]["caught"] == 0
    assert table["all fakes"]["auc"][0] == 0.5
    assert table["drawn"]["auc"][0] == 1.0


def test_video_portraits_are_found_and_kept(tmp_path: Path) -> None:
    image = portrait()
    cv2.imwrite(str(tmp_path / "face.png"), image[..., ::-1])
    (face,) = FaceFinder().find([KeyFrame(0, 0.0, 0.0, image)])
    row = make_row("face.png", kind="real", box=face.box)
    found = find_video_portraits([(tmp_path, row)], tmp_path / "cache.npz")
    (again,) = find_video_portraits([], tmp_path / "cache.npz")
    assert np.array_equal(found[0].image, again.image)
    eyes = found[0].landmarks[:2]
    assert np.linalg.norm(eyes[1] - eyes[0]) == pytest.approx(
        np.linalg.norm(face.landmarks[1] - face.landmarks[0]), rel=0.1
    )
