"""The questions of the research on real data: one command a table, printed as Markdown.

    python -m benchmarks.research features INDEX OUT [--share N] [--side N]
    python -m benchmarks.research imbalance FEATURES
    python -m benchmarks.research splits FEATURES
    python -m benchmarks.research carry FEATURES OTHERS
    python -m benchmarks.research set-aside INDEX LEARNED ASIDE
    python -m benchmarks.research figures INDEX --weights FILE ... [--split S] [--leaky]
    python -m benchmarks.research hours [RECIPE ...]

INDEX is a folder that `prepare` made, or one with an index.csv in its form. `features` passes one
face of each video through an EfficientNet-Lite0 that knows ImageNet and no deepfakes; with --share,
those of one original in N, always the same. On such features `imbalance`, `splits` and `carry`
train logistic regressions in seconds, with five seeds each. `set-aside` divides an index of
deepfake_faces in two without copying a face: one to learn from, and one original in twenty with its
fakes that no checkpoint of this project learned from. `figures` measures checkpoints on a split of
an index, or with --leaky of the papers' random one (which leaves the index's own `val` out),
`hours` how long the steps of recipes take on one core.
"""

import argparse
import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.tables import print_head, print_row
from detector.architectures import Network
from detector.records import Image
from detector.scoring import autocast, to_device, to_tensor
from detector.training import metrics
from detector.training.datasets import SPLITS, Row, read_index, split_crops_at_random, write_index
from detector.training.mixture import REAL, SIGN_OF
from detector.training.recipes import RECIPES, Recipe
from detector.training.runs import start_network, thin_out
from detector.training.sequence import group_videos, read_sequence
from detector.training.train import TrainSettings, freeze, set_train_mode, weighted_loss
from detector.video import read_image
from detector.weights import load_detector, read_metadata

SEEDS = range(5)
FAKES = 50, 83, 90, 95  # in a hundred: 1:1, 1:5, 1:9, 1:19
FOCUS = 2.0  # exponent of the focal loss, as its authors chose it
RIDGE = 1e-2  # on the squared weights of a regression whose features are standardised
NEIGHBOURS = 15
HELD = 0.2  # share that is measured on
ASIDE = 20  # one original in so many is set aside
ROUNDS = 200  # of the bootstrap
BATCH = 16
PASSES = 3  # a step's operations in those of a forward pass: backwards there are twice as many
GPU_SPEED = 15e12  # operations a second in training: assumed, a twentieth of an A100's peak in bf16

Figure = Callable[[np.ndarray, np.ndarray], float]


# Features, made once.


