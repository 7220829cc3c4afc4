"""One process against two, and against two workers of Ray: how fast, and whether the result is one.

    python -m benchmarks.parallel prepare CLIPS [--each 24] [--key-frames 16]
    python -m benchmarks.parallel train INDEX [--recipe NAME] [--steps 10]

`prepare` cuts the faces of the smallest clips in CLIPS/real and CLIPS/fake; the result is the same
if index and crops are, byte for byte. `train` takes the same steps in one process and in two by
torchrun; the result is the same if each step's loss is, up to rounding.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.tables import print_head, print_row
from detector.training.datasets import prepare, read_index, write_index
from detector.training.recipes import RECIPES
from detector.video import CLIP_SUFFIXES

WORKERS = 2
FEW = {"train": 1000, "val": 200}  # faces of a split that are learned from and measured on


def link_smallest(clips: Path, out: Path, each: int) -> None:
    """A folder with the smallest clips of each class."""
    for label in ("real", "fake"):
        found = [p for p in (clips / label).iterdir() if p.suffix.lower() in CLIP_SUFFIXES]
        (out / label).mkdir(parents=True)
        for path in sorted(found, key=lambda p: (p.stat().st_size, p.name))[:each]:
            (out / label / path.name).symlink_to(path.resolve())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an index and its crops."""
    paths = [folder / "index.csv", *(folder / "crops").rglob("*.jpg")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def cut(clips: Path, each: int, key_frames: int) -> None:
    """`prepare` in one process, in two, and on two workers of Ray."""
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    ways = {
        "one process": {"workers": 1},
        f"{WORKERS} processes": {"workers": WORKERS},
        f"Ray, {WORKERS} workers": {"ray": True},
    }
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        link_smallest(clips, folder / "clips", each)
        print_head(
            "way", "crops", "seconds", "of them until the first clip", "crops a minute after that",
            "same files as one process",
        )  # fmt: skip
        first: dict[str, bytes] = {}
        for number, (name, options) in enumerate(ways.items()):
            out = folder / str(number)
            began = time.perf_counter()
            times: list[float] = []
            rows, _ = prepare(
                "folder", folder / "clips", out, key_frames=key_frames,
                progress=lambda *_, times=times: times.append(time.perf_counter()), **options,
            )  # fmt: skip
            files = contents(out)
            first = first or files
            share = (len(times) - 1) / len(times)
            print_row(
                name, str(len(rows)), f"{times[-1] - began:.0f}", f"{times[0] - began:.0f}",
                f"{60 * share * len(rows) / (times[-1] - times[0]):.0f}",
                "yes" if files == first else "no",
            )  # fmt: skip
    ray.shutdown()


TRAIN = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from detector.training import train
from detector.training.recipes import find_recipe
from detector.training.runs import RunOptions, train_from_labels
name, index, out, steps = sys.argv[1:]
# Batch statistics and dropout differ between processes by design: without them, only the way of
# computing differs.
train.set_train_mode = lambda network: network.eval()
recipe = find_recipe(name)
settings = replace(
    recipe.settings, steps=int(steps), workers=0, validate_every=int(steps), half=False
)
torch.set_num_threads(1)
torch.manual_seed(0)
train_from_labels(
    replace(recipe, settings=settings), Path(index), RunOptions(Path(out), start="scratch")
)
"""
"""A run whose processes are told by torchrun; the start is always the same."""


def run_steps(start: list[str], recipe: str, index: Path, out: Path, steps: int) -> None:
    """Train in processes of their own; an error stops the benchmark with what they said."""
    script = out.with_suffix(".py")
    script.write_text(TRAIN, encoding="utf-8")
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [*start, str(script), recipe, str(index.resolve()), str(out), str(steps)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])


def weights_of(out: Path) -> torch.Tensor:
    """All weights of a run's last state, one after the other."""
    state = torch.load(out / "resume.pt", weights_only=True)["network"]
    return torch.cat([value.flatten().double() for value in state.values()])


def write_few(index: Path, out: Path) -> None:
    """A small index of the same crops, at even steps."""
    rows = read_index(index / "index.csv")
    out.mkdir()
    few = []
    for split, most in FEW.items():
        chosen = [row for row in rows if row.split == split]
        few += chosen[:: max(1, len(chosen) // most)]
    write_index(
        out / "index.csv",
        [replace(row, crop=os.path.relpath((index / row.crop).resolve(), out)) for row in few],
    )


def learn(index: Path, recipe: str, steps: int) -> None:
    """`train` in one process and in two by torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    ways = {"one process": [sys.executable], f"torchrun, {WORKERS} processes":
            [*torchrun, str(WORKERS)]}  # fmt: skip
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        write_few(index, folder / "index")
        run_steps([sys.executable], recipe, folder / "index", folder / "start", 1)
        start = weights_of(folder / "start")
        print_head("way", "seconds a step", "faces a minute", "validation, AUC", "weights apart")
        first = None
        for number, (name, command) in enumerate(ways.items()):
            out = folder / str(number)
            run_steps(command, recipe, folder / "index", out, steps)
            ((_, seconds, *_, area, _),) = np.loadtxt(
                out / "log.csv", delimiter=",", skiprows=1, ndmin=2
            )
            weights = weights_of(out)
            first = weights if first is None else first
            apart = float((weights - first).norm() / (first - start).norm())
            batch = RECIPES[recipe].settings.batch
            print_row(
                name, f"{seconds / steps:.2f}", f"{60 * steps * batch / seconds:.0f}",
                f"{area:.4f}", f"{apart:.1e}",
            )  # fmt: skip
    print("\nApart: the distance of the weights, as a share of the way from the first step on.")


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tables = parser.add_subparsers(dest="table", required=True)
    prepared = tables.add_parser("prepare")
    prepared.add_argument("clips", type=Path)
    prepared.add_argument("--each", type=int, default=24)
    prepared.add_argument("--key-frames", type=int, default=16)
    trained = tables.add_parser("train")
    trained.add_argument("index", type=Path)
    trained.add_argument("--recipe", default="faces-plain_cnn")
    trained.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    if options.table == "prepare":
        cut(options.clips, options.each, options.key_frames)
    else:
        learn(options.index, options.recipe, options.steps)


if __name__ == "__main__":
    main()
