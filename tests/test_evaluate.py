import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import face_clip, other_portrait, portrait, write_clip
from codes import raises_code

from detector.__main__ import main
from detector.architectures import ARCHITECTURES
from detector.errors import UserError
from detector.records import Label
from detector.training.calibration import (
    calibrate,
    decide,
    decide_held_out,
    scale_signs,
    scaled,
    tail_of,
)
from detector.training.figures import figures_of
from detector.training.forgery import KINDS
from detector.training.labelled import ClipScore, LabelledClip, find_labelled
from detector.training.portraits import find_portraits
from detector.training.recipes import RECIPES, find_recipe
from detector.training.robustness import ALTERATIONS, LabelledFaces, draw_curves, sweep
from detector.training.runs import start_network
from detector.weights import load_detector, read_metadata, resolve_weights, verify_checkpoint

pytestmark = pytest.mark.usefixtures("few_bootstrap_rounds")


def score(number: int, fake: bool, mean: float) -> ClipScore:
    clip = LabelledClip(
        Path(f"{number}.mp4"), fake, "blended" if fake else "real", "set", "m", f"g{number // 2}"
    )
    return ClipScore(clip, np.full(30, mean) + np.random.default_rng(number).normal(0, 0.3, 30))


SCORES = [score(n, False, -3 + 0.1 * n) for n in range(40)] + [
    score(100 + n, True, 1 + 0.1 * n) for n in range(40)
]


def test_thresholds_keep_to_the_budgets() -> None:
    calibration = calibrate(SCORES)
    verdicts = [decide(s, calibration) for s in SCORES]
    assert sum(v is Label.MANIPULATED for v in verdicts[:40]) <= 2
    assert sum(v is Label.NO_SIGNS for v in verdicts[40:]) <= 4
    assert sum(v is Label.MANIPULATED for v in verdicts[40:]) >= 20
    assert calibration.lower < calibration.upper
    assert len(calibration.real_logits) == 40


def test_held_out_verdicts_do_not_see_their_group() -> None:
    outlier = [*SCORES, score(999, False, 9.0)]
    assert decide_held_out(outlier)[-1] is Label.MANIPULATED


def test_figures_have_intervals_and_count_every_clip() -> None:
    figures = figures_of(SCORES, calibrate(SCORES))
    assert figures["auc"][0] > 0.95
    assert figures["auc"][1] <= figures["auc"][0] <= figures["auc"][2]
    assert figures["verdicts"]["real"]["manipulated"]["of"] == 40
    assert figures["clips"] == 80


def two_signs(number: int, kind: str, pasted: float, drawn: float) -> ClipScore:
    clip = LabelledClip(Path(f"{number}.mp4"), kind != "real", kind, "set", "m", f"g{number}")
    noise = np.random.default_rng(number).normal(0, 0.3, (30, 2))
    return ClipScore(clip, np.array([pasted, drawn]) + noise)


def test_each_sign_is_scaled_by_its_own_fakes_and_both_decide() -> None:
    # The drawing logit is ten times as wide as the other, and shifted.
    scores = [two_signs(n, "real", -2 + n / 20, -40 + n) for n in range(40)]
    scores += [two_signs(100 + n, "swapped", 1 + n / 20, -40 + n) for n in range(40)]
    scores += [two_signs(200 + n, "animated", -2 + n / 20, 20 + n) for n in range(40)]
    scales = scale_signs(scores)
    assert scales[1].temperature > 5 * scales[0].temperature
    even = [scaled(s, scales) for s in scores]
    calibration = calibrate(even)
    assert calibration.signs == ("pasted", "drawn")
    found = [decide(s, calibration) for s in even]
    assert sum(v is Label.MANIPULATED for v in found[:40]) <= 2
    assert sum(v is Label.MANIPULATED for v in found[40:80]) >= 20
    assert sum(v is Label.MANIPULATED for v in found[80:]) >= 20
    with pytest.raises(UserError, match="every sign"):
        scale_signs(scores[:80])


def test_the_tail_of_an_exponential_is_its_scale() -> None:
    drawn = np.random.default_rng(0).exponential(2.0, 20_000)
    assert tail_of(drawn.tolist()) == pytest.approx(2.0, rel=0.05)


