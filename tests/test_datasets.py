"""Every reader on a miniature copy of its set: same folders, same lists, tiny clips."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import drift, make_row, portrait, write_clip
from codes import raises_code

from detector.__main__ import main
from detector.training import datasets
from detector.training.datasets import (
    assign_splits,
    check_index,
    find_leaks,
    prepare,
    read_index,
    split_crops_at_random,
    write_index,
)
from detector.training.evaluate import evaluate
from detector.training.readers import READERS, SPLITS
from detector.training.recipes import FAKE_SHARES, RECIPES
from detector.training.runs import RunOptions, thin_out, train_from_labels
from detector.weights import load_detector, read_metadata

pytestmark = pytest.mark.usefixtures("few_bootstrap_rounds")


def clip(path: Path) -> Path:
    """A face of 90 pixels, a few frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = cv2.resize(portrait(), (360, 360), interpolation=cv2.INTER_AREA)
    return write_clip(path, drift(small, 3, 320, 240, speed=2))


def stand_in(path: Path) -> Path:
    """A file that is only listed, not opened."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def faceforensics(root: Path) -> None:
    pairs = {"train": [["071", "054"]], "val": [["000", "003"]], "test": [["183", "253"]]}
    (root / "splits").mkdir(parents=True)
    for split, ids in pairs.items():
        (root / "splits" / f"{split}.json").write_text(json.dumps(ids), encoding="utf-8")
        for a, b in ids:
            for compression in ("c23", "c40"):
                for name in (a, b):
                    stand_in(root / f"original_sequences/youtube/{compression}/videos/{name}.mp4")
                for method in ("Deepfakes", "NeuralTextures"):
                    folder = root / f"manipulated_sequences/{method}/{compression}/videos"
                    stand_in(folder / f"{a}_{b}.mp4")
    stand_in(root / "manipulated_sequences/Deepfakes/c23/videos/071_183.mp4")
    stand_in(root / "manipulated_sequences/Nonsense/c23/videos/071_054.mp4")


def test_faceforensics(tmp_path: Path) -> None:
    faceforensics(tmp_path)
    complaints: list[str] = []
    found = READERS["faceforensics"](tmp_path, complaints)
    assert len(found) == 3 * 2 * 4
    assert {s.dataset for s in found} == {"faceforensics-c23", "faceforensics-c40"}
    split = {Path(s.path).stem: s.split for s in found}
    assert split["071"] == split["071_054"] == "train"
    assert split["183_253"] == "test"
    assert any("different splits" in c for c in complaints)
    assert any("unknown method" in c for c in complaints)


def celebdf(root: Path, make=stand_in) -> None:
    for number in range(12):
        make(root / f"Celeb-real/id{number}_0000.mp4")
        make(root / f"Celeb-synthesis/id{number}_id{(number + 1) % 12}_0000.mp4")
    for number in range(3):
        make(root / f"YouTube-real/0000{number}.mp4")
    (root / "List_of_testing_videos.txt").write_text(
        "1 YouTube-real/00000.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n"
        "1 Celeb-synthesis/id1_id2_0000.mp4\n1 Celeb-real/id99_0000.mp4\n",
        encoding="utf-8",
    )


def test_celebdf_where_1_means_real(tmp_path: Path) -> None:
    celebdf(tmp_path)
    complaints: list[str] = []
    found = {Path(s.path).name: s for s in READERS["celebdf"](tmp_path, complaints)}
    assert not found["00000.mp4"].fake
    assert found["00000.mp4"].split == "test"
    assert found["id0_id1_0000.mp4"].fake
    assert found["id0_id1_0000.mp4"].people == ("id0", "id1")
    assert "id1_id2_0000.mp4" not in found
    assert any("contradicts" in c for c in complaints)
    assert any("not there" in c for c in complaints)


def test_dfdc(tmp_path: Path) -> None:
    folder = tmp_path / "dfdc_train_part_0"
    metadata = {
        "a.mp4": {"label": "REAL", "split": "train"},
        "b.mp4": {"label": "FAKE", "split": "train", "original": "a.mp4"},
        "gone.mp4": {"label": "FAKE", "split": "train", "original": "a.mp4"},
    }
    for name in ("a.mp4", "b.mp4"):
        stand_in(folder / name)
    (folder / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    complaints: list[str] = []
    real, fake = READERS["dfdc"](tmp_path, complaints)
    assert (real.fake, fake.fake) == (False, True)
    assert real.people == fake.people == ("a.mp4",)
    assert "gone.mp4" in complaints[0]


def kaggle(root: Path, lines: str, **pictures: np.ndarray) -> None:
    """A folder as Kaggle's deepfake_faces; `lines` are name, label, original."""
    (root / "faces_224").mkdir(parents=True)
    for name, picture in pictures.items():
        cv2.imwrite(str(root / "faces_224" / f"{name}.jpg"), picture)
    rows = [line.split() for line in lines.strip().splitlines()]
    text = "".join(f"{n}.mp4,90,80,{label},{o}\n" for n, label, o in rows)
    head = "videoname,original_width,original_height,label,original\n"
    (root / "metadata.csv").write_text(head + text, encoding="utf-8")