def choose_faces(rows: Sequence[Row], share: int) -> list[Row]:
    """The middle face of each video whose group falls to the share."""
    videos = group_videos([row for row in rows if _place_of(row.group) % share == 0])
    return [video[len(video) // 2] for video in videos]


def _place_of(group: str) -> int:
    return int(hashlib.sha256(f"share:{group}".encode()).hexdigest(), 16)


def make_features(index: Path, out: Path, share: int, side: int) -> None:
    """Write index.csv and features.npy, a line for each face."""
    recipe = Recipe("", TrainSettings("efficientnet_lite0"), side=side)
    network = to_device(start_network(recipe, "imagenet").eval())
    rows = choose_faces(read_index(index / "index.csv"), share)
    parts = []
    began = time.process_time()
    for start in range(0, len(rows), BATCH):
        # without a margin, as the crops of deepfake_faces are
        faces = read_sequence(rows[start : start + BATCH], index, side, margin=0.0)
        parts.append(features_of(network, faces))
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "features.npy", np.concatenate(parts).astype(np.float16))
    write_index(out / "index.csv", rows)
    print(f"{len(rows)} faces, {time.process_time() - began:.0f} s of one core")


def features_of(network: Network, faces: np.ndarray) -> np.ndarray:
    """What the last layer before the answer sees of (n, side, side, 3) faces."""
    pictures = to_tensor(torch.from_numpy(faces).permute(0, 3, 1, 2), torch.device("cpu"))
    backbone = network.backbone
    with torch.inference_mode():
        maps = backbone.forward_features((pictures - network.mean) / network.std)
        return backbone.forward_head(maps, pre_logits=True).numpy()


class Faces:
    """Rows and their features."""

    def __init__(self, folder: Path) -> None:
        self.rows = read_index(folder / "index.csv")
        self.features = np.load(folder / "features.npy").astype(np.float32)
        self.fake = np.array([bool(row.fake) for row in self.rows])
        self.groups = np.array([f"{row.dataset}/{row.group}" for row in self.rows])
        self.kinds = np.array([row.kind for row in self.rows])

    def of_split(self, *names: str) -> np.ndarray:
        """The places of the rows of some splits."""
        return np.flatnonzero([row.split in names for row in self.rows])


# Regressions on them.


class Regression:
    """A logistic regression on standardised features."""

    def __init__(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        weights: tuple[float, float] = (1.0, 1.0),
        focal: float = 0.0,
    ) -> None:
        self.mean, self.std = features.mean(0), features.std(0) + 1e-6
        x = torch.from_numpy((features - self.mean) / self.std)
        y = torch.from_numpy(labels.astype(np.float32))
        answer = torch.zeros(x.shape[1] + 1, requires_grad=True)
        optimiser = torch.optim.LBFGS([answer], max_iter=60, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optimiser.zero_grad()
            loss = weighted_loss(x @ answer[:-1] + answer[-1], y, weights, focal=focal)
            loss = loss + RIDGE * (answer[:-1] ** 2).sum() / 2
            loss.backward()
            return loss

        optimiser.step(closure)
        self.answer = answer.detach().numpy()

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """The logits."""
        return ((features - self.mean) / self.std) @ self.answer[:-1] + self.answer[-1]


def balanced(labels: np.ndarray) -> tuple[float, float]:
    """The paper's class weights."""
    real, fake = metrics.class_weights(labels)
    return float(real), float(fake)


def learn(method: str, features: np.ndarray, labels: np.ndarray, seed: int) -> Regression:
    """One way to deal with the imbalance of the labels."""
    if method == "class weights":
        return Regression(features, labels, balanced(labels))
    if method == "focal loss":
        return Regression(features, labels, focal=FOCUS)
    if method == "oversampling":
        sides = [np.flatnonzero(labels == fake) for fake in (False, True)]
        most = max(map(len, sides))
        rng = np.random.default_rng(seed)
        chosen = np.concatenate(
            [np.append(side, rng.choice(side, most - len(side))) for side in sides]
        )
        return Regression(features[chosen], labels[chosen])
    model = Regression(features, labels)
    if method == "threshold moved":  # by the odds that it was taught
        model.answer[-1] -= np.log(labels.mean() / (1 - labels.mean()))
    return model


METHODS = "nothing", "class weights", "oversampling", "focal loss", "threshold moved"


def balanced_accuracy(labels: np.ndarray, decided: np.ndarray) -> float:
    """The mean of the shares of real and of fake ones that are decided rightly."""
    table = metrics.confusion(labels, decided)
    return float((table.diagonal() / table.sum(1)).mean())


def at_zero(labels: np.ndarray, scores: np.ndarray) -> float:
    """Balanced accuracy of logits at a probability of one half."""
    return balanced_accuracy(labels, scores > 0)


def over_seeds(figure: Figure, labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> str:
    """Mean of the seeds' figures, (faces, seeds), and its interval when originals are redrawn."""

    def mean(labels: np.ndarray, scores: np.ndarray) -> float:
        return float(np.mean([figure(labels, column) for column in scores.T]))

    low, high = metrics.bootstrap(groups, mean, labels, scores, rounds=ROUNDS)
    return f"{mean(labels, scores):.3f} ({low:.3f} to {high:.3f})"


def imbalance(faces: Faces) -> None:
    """Class weights against nothing, oversampling, focal loss and a moved threshold."""
    place_of = {row.crop: number for number, row in enumerate(faces.rows)}
    learned = [faces.rows[n] for n in faces.of_split("train")]
    held = faces.of_split("val", "test")
    labels = faces.fake[held]
    sizes = [len(thin_out(learned, share / 100, FAKES, 0)) for share in FAKES]
    print(f"{sizes[0]} faces to learn from, {len(held)} to measure on ({labels.sum()} fake).\n")
    print_head("fakes in a hundred", "method", "AUC", "balanced accuracy", "fakes found", "alarms")
    for share in FAKES:
        for method in METHODS:
            columns = []
            for seed in SEEDS:
                rows = thin_out(learned, share / 100, FAKES, seed)
                chosen = np.array([place_of[row.crop] for row in rows])
                model = learn(method, faces.features[chosen], faces.fake[chosen], seed)
                columns.append(model(faces.features[held]))
            scores = np.stack(columns, 1)
            found = [f"{(scores[labels == fake] > 0).mean():.0%}" for fake in (True, False)]
            print_row(
                str(share), method, over_seeds(metrics.auc, labels, scores, faces.groups[held]),
                over_seeds(at_zero, labels, scores, faces.groups[held]), *found,
            )  # fmt: skip


def ask_neighbours(learned: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The share of fakes among the nearest faces, by the cosine of standardised features."""
    mean, std = learned.mean(0), learned.std(0) + 1e-6
    known, new = ((part - mean) / std for part in (learned, asked))
    known, new = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (known, new))
    nearest = np.argpartition(-(new @ known.T), NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    return labels[nearest].mean(1)


def hold_back(units: np.ndarray, seed: int) -> np.ndarray:
    """Which rows are measured on: whole units, until they are a fifth of the rows."""
    names, inverse, counts = np.unique(units, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    held = order[np.cumsum(counts[order]) <= HELD * len(units)]
    return np.isin(inverse, held)


def splits(faces: Faces) -> None:
    """The papers' random split against one that keeps originals apart."""
    units = {
        "face by face, as the papers": np.arange(len(faces.rows)),
        "by original": faces.groups,
    }
    print_head("split", "regression, AUC", f"{NEIGHBOURS} nearest faces, AUC")
    for name, unit in units.items():
        areas: list[list[float]] = [[], []]
        for seed in SEEDS:
            held = hold_back(unit, seed)
            x, y = faces.features[~held], faces.fake[~held]
            asked = faces.features[held]
            for column, scores in enumerate(
                (Regression(x, y, balanced(y))(asked), ask_neighbours(x, y, asked))
            ):
                areas[column].append(metrics.auc(faces.fake[held], scores))
        print_row(name, *(f"{np.mean(a):.3f} ({min(a):.3f} to {max(a):.3f})" for a in areas))


def carry(dfdc: Faces, others: Faces) -> None:
    """What is learned from DFDC's faces, on other sources, and the other way round."""
    learned, held = dfdc.of_split("train"), dfdc.of_split("val", "test")
    folds = np.array([_place_of(row.dataset) % len(SEEDS) for row in others.rows])
    known = np.isin(others.kinds, [REAL, *SIGN_OF])
    kinds = [kind for kind in SIGN_OF if (others.kinds == kind).any()]
    print_head("learned from", "DFDC", *kinds)
    for name, of_dfdc, of_others in (("DFDC", 1, 0), ("other sources", 0, 1), ("both", 1, 1)):
        on_others = np.zeros(len(others.rows))
        on_dfdc = []
        for fold in range(len(SEEDS)):
            inside = (folds != fold) & known
            x, y = [], []
            if of_dfdc:
                x.append(dfdc.features[learned])
                y.append(dfdc.fake[learned])
            if of_others:
                x.append(others.features[inside])
                y.append(others.fake[inside])
            labels = np.concatenate(y)
            model = Regression(np.concatenate(x), labels, balanced(labels))
            on_others[folds == fold] = model(others.features[folds == fold])
            on_dfdc.append(model(dfdc.features[held]))
        on_held = np.mean(on_dfdc, 0)
        cells = [_with_interval(dfdc.fake[held], on_held, dfdc.groups[held])]
        for kind in kinds:
            inside = np.isin(others.kinds, [REAL, kind])
            cells.append(
                _with_interval(others.fake[inside], on_others[inside], others.groups[inside])
            )
        print_row(name, *cells)


def _with_interval(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> str:
    return over_seeds(metrics.auc, labels, scores[:, None], groups)


# Trained checkpoints.


def is_aside(original: str) -> bool:
    """Whether an original is among the one in twenty that nothing learns from."""
    return int(hashlib.sha256(original.encode()).hexdigest(), 16) % ASIDE == 0


def set_aside(index: Path, learned: Path, aside: Path) -> None:
    """Write two indices of the same crops, divided by original.

    An original that is there under two names is set aside if either name says so.
    """
    said = (index / "left_out.txt").read_text(encoding="utf-8")
    copies = re.findall(r"(\w+)\.jpg: the same picture as (\w+);", said)
    more = {f"{name}.mp4" for pair in copies if any(is_aside(f"{n}.mp4") for n in pair)
            for name in pair}  # fmt: skip
    rows = read_index(index / "index.csv")
    for folder, wanted in ((learned, False), (aside, True)):
        folder.mkdir(parents=True, exist_ok=True)
        chosen = [
            replace(row, crop=os.path.relpath(index / row.crop, folder))
            for row in rows
            if (is_aside(row.group) or row.group in more) == wanted
        ]
        write_index(folder / "index.csv", chosen)
        fakes = sum(row.fake for row in chosen)
        print(f"{folder}: {len(chosen) - fakes} real faces, {fakes} fakes")


def figures(index: Path, weights: Sequence[Path], split: str, leaky: bool, most: int) -> None:
    """Checkpoints on the faces of a split, beside the answer that is always the same."""
    rows = read_index(index / "index.csv")
    rows = split_crops_at_random(rows) if leaky else rows
    rows = [row for row in rows if split in (row.split, "all")]
    rows = [rows[n] for n in np.sort(np.random.default_rng(0).permutation(len(rows))[:most])]
    faces = [read_image(index / row.crop) for row in rows]
    labels = np.array([bool(row.fake) for row in rows])
    groups = np.array([row.group for row in rows])
    print(f"{len(rows)} faces, {labels.sum()} of them fake.\n")
    print_head(
        "answer", "accuracy", "balanced accuracy", "AUC", "real: right, wrong", "fake: right, wrong"
    )
    answers = {"always fake": np.ones(len(rows))}
    for path in weights:
        name, logits = path.parent.name, score_faces(path, faces)
        answers[name] = logits
        odds = odds_taken_out(path)
        if odds:
            answers[f"{name}, at the classes' odds"] = logits + odds
    for name, logits in answers.items():
        (right, alarms), (missed, found) = metrics.confusion(labels, logits > 0)
        print_row(
            name, *(over_seeds(f, labels, logits[:, None], groups) for f in (accuracy, at_zero)),
            _with_interval(labels, logits, groups),
            _with_share(right, alarms), _with_share(found, missed),
        )  # fmt: skip


def score_faces(weights: Path, faces: Sequence[Image]) -> np.ndarray:
    """The logits of a checkpoint."""
    detector = load_detector(weights=weights, device="cpu")
    parts = [faces[start : start + BATCH] for start in range(0, len(faces), BATCH)]
    return np.concatenate([detector.score(part) for part in parts])


def odds_taken_out(weights: Path) -> float:
    """What class weights took from every logit: the logarithm of fakes per real face; 0 without."""
    training = read_metadata(weights)["training"]
    recipe = training.get("recipe")
    if not isinstance(recipe, dict) or not recipe.get("weighted") or "real" not in training:
        return 0.0
    return float(np.log(training["fake"] / training["real"]))


def _with_share(right: int, wrong: int) -> str:
    low, high = metrics.wilson(int(right), int(right + wrong))
    return f"{right}, {wrong} ({low:.0%} to {high:.0%} right)"


def accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    """The share of logits on the right side of one half."""
    return float(((scores > 0) == labels).mean())


def hours(names: Sequence[str], steps: int = 1, crops: int = 2) -> None:
    """How long the steps of recipes take on one core, and so the whole of each.

    Minutes on a GPU are an estimate: the operations of all steps, at a speed that is assumed. By
    default of the recipes on labelled faces, without the studies and the distilled ones.
    """
    print_head(
        "recipe", "input, pixels", "ms a face", "faces", "hours of one core", "GFLOP a face",
        "minutes on a GPU",
    )  # fmt: skip
    never = "test", "study", "distilled"
    labelled = [n for n, recipe in RECIPES.items() if recipe.labelled and not n.startswith(never)]
    for name in names or labelled:
        recipe = RECIPES[name]
        s = recipe.settings
        network = to_device(start_network(recipe, "scratch"))
        freeze(network, s.frozen)
        set_train_mode(network)
        learned = [p for p in network.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(learned, lr=1e-6)
        side = recipe.learned_side or network.architecture.side
        pictures = make_noise(crops, side)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(pictures)
        operations = PASSES * counter.get_total_flops() / crops
        take_step(network, optimiser, pictures, s.half)  # the first asks for memory
        began = time.process_time()
        for _ in range(steps):
            take_step(network, optimiser, pictures, s.half)
        each = (time.process_time() - began) / steps / crops
        total = s.steps * s.batch
        print_row(
            name, str(side), f"{1000 * each:.0f}", str(total), f"{each * total / 3600:.1f}",
            f"{operations / 1e9:.1f}", f"{operations * total / GPU_SPEED / 60:.1f}",
        )  # fmt: skip


def take_step(
    network: Network, optimiser: torch.optim.Optimizer, pictures: torch.Tensor, half: bool
) -> None:
    """A step of training, on any loss."""
    optimiser.zero_grad()
    with autocast(pictures.device, half):
        loss = network(pictures).float().mean()
    loss.backward()
    optimiser.step()


def make_noise(count: int, side: int) -> torch.Tensor:
    """Pictures of noise, in the order that is fastest."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (count, 3, side, side), np.uint8)
    return to_tensor(torch.from_numpy(noise), torch.device("cpu"))


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tables = parser.add_subparsers(dest="table", required=True)
    made = tables.add_parser("features")
    made.add_argument("index", type=Path)
    made.add_argument("out", type=Path)
    made.add_argument("--share", type=int, default=1)
    made.add_argument("--side", type=int, default=128)
    for name in ("imbalance", "splits", "carry"):
        tables.add_parser(name).add_argument("features", type=Path)
    tables.choices["carry"].add_argument("others", type=Path)
    measured = tables.add_parser("figures")
    measured.add_argument("index", type=Path)
    measured.add_argument("--weights", type=Path, required=True, nargs="+")
    measured.add_argument("--split", default="test", choices=(*SPLITS, "all"))
    measured.add_argument("--leaky", action="store_true")
    measured.add_argument("--most", type=int, default=2000)
    divided = tables.add_parser("set-aside")
    for name in ("index", "learned", "aside"):
        divided.add_argument(name, type=Path)
    tables.add_parser("hours").add_argument("recipes", nargs="*")
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.table == "features":
        make_features(options.index, options.out, options.share, options.side)
    elif options.table == "imbalance":
        imbalance(Faces(options.features))
    elif options.table == "splits":
        splits(Faces(options.features))
    elif options.table == "carry":
        carry(Faces(options.features), Faces(options.others))
    elif options.table == "set-aside":
        set_aside(options.index, options.learned, options.aside)
    elif options.table == "figures":
        figures(options.index, options.weights, options.split, options.leaky, options.most)
    else:
        hours(options.recipes)


if __name__ == "__main__":
    main()
