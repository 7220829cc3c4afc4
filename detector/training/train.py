"""The training loop: any architecture, any source of samples, resumable.

A run is a folder with settings.json, log.csv, curves.png, resume.pt and best.safetensors. A run
that was killed continues from resume.pt. Each sample is computed from the seed and the sample's
number, so a resumed run neither repeats nor skips samples.
"""

import csv
import json
import math
import os
import re
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
from detector.scoring import autocast, to_device, to_tensor
from detector.settings import Progress, silent
from detector.training.losses import paired_loss, per_cell_loss, signs_loss, weighted_loss
from detector.training.metrics import auc

SCORING_BATCH = 64  # crops a forward pass while validating
WARM_UP = 0.03  # of the steps, in which the learning rate rises linearly
AVERAGING_EXPONENT = 3.0
"""Exponent of the polynomial weight average used with a constant learning rate: the weights of
step t enter the mean with a share proportional to about t to this power."""


class TrainingSample(NamedTuple):
    """The crops that one loss term is computed from: one crop, a real and fake pair, or a clip."""

    crops: np.ndarray
    """(k, side, side, 3) uint8."""
    labels: np.ndarray
    """(k,) float: 0 is real, 1 is fake, with a teacher between them; (1,) for a sequence. For a
    network with several signs, n is a fake that shows the n-th sign."""
    mask_grid: np.ndarray | None = None
    """(k, cells, cells) float: the forged share of each cell's pixels, where it is known."""


SampleMaker = Callable[[int], TrainingSample]
"""Returns the sample with a given number; the same number always gives the same sample."""


class Batch(NamedTuple):
    """The samples of one optimiser step, concatenated."""

    pictures: torch.Tensor
    """(n, 3, h, w) uint8."""
    labels: torch.Tensor
    """Float, as in TrainingSample: one label a picture, or one a sequence."""
    lengths: torch.Tensor
    """The number of consecutive pictures that each label belongs to."""
    mask_grid: torch.Tensor
    """(n, cells, cells), or empty."""


@dataclass(frozen=True)
class TrainSettings:
    """Hyperparameters of a run."""

    architecture: str
    steps: int = 10_000
    """Optimiser steps."""
    batch: int = 32
    """Crops a step, summed over all processes."""
    learning_rate: float = 4e-4
    """Peak learning rate: linear warm-up over 3 % of the steps, then cosine decay."""
    weight_decay: float = 0.02
    """AdamW's weight decay; biases and normalisation layers have none."""
    ema_decay: float = 0.999
    """Decay of the exponential moving average of the weights. The average is what is saved."""
    constant_lr: bool = False
    """Keep the learning rate constant after the warm-up, and average the weights with polynomial
    decay (Shamir and Zhang, 2013) in place of the moving average. The average can then be used
    after any step: a run may be stopped early or extended."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    dropout: float = 0.2
    label_smoothing: float = 0.02
    """Label smoothing: how far the targets lie from 0 and 1."""
    focal: float = 0.0
    """Exponent of the focal loss; 0 gives plain cross-entropy."""
    real_target_logit: float | None = None
    """Use `paired_loss`: pull the logit of every real face to this value, and require of a fake
    only that its logit is above that of its real partner. None: cross-entropy."""
    per_cell_loss: bool = False
    """Together with `real_target_logit`: add the same loss for every cell of the network's last
    feature map, with the forged area as the label."""
    pair_weight: float = 0.0
    """For a network with several signs: weight of the ranking loss within pairs, which is added
    to the cross-entropy."""
    class_weights: tuple[float, float] = (1.0, 1.0)
    """Loss weights of real and fake, n / (classes x n_class)."""
    frozen: str = ""
    """Regular expression; parameters whose name matches are not trained."""
    seed: int = 0
    workers: int = 2
    validate_every: int = 500
    """Steps between validations."""
    save_every: float = 120.0
    """Seconds between the states that a run resumes from."""
    half: bool = True
    """bf16, where the device is fast at it."""
    compiled: bool = False
    """Use torch.compile, which needs a C++ compiler: 1.5 times as fast on a CPU."""


@dataclass(frozen=True)
class Validation:
    """Labelled crops to measure on while training."""

    crops: np.ndarray = field(repr=False)
    """(n, side, side, 3) uint8."""
    labels: np.ndarray
    groups: np.ndarray | None = None
    """The clip number of each crop, if logits are to be averaged over each clip first."""
    sign: int | None = None
    """Measure this sign's logit; None measures the largest one."""