def patches(seed: int) -> np.ndarray:
    """A picture of large patches."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(60, 200, (7, 7, 3), np.uint8)
    return np.repeat(np.repeat(colours, 32, axis=0), 32, axis=1)


def test_deepfake_faces(tmp_path: Path) -> None:
    pictures = {name: patches(number) for number, name in enumerate("abce")}
    lines = "a REAL NAN\nb FAKE a.mp4\nc REAL NAN\nc FAKE a.mp4\nd FAKE a.mp4\ne FAKE z.mp4"
    kaggle(tmp_path, lines, **pictures)
    complaints: list[str] = []
    found = READERS["deepfake_faces"](tmp_path, complaints)
    assert [(Path(s.path).stem, s.fake, s.people, s.width) for s in found] == [
        ("a", False, ("a.mp4",), 90), ("b", True, ("a.mp4",), 90), ("e", True, ("z.mp4",), 90),
    ]  # fmt: skip
    assert found[1].original == found[0].path
    assert found[2].original is None  # its original is not in the set
    assert any("both real and fake" in c for c in complaints)
    assert any("not there" in c for c in complaints)


def test_an_original_under_two_names_forms_one_group(tmp_path: Path) -> None:
    pictures = {"a": patches(0), "b": patches(0), "c": patches(2), "d": patches(3)}
    kaggle(tmp_path, "a REAL NAN\nb REAL NAN\nc FAKE b.mp4\nd FAKE a.mp4", **pictures)
    complaints: list[str] = []
    found = READERS["deepfake_faces"](tmp_path, complaints)
    assert [Path(s.path).stem for s in found] == ["a", "c", "d"]
    assert {s.people for s in found} == {("a.mp4",)}
    assert any("the same picture as a" in c for c in complaints)


def test_cut_faces_are_kept_as_they_are_and_useless_ones_left_out(tmp_path: Path) -> None:
    genuine = patches(0)
    shifted = cv2.imencode(".jpg", genuine, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    swapped = genuine.copy()
    swapped[64:128, 64:128] ^= 32
    kaggle(
        tmp_path / "set",
        "a REAL NAN\nsame FAKE a.mp4\nswapped FAKE a.mp4\nblack FAKE a.mp4\ndark REAL NAN",
        a=genuine, same=cv2.imdecode(shifted, 1), swapped=swapped, black=genuine // 20,
        dark=genuine // 10,
    )  # fmt: skip
    rows, complaints = prepare("deepfake_faces", tmp_path / "set", tmp_path / "out")
    kept = {(tmp_path / "out" / row.crop).read_bytes(): row for row in rows}
    folder = tmp_path / "set" / "faces_224"
    assert set(kept) == {(folder / f"{n}.jpg").read_bytes() for n in ("a", "swapped")}
    assert {(row.fake, row.kind, row.width) for row in rows} == {
        (0, "real", 90), (1, "swapped", 90),
    }  # fmt: skip
    assert any("same.jpg: the same picture as its original" in c for c in complaints)
    assert sum("nearly black" in c for c in complaints) == 2
    again, _ = prepare("deepfake_faces", tmp_path / "set", tmp_path / "out")
    assert again == rows


@pytest.mark.parametrize("name", ["dfdc", "deepfake_faces"])
def test_missing_metadata(tmp_path: Path, name: str) -> None:
    with raises_code("no_data"):
        READERS[name](tmp_path, [])


def test_splits_do_not_leak(tmp_path: Path) -> None:
    celebdf(tmp_path)
    (tmp_path / "List_of_testing_videos.txt").unlink()
    complaints: list[str] = []
    sources = assign_splits(READERS["celebdf"](tmp_path, complaints), complaints, seed=3)
    rows = [
        make_row(fake=int(s.fake), group="+".join(s.people), split=str(s.split)) for s in sources
    ]
    assert find_leaks(rows) == []
    assert {row.split for row in rows} >= {"train"}
    assert any("two splits" in c for c in complaints)
    many = [replace(row, split="train") for row in rows for _ in range(20)]
    held = [replace(row, split="val", group="held") for row in rows]
    mixed = split_crops_at_random(many + held)
    assert find_leaks(mixed) != []
    assert not any(row.group == "held" for row in mixed)


def test_one_class_is_reported() -> None:
    assert "the train split holds no real faces" in check_index([make_row(fake=1)])


def test_people_in_two_splits_are_reported() -> None:
    row = make_row(fake=1, dataset="d", group="anna+ben")
    clean = check_index([row, replace(row, group="cleo", split="test")])
    assert not any("more than one split" in line for line in clean)
    complaints = check_index([row, replace(row, group="ben", split="test")])
    assert "in more than one split: 1 people or sources (d/ben)" in complaints


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with real/ and fake/, prepared in two processes."""
    root = tmp_path_factory.mktemp("set")
    for number in range(12):
        clip(root / "real" / f"r{number}.mp4")
        clip(root / "fake" / f"f{number}.mp4")
    (root / "real" / "broken.mp4").write_text("no video", encoding="utf-8")
    cv2.imwrite(str(root / "fake" / "noface.png"), np.full((90, 90, 3), 128, np.uint8))
    out = root / "prepared"
    rows, left_out = prepare("folder", root, out, key_frames=2, workers=2)
    assert {r.fake for r in rows} == {0, 1}
    assert any("broken.mp4" in c for c in left_out)
    assert any("noface.png" in c for c in left_out)
    return out


