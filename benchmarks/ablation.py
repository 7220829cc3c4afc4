"""What each part of the training contributes: short runs of equal length, all from ImageNet.

    python -m benchmarks.ablation FACES OUT [--clips CLIPS] [--steps N] [--side N] [--decoders N]

FACES is a folder of real faces; CLIPS, a folder of labelled clips in real/ and fake/ whose
manifest.tsv gives the kinds blended and animated, adds their video AUC. OUT holds the runs; one
that was stopped is continued. Prints a row for each run, all measured on the same held-out
forgeries and the same faces of the clips.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.tables import print_head, print_row
from detector.faces import CROP_MARGIN
from detector.scoring import Detector, Ensemble
from detector.training.decoders import DECODERS, make_decoders
from detector.training.forgery import KINDS
from detector.training.labelled import ClipScore, find_labelled, score_clips
from detector.training.metrics import auc
from detector.training.portraits import find_portraits, split_portraits
from detector.training.recipes import RECIPES, Recipe
from detector.training.runs import RunOptions, train_from_faces
from detector.training.validation import validate_forgeries
from detector.weights import load_detector


def variants() -> dict[str, Recipe]:
    """The recipes that are compared, by name."""
    full, paper = RECIPES["embedded"], RECIPES["embedded-cost-sensitive"]
    kinds = {
        f"without {kind}": replace(full, kinds={k: v for k, v in KINDS.items() if k != kind})
        for kind in KINDS
    }
    return {
        "everything": full,
        "with the loss per cell": replace(
            full, settings=replace(full.settings, per_cell_loss=True)
        ),
        "cross-entropy with class weights": paper,
        "cross-entropy without": replace(paper, weighted=False),
        "without video compression": replace(full, encoded=False),
        "without any degradation": replace(full, degrade=False),
        **kinds,
    }


def auc_by_kind(scores: Sequence[ClipScore], detector: Detector | Ensemble) -> list[float]:
    """Video AUC of blended and of animated fakes against all real clips, on the clips' crops."""
    logits = np.array([np.median(detector.score(s.crops)) for s in scores])
    labels = np.array([s.clip.fake for s in scores])
    kinds = np.array([s.clip.kind for s in scores])
    return [
        auc(labels[chosen], logits[chosen])
        for chosen in ((kinds == kind) | ~labels for kind in ("blended", "animated"))
    ]


def main() -> None:
    """Train and measure each variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--decoders", type=int, default=len(DECODERS))
    parser.add_argument("--clips", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    clips: list[ClipScore] = []
    if options.clips is not None:
        # Crop the clips' faces with the margin of the runs.
        cropper = replace(load_detector(device="cpu"), margin=CROP_MARGIN)
        clips, _ = score_clips(find_labelled(options.clips), cropper)
    portraits = find_portraits(options.faces, options.out / "portraits.npz")
    learned, held = split_portraits(portraits)
    decoders = make_decoders(learned, options.out / "decoders", options.decoders)
    forgeries = validate_forgeries(held, options.side, KINDS, decoders)
    columns = ["run", "AUC, held out, all kinds", "untouched"]
    print_head(*columns, *(["clips, blended", "clips, animated"] if clips else []))
    for name, recipe in variants().items():
        settings = replace(recipe.settings, steps=options.steps, validate_every=options.steps)
        recipe = replace(recipe, settings=settings, side=options.side, decoders=options.decoders)
        detector = load_detector(weights=train(name, recipe, options), device="cpu")
        areas = [
            auc(forgeries[kept].labels, detector.score(list(forgeries[kept].crops)))
            for kept in ("held", "held_clean")
        ]
        areas += auc_by_kind(clips, detector) if clips else []
        print_row(name, *(f"{area:.2f}" for area in areas))


def train(name: str, recipe: Recipe, options: argparse.Namespace) -> Path:
    """Train a variant in its own folder, with the portraits and decoders that all share."""
    out = options.out / name.replace(" ", "-")
    out.mkdir(parents=True, exist_ok=True)
    for shared in ("portraits.npz", "decoders"):
        if not (out / shared).exists():
            (out / shared).symlink_to((options.out / shared).resolve())
    return train_from_faces(recipe, options.faces, RunOptions(out, resume=True))


if __name__ == "__main__":
    main()
