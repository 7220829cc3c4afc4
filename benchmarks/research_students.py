"""The published architectures, distilled from the shipped detector: data, and one row each.

    python -m benchmarks.research_students subset VIDEO_FACES LEARNED OUT
    python -m benchmarks.research_students clips CLIPS OUT
    python -m benchmarks.research_students table VIDEO_FACES CLIP_FACES ASIDE --weights FILE ...
        [--together]
    python -m benchmarks.research_students carry VIDEO_FACES --weights FILE ...

VIDEO_FACES is an index of labelled faces of many sources with their boxes. LEARNED and ASIDE are
what `benchmarks.research set-aside` makes of deepfake_faces. `subset` writes the index that
students learn from, without copying a face: VIDEO_FACES without the sources of
docs/predictions/mean.csv, which neither of the two runs behind the shipped weights saw, and faces
of LEARNED. `clips` cuts faces of labelled clips, with their boxes. `table` measures checkpoints on
the left-out sources, on those clips and on faces of ASIDE, beside the predictions of
docs/predictions/mean.csv; with --together, their ensemble. `carry` measures checkpoints that
learned from DFDC's tight faces alone on a face of each video or picture of all other sources.
"""

import argparse
import csv
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from benchmarks.research import choose_faces, over_seeds
from benchmarks.tables import print_head, print_row
from detector.scoring import Detector, Ensemble
from detector.training import metrics
from detector.training.datasets import Row, prepare, read_index, write_index
from detector.training.mixture import REAL, SIGN_OF, read_face
from detector.training.sequence import group_videos
from detector.verdict import strongest_sign
from detector.weights import load_detector, read_metadata

PREDICTIONS = Path(__file__).parent.parent / "docs" / "predictions" / "mean.csv"
ORIGINALS = 1500  # of DFDC, each with its real face and one fake
VALIDATED = 20  # one group in so many is validated on
CLIP_MARGIN = 0.9  # of the faces cut from clips
CLIP_FRAMES = 8
MOST_ASIDE = 2000  # faces of ASIDE


def left_out_sources() -> list[str]:
    """The data sets that neither of the two runs behind the shipped weights saw."""
    with PREDICTIONS.open(newline="", encoding="utf-8") as file:
        return sorted({row["dataset"] for row in csv.DictReader(file)})


def make_subset(video_faces: Path, learned: Path, out: Path) -> None:
    """Write the index that students learn from."""
    never = left_out_sources()
    others = [row for row in read_index(video_faces / "index.csv") if row.dataset not in never]
    chosen = [(video_faces, row) for row in others if row.kind in (REAL, *SIGN_OF)]
    chosen += [(learned, row) for row in draw_originals(read_index(learned / "index.csv"))]
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for folder, row in chosen:
        split = "train" if _number_of(f"{row.dataset}/{row.group}") % VALIDATED else "val"
        crop = os.path.relpath(folder / row.crop, out)
        rows.append(replace(row, crop=crop, split=split))
    write_index(out / "index.csv", rows)
    for split in ("train", "val"):
        fakes = [row.fake for row in rows if row.split == split]
        print(f"{split}: {len(fakes) - sum(fakes)} real faces, {sum(fakes)} fakes")


def draw_originals(rows: Sequence[Row]) -> Iterator[Row]:
    """The real face and one fake of some originals of the training split, always the same."""
    faces: dict[tuple[str, int], Row] = {}
    for row in rows:
        if row.split == "train":
            faces.setdefault((row.group, row.fake), row)
    both = [group for group, fake in faces if fake and (group, 0) in faces]
    for group in sorted(both, key=_number_of)[:ORIGINALS]:
        yield from (faces[group, 0], faces[group, 1])


def _number_of(name: str) -> int:
    return int(hashlib.sha256(f"student:{name}".encode()).hexdigest(), 16)


def cut_clips(clips: Path, out: Path) -> None:
    """Cut faces of labelled clips; the index tells each face's box inside its crop."""
    rows, _ = prepare(
        "folder", clips, out, key_frames=CLIP_FRAMES, frames="even", margin=CLIP_MARGIN
    )
    write_index(out / "index.csv", [_with_box(out, row) for row in rows])


def _with_box(folder: Path, row: Row) -> Row:
    """The face is in the middle of a square crop, which shows CLIP_MARGIN of it around it."""
    side = read_face(folder, row, 0.0).shape[0]
    start = round(side * (1 - 1 / (1 + CLIP_MARGIN)) / 2)
    return replace(row, left=start, top=start, right=side - start, bottom=side - start)


# Measuring.


class Measured:
    """Videos with their faces, to score."""

    def __init__(self, folder: Path, rows: Sequence[Row]) -> None:
        self.folder = folder
        self.videos = group_videos(rows)
        first = [video[0] for video in self.videos]
        self.fake = np.array([bool(row.fake) for row in first])
        self.groups = np.array([f"{row.dataset}/{row.group}" for row in first])
        self.kinds = np.array([row.kind for row in first])

    def score(self, detector: Detector | Ensemble, margin: float | None = None) -> np.ndarray:
        """The median logit of each video; faces are cut with the detector's margin by default."""
        margin = detector.margin if margin is None else margin
        faces = [[read_face(self.folder, row, margin) for row in video] for video in self.videos]
        if detector.in_sequence:
            logits = [detector.score_signs(of_video) for of_video in faces]
        else:  # faster by all faces at once
            ends = np.cumsum([len(of_video) for of_video in faces])
            logits = np.split(detector.score_signs(list(chain(*faces))), ends[:-1])
        return np.array([np.median(strongest_sign(of_video)) for of_video in logits])

    def area(self, logits: np.ndarray, kinds: Sequence[str]) -> str:
        """The AUC of fakes of some kinds against all real videos, with its interval."""
        inside = ~self.fake | np.isin(self.kinds, kinds)
        scores = logits[inside, None]
        return over_seeds(metrics.auc, self.fake[inside], scores, self.groups[inside])


