"""Cost-sensitive training of any architecture, from real faces alone or from labelled faces.

A run is a folder: settings.json, log.csv, curves.png, resume.pt and best.safetensors. It goes on
where it was after a kill; every sample follows from the seed and its number, so nothing is seen
twice and nothing is skipped.
"""

import csv
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from detector.architectures import Network
from detector.errors import UserError
from detector.scoring import autocast, place, to_tensor
from detector.settings import Progress, silent
from detector.training.metrics import auc

PORTION = 64  # crops scored at a time
LATE = 3.0  # of a steady run: the weights of step t count about as t to this power in the mean


class Lesson(NamedTuple):
    """What is learned from together: a pair, a crop, a sequence."""

    crops: np.ndarray
    """(k, side, side, 3) uint8."""
    labels: np.ndarray
    """(k,) float, 1 is fake; of a sequence, (1,). Of a network with several signs, 0 is real and
    n is a fake with the n-th of them."""
    covers: np.ndarray | None = None
    """(k, cells, cells), how much of each cell was forged, where that is known."""


Maker = Callable[[int], Lesson]
"""A number -> the lesson of that number, always the same."""


class Batch(NamedTuple):
    """What a step learns from."""

    pictures: torch.Tensor
    """(n, 3, h, w) uint8."""
    labels: torch.Tensor
    """Float, 1 is fake; one a picture, or one a sequence."""
    lengths: torch.Tensor
    """How many of the pictures, in order, each label is about."""
    covers: torch.Tensor
    """(n, cells, cells), or empty."""


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained."""

    architecture: str
    steps: int = 10_000
    """Steps of the optimiser."""
    batch: int = 32
    """Crops a step, over all processes."""
    rate: float = 4e-4
    """Highest learning rate; it warms up over 3 % of the steps and falls as a cosine."""
    decay: float = 0.02
    """Weight decay."""
    ema: float = 0.999
    """How slowly the averaged weights, which are what is kept, follow."""
    steady: bool = False
    """The rate stays where it is after warming up, and the averaged weights are the mean of all
    steps, late ones counting most (polynomial decay, Shamir and Zhang, 2013): good at any step, so
    that a run can be stopped or gone on with at will."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    dropout: float = 0.2
    smoothing: float = 0.02
    """How far labels are drawn from 0 and 1."""
    focal: float = 0.0
    """Exponent of the focal loss; 0 is the plain one."""
    level: float | None = None
    """Logit that every real face is drawn to, whatever its quality, while the forged half of a pair
    need only stand above its real half; without it, the cross-entropy of each."""
    located: bool = False
    """With a level: learn the same of every cell of the network's last map, from where the forgery
    lies."""
    ordered: float = 0.0
    """Of a network with several signs: weight of the order within pairs, beside cross-entropy."""
    weights: tuple[float, float] = (1.0, 1.0)
    """Loss weights of real and fake: n / (classes x n_class)."""
    frozen: str = ""
    """A regular expression: parameters that match it stay as they are."""
    seed: int = 0
    workers: int = 2
    validate_every: int = 500
    """Steps between validations."""
    save_every: float = 120.0
    """Seconds between the states that a run resumes from."""
    half: bool = True
    """Half precision where the device has it."""
    compiled: bool = False
    """Compile the network first, which takes a C++ compiler: 1.5 times as fast on a CPU."""


@dataclass(frozen=True)
class Validation:
    """Crops to measure on while training."""

    crops: np.ndarray = field(repr=False)
    """(n, side, side, 3) uint8."""
    labels: np.ndarray
    groups: np.ndarray | None = None
    """A clip's number for each crop, when logits are to be averaged over clips first."""
    sign: int | None = None
    """Measure this sign's logit alone, in place of the strongest one."""


