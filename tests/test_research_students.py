from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from clips import drift, make_row, portrait, write_clip
from sklearn import metrics as sk

from benchmarks import research_students as students
from detector.training.datasets import read_index, write_index

KINDS = "real", "swapped", "animated"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three kinds of faces of 40 data sets; grey levels tell the fakes; two are left out."""
    folder = tmp_path / "sources"
    folder.mkdir()
    rows, lines = [], ["dataset,kind,clip,faces,pasted,drawn"]
    for number in range(240):
        kind, dataset = KINDS[number % 3], f"set{number % 40}"
        fake = int(kind != "real")
        crop = f"{number}.png"
        cv2.imwrite(str(folder / crop), np.full((20, 20, 3), 100 + 50 * fake, np.uint8))
        rows.append(make_row(
            crop, fake=fake, video=f"v{number}", group=f"g{number}", dataset=dataset, kind=kind,
            split="", box=(5, 5, 15, 15),
        ))  # fmt: skip
        if dataset in ("set3", "set4"):
            lines.append(f"{dataset},{kind},v{number},1,{-1 - fake},{fake}")
    write_index(folder / "index.csv", rows)
    predictions = tmp_path / "mean.csv"
    predictions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.setattr(students, "PREDICTIONS", predictions)
    return folder


@pytest.fixture
def dfdc(tmp_path: Path) -> Path:
    """An original in each split has a real face and three fakes; one has fakes alone."""
    folder = tmp_path / "dfdc"
    folder.mkdir()
    rows = []
    for number in range(60):
        split = ("train", "val", "test")[number % 3]
        for copy in range(0 if number else 1, 4):
            fake, crop = int(copy > 0), f"{number}-{copy}.png"
            cv2.imwrite(str(folder / crop), np.full((20, 20, 3), 100 + 50 * fake, np.uint8))
            kind = KINDS[fake]
            rows.append(make_row(
                crop, fake=fake, video=crop, group=f"o{number}", dataset="dfdc", kind=kind,
                split=split,
            ))  # fmt: skip
    write_index(folder / "index.csv", rows)
    return folder


def test_students_never_learn_from_sources_that_are_measured(
    sources: Path, dfdc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(students, "ORIGINALS", 10)
    out = tmp_path / "subset"
    students.make_subset(sources, dfdc, out)
    rows = read_index(out / "index.csv")
    assert not {row.dataset for row in rows} & set(students.left_out_sources())
    assert {row.dataset for row in rows} == {f"set{n}" for n in range(40)} - {"set3", "set4"} | {
        "dfdc"
    }
    assert all((out / row.crop).is_file() for row in rows)
    of_dfdc = [row for row in rows if row.dataset == "dfdc"]
    assert len(of_dfdc) == 2 * 10
    assert {(row.group, row.fake) for row in of_dfdc} == {
        (row.group, fake) for row in of_dfdc for fake in (0, 1)
    }
    learned = {row.crop for row in read_index(dfdc / "index.csv") if row.split == "train"}
    assert {Path(row.crop).name for row in of_dfdc} <= learned
    splits = {row.group: {other.split for other in rows if other.group == row.group}
              for row in rows}  # fmt: skip
    assert all(len(found) == 1 for found in splits.values())
    assert {row.split for row in rows} == {"train", "val"}


def test_faces_of_clips_have_their_kind_and_their_box(tmp_path: Path) -> None:
    small = cv2.resize(portrait(), (360, 360), interpolation=cv2.INTER_AREA)
    clips = tmp_path / "clips"
    for folder in ("real", "fake"):
        (clips / folder).mkdir(parents=True)
        write_clip(clips / folder / f"{folder}.mp4", drift(small, 10, 320, 240, speed=2))
    (clips / "manifest.tsv").write_text(
        "name\tkind\nreal.mp4\treal\nfake.mp4\tblended\n", encoding="utf-8"
    )
    students.cut_clips(clips, tmp_path / "out")
    rows = read_index(tmp_path / "out" / "index.csv")
    assert {(row.fake, row.kind) for row in rows} == {(0, "real"), (1, "blended")}
    for row in rows:
        assert row.left == row.top
        assert row.width <= row.right - row.left < 1.5 * row.width  # a face is higher than wide


def test_the_table_has_the_predictions_and_each_checkpoint(
    sources: Path, dfdc: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def by_brightness(weights: Path, device: str) -> SimpleNamespace:
        sign = -1 if "bad" in str(weights) else 1
        return SimpleNamespace(
            margin=0.1,
            in_sequence="bad" in str(weights),
            score_signs=lambda faces: sign * np.array([face.mean() for face in faces]),
        )

    monkeypatch.setattr(students, "load_detector", by_brightness)
    monkeypatch.setattr(students, "facts_of", lambda weights: ("96", "160", "1"))
    files = [Path("good/best.safetensors"), Path("bad/best.safetensors")]
    students.print_table(sources, sources, dfdc, files, together=False)
    published, good, bad = (line.split(" | ") for line in capsys.readouterr().out.splitlines()[-3:])
    assert [cell.split()[0] for cell in good[4:]] == ["1.000"] * 7
    assert [cell.split()[0] for cell in bad[4:]] == ["0.000"] * 7
    assert [cell.split()[0] for cell in published[4:7]] == ["1.000"] * 3  # the larger of two logits


def test_areas_are_of_the_wanted_fakes_against_all_real_ones(sources: Path) -> None:
    measured = students.Measured(sources, read_index(sources / "index.csv"))
    logits = np.random.default_rng(0).normal(0, 1, len(measured.videos)) + measured.fake
    inside = measured.kinds != "animated"
    expected = sk.roc_auc_score(measured.fake[inside], logits[inside])
    assert measured.area(logits, students.kinds_of(1)).startswith(f"{expected:.3f} (")
    expected = sk.roc_auc_score(measured.fake, logits)
    assert measured.area(logits, [*students.kinds_of(1), *students.kinds_of(2)]).startswith(
        f"{expected:.3f} ("
    )