def kinds_of(sign: int) -> list[str]:
    """The kinds of fakes of a sign: 1 is pasted, 2 is drawn."""
    return [kind for kind, number in SIGN_OF.items() if number == sign]


KINDS = {
    "swapped, reenacted": kinds_of(1),
    "animated, synthesised": kinds_of(2),
    "all fakes": list(SIGN_OF),
}


def print_table(
    video_faces: Path, clip_faces: Path, aside: Path, weights: Sequence[Path], together: bool
) -> None:
    """Checkpoints on the left-out sources, on the clips, and on DFDC's faces set aside."""
    never = left_out_sources()
    rows = read_index(video_faces / "index.csv")
    sources = Measured(
        video_faces, [row for row in rows if row.dataset in never and row.kind in (REAL, *SIGN_OF)]
    )
    clips = Measured(clip_faces, read_index(clip_faces / "index.csv"))
    dfdc = Measured(aside, draw_faces(read_index(aside / "index.csv")))
    print_head(
        "network", "input, pixels", "faces seen", "minutes of one core",
        *(f"left-out sources, {kind}" for kind in KINDS), *(f"clips, {kind}" for kind in KINDS),
        "DFDC, set aside",
    )  # fmt: skip
    areas = [sources.area(predictions_of(sources), kinds) for kinds in KINDS.values()]
    print_row("two runs' mean", "224", "", "", *areas, "", "", "", "")
    detectors = {path.parent.name: load_detector(weights=path, device="cpu") for path in weights}
    facts = {path.parent.name: facts_of(path) for path in weights}
    if together:
        name = " + ".join(detectors)
        detectors = {
            name: Ensemble.join(name, [d for d in detectors.values() if isinstance(d, Detector)])
        }
        facts = {name: ("", "", "")}
    for name, detector in detectors.items():
        areas = []
        for measured in (sources, clips):
            logits = measured.score(detector)
            areas += [measured.area(logits, kinds) for kinds in KINDS.values()]
        areas.append(dfdc.area(dfdc.score(detector), list(SIGN_OF)))
        print_row(name, *facts[name], *areas)


def draw_faces(rows: Sequence[Row]) -> list[Row]:
    """The same faces that `benchmarks.research figures` measures on."""
    order = np.random.default_rng(0).permutation(len(rows))
    return [rows[number] for number in np.sort(order[:MOST_ASIDE])]


def predictions_of(sources: Measured) -> np.ndarray:
    """The published logits of the videos: the larger of the two signs' medians."""
    with PREDICTIONS.open(newline="", encoding="utf-8") as file:
        logits = {
            row["clip"]: max(float(row["pasted"]), float(row["drawn"]))
            for row in csv.DictReader(file)
        }
    return np.array([logits[video[0].video] for video in sources.videos])


def facts_of(weights: Path) -> tuple[str, str, str]:
    """Input, faces seen and minutes of one core of a student."""
    metadata = read_metadata(weights)
    training = metadata["training"]
    if "cpu_seconds" not in training:
        return str(metadata["side"]), "", ""
    seen = training["step"] * training["recipe"]["settings"]["batch"]
    return str(metadata["side"]), str(seen), f"{training['cpu_seconds'] / 60:.0f}"


def print_carry(video_faces: Path, weights: Sequence[Path]) -> None:
    """Checkpoints that know DFDC alone, on tight faces of all other sources."""
    rows = [row for row in read_index(video_faces / "index.csv") if row.kind in (REAL, *SIGN_OF)]
    others = Measured(video_faces, choose_faces(rows, 1))
    kinds = {kind: [kind] for kind in SIGN_OF if (others.kinds == kind).any()}
    kinds["all fakes"] = list(SIGN_OF)
    print_head("network", *kinds)
    for path in weights:
        logits = others.score(load_detector(weights=path, device="cpu"), margin=0.0)
        print_row(path.parent.name, *(others.area(logits, chosen) for chosen in kinds.values()))


def main() -> None:
    """Make the data, or print the table that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    folders = {
        "subset": ("video_faces", "learned", "out"),
        "clips": ("clips", "out"),
        "table": ("video_faces", "clip_faces", "aside"),
        "carry": ("video_faces",),
    }
    for command, names in folders.items():
        chosen = commands.add_parser(command)
        for name in names:
            chosen.add_argument(name, type=Path)
        if command in ("table", "carry"):
            chosen.add_argument("--weights", type=Path, required=True, nargs="+")
    commands.choices["table"].add_argument("--together", action="store_true")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    if options.command == "subset":
        make_subset(options.video_faces, options.learned, options.out)
    elif options.command == "clips":
        cut_clips(options.clips, options.out)
    elif options.command == "table":
        print_table(
            options.video_faces, options.clip_faces, options.aside, options.weights,
            options.together,
        )  # fmt: skip
    else:
        print_carry(options.video_faces, options.weights)


if __name__ == "__main__":
    main()