class Crops(Dataset[Batch]):
    """Numbers -> crops, so that a run can be resumed in the middle."""

    def __init__(self, make: Maker, first: int, last: int) -> None:
        """The lessons from number `first` to before `last`."""
        self.make, self.first, self.last = make, first, last

    def __len__(self) -> int:
        return max(0, self.last - self.first)

    def __getitem__(self, number: int) -> Batch:
        crops, labels, covers = self.make(self.first + number)
        lengths = torch.full((len(labels),), len(crops) // len(labels))
        return Batch(
            torch.from_numpy(crops).permute(0, 3, 1, 2),
            torch.from_numpy(labels),
            lengths,
            torch.zeros(0) if covers is None else torch.from_numpy(covers),
        )


def _join(parts: list[Batch]) -> Batch:
    pictures, labels, lengths, covers = (torch.cat(given) for given in zip(*parts, strict=True))
    return Batch(pictures, labels.float(), lengths, covers)


def _calm_worker(number: int) -> None:
    torch.set_num_threads(1)


@dataclass
class Process:
    """This process among those of a run started by torchrun; alone otherwise."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def join(cls, device: str) -> "Process":
        """Meet the others, if there are any."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls(0, 1, torch.device(device))
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
        rank = torch.distributed.get_rank()
        where = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device
        return cls(rank, count, torch.device(where))


def train(
    network: Network,
    make: Maker,
    crops_each: int,
    validations: dict[str, Validation],
    out: Path,
    settings: TrainSettings,
    *,
    device: str = "cpu",
    resume: bool = False,
    choose_by: str | None = None,
    keep: Callable[[Network, dict[str, float], int], None] | None = None,
    progress: Progress = silent,
) -> list[dict[str, float]]:
    """Train, and call `keep` with the averaged network whenever validation is at its best.

    `make` gives the lesson of a number, `crops_each` crops. The first of `validations`, or the one
    named by `choose_by`, decides what is best.
    """
    torch.set_flush_denormal(True)  # numbers next to nothing can slow steps
    process = Process.join(device)
    run = _Run(network, settings, process, out)
    if resume:
        run.load()
    elif (out / "resume.pt").exists():
        raise UserError("bad_run", f"{out} holds a run already: go on with --resume, or move it.")
    each = settings.batch // crops_each // process.count
    if each < 1:
        raise UserError("bad_setting", f"A batch must hold at least {crops_each * process.count}.")
    saved = time.monotonic()
    for step, batch in enumerate(_batches(make, each, run.step, settings, process), run.step):
        run.learn(batch)
        if (step + 1) % settings.validate_every == 0 or step + 1 == settings.steps:
            run.validate(validations, choose_by, keep)
            run.save()
            saved = time.monotonic()
        elif time.monotonic() - saved > settings.save_every:
            run.save()
            saved = time.monotonic()
        progress("training", (step + 1) / settings.steps)
    return run.log


def _batches(
    make: Maker,
    each: int,
    start: int,
    settings: TrainSettings,
    process: Process,
) -> Iterator[Batch]:
    def share(number: int) -> Lesson:
        block, place = divmod(number, each)
        return make((block * process.count + process.rank) * each + place)

    loader = DataLoader(
        Crops(share, start * each, settings.steps * each),
        batch_size=each,
        num_workers=settings.workers,
        collate_fn=_join,
        worker_init_fn=_calm_worker,
        prefetch_factor=3 if settings.workers else None,
        multiprocessing_context="fork" if settings.workers else None,
    )
    # OpenCV's threads do not live on in a forked worker, which would wait for them for ever.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield from loader
    finally:
        cv2.setNumThreads(threads)


class _Part(nn.Module):
    """A network as another of its methods answers, in a form that can be run in parallel."""

    def __init__(
        self, network: Network, method: Callable[[Network, torch.Tensor], torch.Tensor]
    ) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.method(self.network, pictures)


class _Run:
    """The state of a run."""

    def __init__(
        self, network: Network, settings: TrainSettings, process: Process, out: Path
    ) -> None:
        import re

        self.settings, self.process, self.out = settings, process, out
        self.network = place(network, process.device)
        for name, parameter in self.network.named_parameters():
            if settings.frozen and re.search(settings.frozen, name):
                parameter.requires_grad_(False)
        self._learning()
        self.model: Any = self.network
        if settings.located:
            self.model = _Part(self.network, Network.locate)
        elif len(network.architecture.signs) > 1:
            self.model = _Part(self.network, Network.answer)
        if process.count > 1:
            self.model = DistributedDataParallel(self.model)
        if settings.compiled:
            self.model = torch.compile(self.model)  # a wrapper: validation stays as it is
        self.averaged = {k: v.detach().clone().float() for k, v in self._state().items()}
        self.optimiser = torch.optim.AdamW(self._groups(), lr=settings.rate, betas=(0.9, 0.99))
        self.step = 0
        self.losses: list[float] = []
        self.log: list[dict[str, float]] = []
        self.best = -math.inf
        self.began = time.monotonic()
        out.mkdir(parents=True, exist_ok=True)

    def _state(self) -> dict[str, torch.Tensor]:
        return {k: v for k, v in self.network.state_dict().items() if v.is_floating_point()}

    def _groups(self) -> list[dict[str, object]]:
        trained = [p for p in self.network.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.settings.decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]

    def _rate(self) -> float:
        warm = max(1, round(0.03 * self.settings.steps))
        if self.step < warm:
            return self.settings.rate * (self.step + 1) / warm
        if self.settings.steady:
            return self.settings.rate
        done = (self.step - warm) / max(1, self.settings.steps - warm)
        return self.settings.rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)

    def learn(self, batch: Batch) -> None:
        """One step."""
        s = self.settings
        pictures = to_tensor(batch.pictures, self.process.device)
        labels = batch.labels.to(self.process.device)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        with autocast(self.process.device, s.half):
            if self.network.in_sequence:
                each = self.model(pictures, batch.lengths).split(batch.lengths.tolist())
                logits = torch.stack([sequence.mean() for sequence in each])
            else:
                logits = self.model(pictures)
        if len(self.network.architecture.signs) > 1:
            loss = signs_loss(logits.float(), labels, s.smoothing, s.ordered)
        elif s.level is None:
            loss = weighted_loss(logits.float(), labels, s.weights, s.smoothing, s.focal)
        elif s.located:
            covers = batch.covers.to(self.process.device)
            maps = logits.float()
            # Reading is linear: real ones are drawn to what a map at the level reads as.
            loss = paired_loss(self.network.read(maps - s.level), labels, 0.0)
            loss = loss + located_loss(maps, covers, s.level)
        else:
            loss = paired_loss(logits.float(), labels, s.level)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), s.clip)
        self.optimiser.step()
        self.step += 1
        if s.steady:
            follow = (1 + LATE) / (self.step + LATE)
        else:  # early on the average would be that of random weights: let it follow faster
            follow = 1 - min(s.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self._state().items():
                self.averaged[name].lerp_(value.float(), follow)
        self.losses.append(float(loss.detach()))

    def validate(
        self,
        validations: dict[str, Validation],
        choose_by: str | None,
        keep: Callable[[Network, dict[str, float], int], None] | None,
    ) -> None:
        """Measure the averaged network; keep it if it is the best so far."""
        row = {
            "step": float(self.step),
            "seconds": round(time.monotonic() - self.began, 1),
            "rate": self._rate(),
            "loss": float(np.mean(self.losses)) if self.losses else math.nan,
        }
        self.losses = []
        own = {k: v.detach().clone() for k, v in self._state().items()}
        self.network.load_state_dict(self.averaged, strict=False)
        self.network.eval()
        for name, validation in validations.items():
            area, accuracy = measure(self.network, validation, self.process.device, self.settings)
            row[name] = area
            if self.settings.level is None:  # with a level, zero is no border
                row[f"{name}_accuracy"] = accuracy
        chosen = row[choose_by or next(iter(validations))] if validations else float(self.step)
        self.log.append(row)
        if self.process.rank == 0:
            self._write_log()
            if chosen > self.best and keep is not None:
                keep(self.network, row, self.step)
        self.best = max(self.best, chosen)
        self.network.load_state_dict(own, strict=False)
        self._learning()

    def _learning(self) -> None:
        """Training mode, but the batch norms of frozen layers keep the figures they have."""
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()

    def _write_log(self) -> None:
        with (self.out / "log.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.log[-1]))
            writer.writeheader()
            writer.writerows(self.log)

    def save(self) -> None:
        """Write what a resume needs; the previous state stays whole if the disk is full."""
        if self.process.rank:
            return
        state = {
            "settings": json.dumps(asdict(self.settings)),
            "network": self.network.state_dict(),
            "averaged": self.averaged,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "best": self.best,
            "losses": self.losses,
            "log": self.log,
        }
        part = self.out / "resume.pt.part"
        try:
            torch.save(state, part)
            os.replace(part, self.out / "resume.pt")
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            raise UserError(
                "disk_full", f"The state of the run could not be written to {self.out}: {error}."
            ) from error

    def load(self) -> None:
        """Go on where a run stopped; a run that never saved starts from the beginning."""
        path = self.out / "resume.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.process.device, weights_only=True)
        before = json.loads(state["settings"])
        if before["architecture"] != self.settings.architecture:
            raise UserError("bad_run", f"{self.out} holds a run of {before['architecture']}.")
        self.network.load_state_dict(state["network"])
        self.averaged = state["averaged"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.best = state["step"], state["best"]
        self.losses, self.log = state["losses"], state["log"]


def weighted_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: tuple[float, float],
    smoothing: float = 0.0,
    focal: float = 0.0,
) -> torch.Tensor:
    """Binary cross-entropy, each class with its weight; `focal` makes easy samples count less."""
    soft = labels * (1 - 2 * smoothing) + smoothing
    loss = nn.functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    if focal:
        right = torch.sigmoid(torch.where(labels > 0.5, logits, -logits))
        loss = loss * (1 - right) ** focal
    each = torch.where(labels > 0.5, weights[1], weights[0])
    return (loss * each).mean()


def signs_loss(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0, ordered: float = 0.0
) -> torch.Tensor:
    """Cross-entropy of real (whose logit is 0) and each sign, and the order within pairs.

    A fake need only show its own sign: the others are left to what they find in it. `ordered` is
    the weight of the second term: real and fake stand in turns, and the fake's evidence, of
    whatever sign, is to lie above its pair's real one.
    """
    whole = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
    loss = nn.functional.cross_entropy(whole, labels.long(), label_smoothing=smoothing)
    if ordered:
        evidence = logits.logsumexp(1)
        real, fake = evidence[0::2], evidence[1::2]
        loss = loss + ordered * nn.functional.softplus(real - fake).mean()
    return loss


FORGED = 0.8
"""Share of a cell's pixels that were replaced, from which all of it counts as forged."""
LEVEL_SHARE = 0.2
"""Weight of the distance from the level, beside the loss of the order within pairs."""


def paired_loss(logits: torch.Tensor, labels: torch.Tensor, level: float) -> torch.Tensor:
    """Real and forged in turns: the forged above its real half, and all real ones at one level.

    Cross-entropy answers with odds: where traces would be seen, a face without them is surely real;
    where video is too poor to show any, it is anyone's guess. So poor real clips come to stand
    above flawless forgeries. Here nothing but evidence raises a score, and the rate of false alarms
    does not hang on the quality of the picture.
    """
    real, forged = logits[0::2], logits[1::2]
    differ = labels[1::2] > labels[0::2]
    order = nn.functional.softplus(real - forged)[differ].sum() / max(1, len(real))
    return order + LEVEL_SHARE * ((logits - level) ** 2)[labels < 0.5].mean()


def located_loss(maps: torch.Tensor, covers: torch.Tensor, level: float) -> torch.Tensor:
    """The same for every cell: forged ones above those of the real half, all others at the level.

    A picture says once that it was forged; its cells say many times where, and that what lies
    beside a forgery, in the same light and behind the same encoder, is none.
    """
    covers = nn.functional.adaptive_avg_pool2d(covers, (maps.shape[1], maps.shape[2]))
    covers = (covers / FORGED).clamp(0, 1)
    real, forged, cover = maps[0::2], maps[1::2], covers[1::2]
    order = (nn.functional.softplus(real - forged) * cover).sum((1, 2))
    order = order / cover.sum((1, 2)).clamp(min=0.5)
    away = (real - level) ** 2 + (1 - cover) * (forged - level) ** 2
    return order.mean() + LEVEL_SHARE * away.mean() / 2


def portion(count: int, groups: np.ndarray | None) -> list[tuple[int, int]]:
    """Where to cut rows of crops to score them: between groups, which are kept whole, if given."""
    ends = list(range(PORTION, count, PORTION))
    if groups is not None:  # a group's crops stand together, in order
        ends = (np.flatnonzero(groups[1:] != groups[:-1]) + 1).tolist()
    return list(pairwise([0, *ends, count]))


def measure(
    network: Network, validation: Validation, device: torch.device, settings: TrainSettings
) -> tuple[float, float]:
    """AUC and accuracy of crops, or of clips where the crops are grouped."""
    crops, groups = validation.crops, validation.groups
    parts = portion(len(crops), groups if network.in_sequence else None)
    logits = []
    with torch.inference_mode(), autocast(device, settings.half):
        for start, end in parts:
            part = torch.from_numpy(crops[start:end]).permute(0, 3, 1, 2)
            pictures = to_tensor(part, device)
            if validation.sign is None:
                made = network(pictures)
            else:
                made = network.answer(pictures)[:, validation.sign]
            logits.append(made.float().cpu().numpy())
    scores, labels = np.concatenate(logits), validation.labels
    if groups is not None:
        _, inverse = np.unique(groups, return_inverse=True)
        counts = np.bincount(inverse)
        scores = np.bincount(inverse, scores) / counts
        labels = np.bincount(inverse, labels) / counts > 0.5
    return auc(labels, scores), float(((scores > 0) == labels).mean())