def test_one_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    write_clip(tmp_path / "real" / "a.mp4", face_clip(3))
    with raises_code("one_class"):
        find_labelled(tmp_path)
    with raises_code("no_data"):
        find_labelled(tmp_path / "real")
    with raises_code("one_class"):
        calibrate(SCORES[:40])


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures of two real people, with their portraits in portraits.npz."""
    folder = tmp_path_factory.mktemp("faces")
    for number in range(14):
        image = (portrait(), other_portrait())[number % 2]
        cv2.imwrite(str(folder / f"face{number}.png"), image[..., ::-1])
    find_portraits(folder, folder / "portraits.npz")
    return folder


def train(recipe: str, faces: Path, run: Path, *more: str) -> int:
    """Run a recipe with portraits that were found before."""
    run.mkdir(exist_ok=True)
    shutil.copy(faces / "portraits.npz", run)
    options = ["--data", str(faces), "--out", str(run), "--start", "scratch", "--device", "cpu"]
    return main(["train", recipe, *options, *more])


@pytest.fixture(scope="module")
def run(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("run")
    assert train("test", faces, folder) == 0
    return folder


def test_a_run_leaves_a_sound_checkpoint_and_can_be_resumed(
    faces: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = run / "best.safetensors"
    assert verify_checkpoint(resolve_weights(path=best)) < 1e-2
    assert {p.name for p in run.iterdir()} >= {"log.csv", "curves.png", "settings.json"}
    assert train("test", faces, run, "--resume") == 0
    assert capsys.readouterr().out.strip() == str(best)


def test_a_recipe_with_a_loss_per_cell_trains(faces: Path, tmp_path: Path) -> None:
    assert train("test-located", faces, tmp_path) == 0
    assert (tmp_path / "best.safetensors").is_file()


def test_a_recurrent_network_trains_on_clips_of_portraits(faces: Path, tmp_path: Path) -> None:
    assert train("test-clips", faces, tmp_path) == 0
    assert "held_clean" in (tmp_path / "log.csv").read_text(encoding="utf-8")
    assert load_detector(weights=tmp_path / "best.safetensors").in_sequence


def test_a_sheet_shows_every_kind_of_forgery(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    cv2.imwrite(str(tmp_path / "faces" / "face.png"), portrait()[..., ::-1])
    sheet = tmp_path / "sheet.png"
    assert main(["train", "--data", str(tmp_path / "faces"), "--sheet", str(sheet)]) == 0
    height, width, _ = cv2.imread(str(sheet)).shape
    assert (height // 224, width // 224) == (3 * len(KINDS) + 2, 8)


def test_clips_are_evaluated_and_the_checkpoint_calibrated(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "clips"
    for label in ("real", "fake"):
        (clips / label).mkdir(parents=True)
        for number in range(3):
            write_clip(clips / label / f"{label}{number}.mp4", face_clip(6 + number))
    (clips / "real" / "broken.mp4").write_text("no video", encoding="utf-8")
    calibrated = tmp_path / "calibrated.safetensors"
    code = main([
        "evaluate", "--weights", str(run / "best.safetensors"), "--data", str(clips),
        "--out", str(tmp_path / "out"), "--calibrate", str(calibrated), "--json", "-",
        "--device", "cpu",
    ])  # fmt: skip
    assert code == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["clips"] == 6
    assert "broken.mp4" in figures["failed"][0]
    assert read_metadata(calibrated)["calibration"]["calibrated"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "figures.json", "figures.png", "scores.csv", "table.md"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["train", "nobody", "--data", ".", "--out", "x"], 1),
        (["train", "test", "--data", "/nowhere", "--out", "x"], 1),
        (["train", "test", "--data", ".", "--out", "x", "--side", "40"], 2),
        (["train", "test"], 2),
        (["train", "--recipes"], 0),
    ],
    ids=["recipe", "data", "side", "usage", "list"],
)
def test_train_usage(arguments: list[str], code: int) -> None:
    assert main(arguments) == code


def test_recipes_name_known_architectures() -> None:
    assert {recipe.settings.architecture for recipe in RECIPES.values()} <= set(ARCHITECTURES)


def test_an_unknown_recipe_is_refused_with_the_known_ones() -> None:
    with raises_code("unknown_recipe", match="embedded-cost-sensitive"):
        find_recipe("nobody")


@pytest.mark.parametrize("recipe", ["embedded", "larger"])
def test_recipes_of_shipped_networks_start_from_imagenet(recipe: str) -> None:
    """The first layer is not random: it is the same twice and differs from another start."""
    first = start_network(RECIPES[recipe], "imagenet").backbone.conv_stem.weight
    second = start_network(RECIPES[recipe], "imagenet").backbone.conv_stem.weight
    scratch = start_network(RECIPES[recipe], "scratch").backbone.conv_stem.weight
    assert bool((first == second).all())
    assert not bool((first == scratch).all())


def test_robustness_by_hand() -> None:
    """A detector of brightness: gamma moves every clip alike, and darkness parts them as before."""

    class Brightness:
        def score(self, crops: list[np.ndarray]) -> np.ndarray:
            return np.array([c.mean() for c in crops])

    clips = [
        LabelledFaces(fake, f"{fake}{n}", (np.full((64, 64, 3), 60 + 90 * fake + 5 * n, np.uint8),))
        for n in range(4)
        for fake in (False, True)
    ]
    curves = sweep(clips, Brightness())  # type: ignore[arg-type]
    assert set(curves) == {"h264", "JPEG", "size", "blur", "noise", "gamma"}
    for curve in curves.values():
        assert curve[0][0] is None
        assert [auc for _, auc, *_ in curve] == pytest.approx([1.0] * len(curve))
    draw_curves(curves)


def test_alterations_grow_stronger() -> None:
    image = portrait()
    for alteration in ALTERATIONS:
        if alteration.title == "gamma":
            continue
        harm = [
            float(np.abs(
                cv2.resize(alteration.apply(s, image), image.shape[1::-1]).astype(float) - image
            ).mean())
            for s in alteration.strengths
        ]  # fmt: skip
        assert harm == sorted(harm), alteration.title
        assert harm[0] > 0


def test_a_matrix_of_checkpoints_and_data(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        for label in ("real", "fake"):
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for number in range(2):
                write_clip(folder / f"{label}{number}.mp4", face_clip(4 + number))
    other = tmp_path / "other.safetensors"
    other.write_bytes(checkpoint.read_bytes())
    code = main([
        "evaluate", "--weights", str(checkpoint), str(other), "--data", str(tmp_path / "one"),
        str(tmp_path / "two"), "--out", str(tmp_path / "out"), "--device", "cpu",
    ])  # fmt: skip
    assert code == 0
    table = capsys.readouterr().out
    assert "| video AUC | one | two |" in table
    assert table.count("| tiny |") == table.count("| other |") == 1
    assert (tmp_path / "out" / "tiny-on-two" / "figures.json").is_file()


def test_checkpoints_together(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("real", "fake"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(2):
            write_clip(tmp_path / "set" / label / f"{label}{number}.mp4", face_clip(4 + number))
    other = tmp_path / "other.safetensors"
    other.write_bytes(checkpoint.read_bytes())
    evaluated = [
        "evaluate", "--data", str(tmp_path / "set"), "--out", str(tmp_path / "out"),
        "--device", "cpu", "--json", "-", "--weights", str(checkpoint),
    ]  # fmt: skip
    assert main(evaluated) == 0
    alone = json.loads(capsys.readouterr().out)
    assert main([*evaluated, str(other), "--together"]) == 0
    together = json.loads(capsys.readouterr().out)
    assert together["auc"] == alone["auc"]  # of two that are the same
    low, high = alone["accuracy"][1:]
    assert low <= alone["accuracy"][0] <= high
    assert sum(map(sum, alone["confusion"])) == alone["clips"] == 4
    assert main([*evaluated, "--together"]) == 2
    assert main([*evaluated, str(other), "--calibrate", str(tmp_path / "new.safetensors")]) == 2
