"""What each part of the training adds: short runs of equal budget, all from ImageNet.

    python -m benchmarks.ablation FACES OUT [--clips CLIPS] [--steps N] [--side N] [--decoders N]

FACES is a folder of real faces; CLIPS, labelled clips in real/ and fake/, adds their video AUC.
Prints one row a run, all measured on the same held-out forgeries and the same faces of the clips.
A run that was stopped is continued.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from detector.faces import CROP_MARGIN
from detector.scoring import Detector, Ensemble
from detector.training.decoders import DECODERS, make_decoders
from detector.training.evaluate import ClipScore, find_labelled, score_clips
from detector.training.forgery import KINDS
from detector.training.metrics import auc
from detector.training.portraits import find_portraits, split_portraits
from detector.training.recipes import RECIPES, Recipe
from detector.training.runs import train_from_faces
from detector.training.validation import validate_forgeries
from detector.weights import load_detector


def variants() -> dict[str, Recipe]:
    """What is compared."""
    whole, paper = RECIPES["embedded"], RECIPES["embedded-cost-sensitive"]
    kinds = {
        f"without {kind}": replace(whole, kinds={k: v for k, v in KINDS.items() if k != kind})
        for kind in KINDS
    }
    return {
        "everything": whole,
        "with the loss per cell": replace(
            whole, settings=replace(whole.settings, per_cell_loss=True)
        ),
        "cross-entropy with class weights": paper,
        "cross-entropy without": replace(paper, weighted=False),
        "without video compression": replace(whole, encoded=False),
        "without any degradation": replace(whole, degrade=False),
        **kinds,
    }


def by_kind(scores: Sequence[ClipScore], detector: Detector | Ensemble) -> list[float]:
    """Video AUC of each kind against all real clips, of faces that were cut before."""
    logits = np.array([np.median(detector.score(s.crops)) for s in scores])
    labels = np.array([s.clip.fake for s in scores])
    kinds = np.array([s.clip.kind for s in scores])
    return [
        auc(labels[chosen], logits[chosen])
        for chosen in ((kinds == kind) | ~labels for kind in ("blended", "animated"))
    ]


def main() -> None:
    """Run them one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--decoders", type=int, default=len(DECODERS))
    parser.add_argument("--clips", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    scores: list[ClipScore] = []
    if options.clips is not None:
        cutter = replace(load_detector(device="cpu"), margin=CROP_MARGIN)  # as the runs see faces
        scores, _ = score_clips(find_labelled(options.clips), cutter)
    portraits = find_portraits(options.faces, options.out / "portraits.npz")
    learned, held = split_portraits(portraits)
    decoders = make_decoders(learned, options.out / "decoders", options.decoders)
    measured = validate_forgeries(held, options.side, KINDS, decoders)
    columns = "held out, all kinds", "untouched", "clips, blended", "clips, animated"
    print("| run | AUC, " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    for name, recipe in variants().items():
        settings = replace(recipe.settings, steps=options.steps, validate_every=options.steps)
        recipe = replace(recipe, settings=settings, side=options.side, decoders=options.decoders)
        out = options.out / name.replace(" ", "-")
        out.mkdir(parents=True, exist_ok=True)
        for shared in ("portraits.npz", "decoders"):  # found and trained once, for all
            if not (out / shared).exists():
                (out / shared).symlink_to((options.out / shared).resolve())
        best = train_from_faces(recipe, options.faces, out, resume=True)
        detector = load_detector(weights=best, device="cpu")
        cells = [
            auc(measured[which].labels, detector.score(list(measured[which].crops)))
            for which in ("held", "held_clean")
        ]
        cells += by_kind(scores, detector) if scores else []
        print(f"| {name} | " + " | ".join(f"{c:.2f}" for c in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
