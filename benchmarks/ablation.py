"""What each part of the training adds: short runs of equal budget, all from ImageNet.

    python -m benchmarks.ablation FACES OUT [--steps 400] [--clips CLIPS]

FACES is a folder of real faces; CLIPS, labelled clips in real/ and fake/, adds their video AUC.
Prints one row a run. A run that was stopped is gone on with. Faces are found once, for all.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from detector.training import degradation
from detector.training.evaluate import find_labelled, score_clips
from detector.training.forgery import KINDS
from detector.training.metrics import auc
from detector.training.portraits import find_portraits
from detector.training.recipes import RECIPES, Recipe, train_from_faces
from detector.weights import load_detector


def without(kind: str) -> Recipe:
    """The embedded recipe without one kind of forgery."""
    kinds = {name: share for name, share in KINDS.items() if name != kind}
    return replace(RECIPES["embedded"], kinds=kinds)


def variants() -> dict[str, Recipe]:
    """What is compared."""
    whole = RECIPES["embedded"]
    return {
        "everything": whole,
        "without degradation": replace(whole, degrade=False),
        "without the common level": replace(whole, settings=replace(whole.settings, level=None)),
        "without decoders": replace(whole, decoders=0),
        **{f"without {kind}": without(kind) for kind in KINDS},
    }


def main() -> None:
    """Run them one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--clips", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    find_portraits(options.faces, options.out / "portraits.npz")
    print("| run | video AUC, blended | video AUC, animated |\n|---|---|---|")
    for name, recipe in {**variants(), "without h264": RECIPES["embedded"]}.items():
        chance = degradation.H264_SHARE
        degradation.H264_SHARE = 0.0 if name == "without h264" else chance
        settings = replace(recipe.settings, steps=options.steps, validate_every=options.steps)
        out = options.out / name.replace(" ", "-")
        out.mkdir(parents=True, exist_ok=True)
        if not (out / "portraits.npz").exists():
            (out / "portraits.npz").symlink_to((options.out / "portraits.npz").resolve())
        best = train_from_faces(replace(recipe, settings=settings), options.faces, out, resume=True)
        degradation.H264_SHARE = chance
        if options.clips is None:
            print(f"| {name} | | |", flush=True)
            continue
        scores, _ = score_clips(find_labelled(options.clips), load_detector(weights=best))
        cells = []
        for kind in ("blended", "animated"):
            chosen = [s for s in scores if not s.clip.fake or s.clip.kind == kind]
            cells.append(auc([s.clip.fake for s in chosen], [s.logit for s in chosen]))
        print(f"| {name} | " + " | ".join(f"{c:.2f}" for c in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