class SampleRange(Dataset[Batch]):
    """The samples of a range of numbers; a resumed run starts at a later number."""

    def __init__(self, make: SampleMaker, first: int, last: int) -> None:
        """`first` is inclusive, `last` exclusive."""
        self.make, self.first, self.last = make, first, last

    def __len__(self) -> int:
        return max(0, self.last - self.first)

    def __getitem__(self, number: int) -> Batch:
        crops, labels, mask_grid = self.make(self.first + number)
        lengths = torch.full((len(labels),), len(crops) // len(labels))
        return Batch(
            torch.from_numpy(crops).permute(0, 3, 1, 2),
            torch.from_numpy(labels),
            lengths,
            torch.zeros(0) if mask_grid is None else torch.from_numpy(mask_grid),
        )


def _join(parts: list[Batch]) -> Batch:
    pictures, labels, lengths, mask_grid = (torch.cat(given) for given in zip(*parts, strict=True))
    return Batch(pictures, labels.float(), lengths, mask_grid)


def _use_one_thread(number: int) -> None:
    torch.set_num_threads(1)


@dataclass
class Process:
    """The process's rank, their number and the device; rank 0 of 1 without torchrun."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def join(cls, device: str) -> "Process":
        """Join the process group that torchrun set up, if there is one."""
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
    make: SampleMaker,
    crops_per_sample: int,
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
    """Train a network.

    Args:
        network: the network, trained in place.
        make: gives the training sample of a number.
        crops_per_sample: the number of crops in a sample.
        validations: what to measure on, by name.
        out: the run's folder.
        settings: the hyperparameters.
        device: cpu, cuda or mps.
        resume: continue the run in `out`.
        choose_by: the validation that decides which weights are best; the first by default.
        keep: called with the averaged network, its log row and the step, whenever that validation
            is better than ever before.
        progress: called after every step.

    Returns:
        The log, one row a validation.

    Raises:
        UserError: `bad_run` if `out` holds a run and `resume` is not set, `bad_setting` if the
            batch is too small, `disk_full`.
    """
    torch.set_flush_denormal(True)  # denormal numbers slow the CPU down
    process = Process.join(device)
    run = _Run(network, settings, process, out)
    if resume:
        run.load()
    elif (out / "resume.pt").exists():
        raise UserError(
            "bad_run", f"{out} already holds a run: continue it with --resume, or move it."
        )
    samples = settings.batch // crops_per_sample // process.count
    if samples < 1:
        raise UserError(
            "bad_setting", f"A batch must hold at least {crops_per_sample * process.count}."
        )
    saved = time.monotonic()
    for step, batch in enumerate(_batches(make, samples, run.step, settings, process), run.step):
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
    make: SampleMaker,
    samples: int,
    start: int,
    settings: TrainSettings,
    process: Process,
) -> Iterator[Batch]:
    """This process's batches from step `start` on, with `samples` samples each."""

    def make_own(number: int) -> TrainingSample:
        """Of every `process.count` blocks of `samples` numbers, each process takes one."""
        block, offset = divmod(number, samples)
        return make((block * process.count + process.rank) * samples + offset)

    loader = DataLoader(
        SampleRange(make_own, start * samples, settings.steps * samples),
        batch_size=samples,
        num_workers=settings.workers,
        collate_fn=_join,
        worker_init_fn=_use_one_thread,
        prefetch_factor=3 if settings.workers else None,
        multiprocessing_context="fork" if settings.workers else None,
    )
    # OpenCV's threads do not survive a fork: a worker that uses them would wait for ever.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield from loader
    finally:
        cv2.setNumThreads(threads)


def freeze(network: nn.Module, pattern: str) -> None:
    """Exclude the parameters whose name matches a regular expression; an empty one matches none."""
    for name, parameter in network.named_parameters():
        if pattern and re.search(pattern, name):
            parameter.requires_grad_(False)


def set_train_mode(network: nn.Module) -> None:
    """Training mode, except that batch norms of frozen layers keep their running statistics."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
            module.eval()


class _Part(nn.Module):
    """Makes a method of a network its `forward`, for DistributedDataParallel and torch.compile."""

    def __init__(
        self, network: Network, method: Callable[[Network, torch.Tensor], torch.Tensor]
    ) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.method(self.network, pictures)


class _Run:
    """A run's network, averaged weights, optimiser and log."""

    def __init__(
        self, network: Network, settings: TrainSettings, process: Process, out: Path
    ) -> None:
        self.settings, self.process, self.out = settings, process, out
        self.network = to_device(network, process.device)
        freeze(self.network, settings.frozen)
        set_train_mode(self.network)
        self.model: Any = self.network
        if settings.per_cell_loss:
            self.model = _Part(self.network, Network.locate)
        elif len(network.architecture.signs) > 1:
            self.model = _Part(self.network, Network.logits)
        if process.count > 1:
            self.model = DistributedDataParallel(self.model)
        if settings.compiled:
            self.model = torch.compile(self.model)  # validation uses self.network, uncompiled
        self.averaged = {k: v.detach().clone().float() for k, v in self._float_state().items()}
        self.optimiser = torch.optim.AdamW(
            self._parameter_groups(), lr=settings.learning_rate, betas=(0.9, 0.99)
        )
        self.step = 0
        self.losses: list[float] = []
        self.log: list[dict[str, float]] = []
        self.best = -math.inf
        self.began = time.monotonic()
        out.mkdir(parents=True, exist_ok=True)

    def _float_state(self) -> dict[str, torch.Tensor]:
        """The network's weights and statistics, without its counters, which are not averaged."""
        return {k: v for k, v in self.network.state_dict().items() if v.is_floating_point()}

    def _parameter_groups(self) -> list[dict[str, object]]:
        """Trained parameters with weight decay, and biases and normalisation layers without."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        return [
            {
                "params": [p for p in trained if p.ndim > 1],
                "weight_decay": self.settings.weight_decay,
            },
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]

    def _learning_rate(self) -> float:
        """The learning rate of the next step: linear warm-up, then constant or cosine decay."""
        warm_up = max(1, round(WARM_UP * self.settings.steps))
        if self.step < warm_up:
            return self.settings.learning_rate * (self.step + 1) / warm_up
        if self.settings.constant_lr:
            return self.settings.learning_rate
        done = (self.step - warm_up) / max(1, self.settings.steps - warm_up)
        return self.settings.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)

    def learn(self, batch: Batch) -> None:
        """Take one optimiser step and update the averaged weights."""
        s = self.settings
        pictures = to_tensor(batch.pictures, self.process.device)
        labels = batch.labels.to(self.process.device)
        for group in self.optimiser.param_groups:
            group["lr"] = self._learning_rate()
        with autocast(self.process.device, s.half):
            if self.network.in_sequence:
                sequences = self.model(pictures, batch.lengths).split(batch.lengths.tolist())
                logits = torch.stack([sequence.mean() for sequence in sequences])
            else:
                logits = self.model(pictures)
        loss = self._loss(logits.float(), labels, batch.mask_grid.to(self.process.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), s.max_grad_norm)
        self.optimiser.step()
        self.step += 1
        self._update_average()
        self.losses.append(float(loss.detach()))

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, mask_grid: torch.Tensor
    ) -> torch.Tensor:
        """The loss that the settings ask for; with `per_cell_loss`, of maps in place of logits."""
        s = self.settings
        if len(self.network.architecture.signs) > 1:
            return signs_loss(logits, labels, s.label_smoothing, s.pair_weight)
        if s.real_target_logit is None:
            return weighted_loss(logits, labels, s.class_weights, s.label_smoothing, s.focal)
        if not s.per_cell_loss:
            return paired_loss(logits, labels, s.real_target_logit)
        # Shift the maps, so that a map equal to the target everywhere reads as logit 0.
        whole = paired_loss(self.network.read(logits - s.real_target_logit), labels, 0.0)
        return whole + per_cell_loss(logits, mask_grid, s.real_target_logit)

    def _update_average(self) -> None:
        """Move the averaged weights towards the present ones."""
        s = self.settings
        if s.constant_lr:
            rate = (1 + AVERAGING_EXPONENT) / (self.step + AVERAGING_EXPONENT)
        else:  # faster at first, since the first weights are random
            rate = 1 - min(s.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self._float_state().items():
                self.averaged[name].lerp_(value.float(), rate)

    def validate(
        self,
        validations: dict[str, Validation],
        choose_by: str | None,
        keep: Callable[[Network, dict[str, float], int], None] | None,
    ) -> None:
        """Measure the averaged weights, log the result and call `keep` if they are the best."""
        row = {
            "step": float(self.step),
            "seconds": round(time.monotonic() - self.began, 1),
            "rate": self._learning_rate(),
            "loss": float(np.mean(self.losses)) if self.losses else math.nan,
        }
        self.losses = []
        own = {k: v.detach().clone() for k, v in self._float_state().items()}
        self.network.load_state_dict(self.averaged, strict=False)
        self.network.eval()
        for name, validation in validations.items():
            area, accuracy = measure(self.network, validation, self.process.device, self.settings)
            row[name] = area
            if self.settings.real_target_logit is None:  # otherwise 0 is no decision threshold
                row[f"{name}_accuracy"] = accuracy
        chosen = row[choose_by or next(iter(validations))] if validations else float(self.step)
        self.log.append(row)
        if self.process.rank == 0:
            self._write_log()
            if chosen > self.best and keep is not None:
                keep(self.network, row, self.step)
        self.best = max(self.best, chosen)
        self.network.load_state_dict(own, strict=False)
        set_train_mode(self.network)

    def _write_log(self) -> None:
        with (self.out / "log.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.log[-1]))
            writer.writeheader()
            writer.writerows(self.log)

    def save(self) -> None:
        """Write resume.pt; if the disk is full, the previous file is kept."""
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
        """Read resume.pt; without one the run starts from the beginning."""
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


def batch_bounds(count: int, groups: np.ndarray | None) -> list[tuple[int, int]]:
    """(start, end) of each batch to score; with `groups`, one batch a group."""
    ends = list(range(SCORING_BATCH, count, SCORING_BATCH))
    if groups is not None:  # the crops of a group are consecutive
        ends = (np.flatnonzero(groups[1:] != groups[:-1]) + 1).tolist()
    return list(pairwise([0, *ends, count]))


def measure(
    network: Network, validation: Validation, device: torch.device, settings: TrainSettings
) -> tuple[float, float]:
    """(AUC, accuracy at logit 0) over crops, or over clips if the crops are grouped."""
    crops, groups = validation.crops, validation.groups
    parts = batch_bounds(len(crops), groups if network.in_sequence else None)
    logits = []
    with torch.inference_mode(), autocast(device, settings.half):
        for start, end in parts:
            part = torch.from_numpy(crops[start:end]).permute(0, 3, 1, 2)
            pictures = to_tensor(part, device)
            if validation.sign is None:
                made = network(pictures)
            else:
                made = network.logits(pictures)[:, validation.sign]
            logits.append(made.float().cpu().numpy())
    scores, labels = np.concatenate(logits), validation.labels
    if groups is not None:
        _, inverse = np.unique(groups, return_inverse=True)
        counts = np.bincount(inverse)
        scores = np.bincount(inverse, scores) / counts
        labels = np.bincount(inverse, labels) / counts > 0.5
    return auc(labels, scores), float(((scores > 0) == labels).mean())