def test_preparation_goes_on_where_it_was(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_index(prepared / "index.csv")
    victim = sorted((prepared / "parts").iterdir())[0]
    victim.unlink()
    cut = []
    cut_faces = datasets._cut_faces

    def watched(*arguments: object):
        cut.append(arguments[1])
        return cut_faces(*arguments)

    monkeypatch.setattr(datasets, "_cut_faces", watched)
    after, _ = prepare("folder", prepared.parent, prepared, key_frames=2)
    assert len(cut) <= 2  # the one that was lost, and the one that never decodes
    assert sorted(r.crop for r in after) == sorted(r.crop for r in before)
    assert all((prepared / r.crop).is_file() for r in after)


def test_crops_that_were_cut_otherwise_are_not_used_again(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").write_bytes((prepared.parent / "real" / "r0.mp4").read_bytes())
    cut = [prepare("folder", tmp_path, tmp_path / "out", key_frames=n)[0] for n in (2, 4, 2)]
    assert len(cut[0]) == 2 < len(cut[1])
    assert cut[0] == cut[2]
    assert all((tmp_path / "out" / row.crop).is_file() for rows in cut for row in rows)


def split_evenly(prepared: Path, folder: Path) -> Path:
    """The same index with both classes in every split, which so few videos may not give."""
    rows = read_index(prepared / "index.csv")
    splits = {}
    for fake in (0, 1):
        videos = sorted({r.video for r in rows if r.fake == fake})
        splits |= {video: SPLITS[n % 3] for n, video in enumerate(videos)}
    index = folder / "index"
    index.mkdir()
    (index / "crops").symlink_to(prepared / "crops")
    write_index(index / "index.csv", [replace(r, split=splits[r.video]) for r in rows])
    return index


def test_thinned_splits_differ_in_the_share_of_fakes_alone() -> None:
    rows = [make_row(str(n), fake=int(n < 300)) for n in range(400)]
    for share in FAKE_SHARES:
        thinned = thin_out(rows, share / 100, FAKE_SHARES, seed=0)
        assert len(thinned) == 200  # of 100 real ones, half of them would be all
        assert sum(r.fake for r in thinned) == 2 * share
        assert len({r.crop for r in thinned}) == len(thinned)


# The distilled ones are the published architectures with a teacher: tests/test_teacher.py.
LABELLED = [n for n, r in RECIPES.items() if r.labelled and not n.startswith(("test", "distilled"))]
STUDIES = [name for name in LABELLED if name.startswith("study")]


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_trains(prepared: Path, tmp_path: Path, name: str) -> None:
    """A few steps of each, with a small network: studies differ in losses and draws alone."""
    recipe = RECIPES[name]
    assert recipe.settings.architecture == RECIPES["paper-xception"].settings.architecture
    small = replace(
        recipe.settings, architecture="test_efficientnet", steps=2, batch=4, validate_every=2,
        workers=0,
    )  # fmt: skip
    index = split_evenly(prepared, tmp_path)
    best = train_from_labels(
        replace(recipe, settings=small), index, RunOptions(tmp_path / "run", start="scratch")
    )
    assert read_metadata(best)["training"]["recipe"]["title"] == recipe.title


@pytest.mark.parametrize("name", sorted(set(LABELLED) - set(STUDIES)))
def test_every_published_system_trains_and_is_measured(
    prepared: Path, tmp_path: Path, name: str
) -> None:
    """One step of each, at a small size, then the whole evaluation."""
    recipe = RECIPES[name]
    small = replace(
        recipe.settings, steps=1, batch=4 if recipe.frames else 2, validate_every=1, workers=0
    )
    recipe = replace(recipe, settings=small, side=96, frames=min(2, recipe.frames))
    index = split_evenly(prepared, tmp_path)
    best = train_from_labels(recipe, index, RunOptions(tmp_path / "run", start="scratch"))
    measured, *_ = evaluate(index, load_detector(weights=best, device="cpu"), tmp_path / "out")
    assert sum(map(sum, measured["frames"]["confusion"])) > 0
    assert {"figures.json", "figures.png", "scores.csv", "table.md"} == {
        p.name for p in (tmp_path / "out").iterdir()
    }


@pytest.mark.parametrize("recipe", ["test-labelled", "test-sequence"])
def test_labelled_recipe_trains_and_is_evaluated(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: str
) -> None:
    index = split_evenly(prepared, tmp_path)
    run = tmp_path / "run"
    code = main([
        "train", recipe, "--data", str(index), "--out", str(run), "--start", "scratch",
        "--device", "cpu", "--leaky", "--side", "80",
    ])  # fmt: skip
    assert code == 0
    assert load_detector(weights=run / "best.safetensors").side == 80
    header = (run / "log.csv").read_text(encoding="utf-8").splitlines()[0]
    assert {"val", "val_accuracy", "val_leak_free"} <= set(header.split(","))
    capsys.readouterr()
    code = main([
        "evaluate", "--weights", str(run / "best.safetensors"), "--data", str(index),
        "--out", str(tmp_path / "out"), "--json", "-", "--device", "cpu",
    ])  # fmt: skip
    assert code == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["frames"]["confusion"]
    assert "confusion" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")


def test_other_frames_than_key_frames(tmp_path: Path) -> None:
    root = tmp_path / "set"
    clip(root / "real" / "a.mp4")
    clip(root / "fake" / "b.mp4")
    counts = {}
    for frames in ("key", "even", "all"):
        rows, _ = prepare("folder", root, tmp_path / frames, key_frames=2, frames=frames)
        counts[frames] = len(rows)
    assert counts["key"] == counts["even"] == 4
    assert counts["all"] > 4
    with raises_code("bad_setting"):
        prepare("folder", root, tmp_path / "none", frames="odd")


def test_prepare_from_the_command_line(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["prepare", "folder", str(prepared.parent), str(prepared), "--json", "-"])
    summary = json.loads(capsys.readouterr().out)
    assert code == 0
    assert summary["crops"] > 0
    assert main(["prepare", "nonsense", str(prepared.parent), str(prepared)]) == 2
    assert main(["prepare", "dfdc", "/nowhere", str(prepared)]) == 1
