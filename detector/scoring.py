"""Crops -> logits: a network with its calibration, stateless."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch

from detector.architectures import Network
from detector.errors import UserError
from detector.faces import resize
from detector.records import Calibration, Image, ModelInfo

Module = TypeVar("Module", bound=torch.nn.Module)

BATCH = 16  # crops a forward pass on a GPU
CPU_BATCH = 4  # crops a forward pass on a CPU core, limited by its cache


def choose_device(wanted: str = "auto") -> str:
    """cuda, mps or cpu; raises UserError `no_device` if the wanted one is missing."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there.get(wanted, False):
        raise UserError("no_device", f"There is no {wanted} on this machine: use --device auto.")
    return wanted


def has_fast_half(device: torch.device) -> bool:
    """Whether bf16 is fast: on a GPU, and on a CPU with bf16 instructions."""
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return device.type == "cuda"


def autocast(device: torch.device, half: bool = True) -> AbstractContextManager[object]:
    """A context that computes in bf16 where that is fast."""
    if half and has_fast_half(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def to_device(module: Module, device: torch.device | str = "cpu") -> Module:
    """Move a network to a device, in channels-last memory order, which is fastest."""
    return module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def to_tensor(pictures: torch.Tensor, device: torch.device) -> torch.Tensor:
    """(n, 3, h, w) uint8 -> float in 0..1 on the device, in channels-last memory order."""
    moved = pictures.to(device, non_blocking=True).float().div_(255)
    return moved.contiguous(memory_format=torch.channels_last)


def crops_to_tensor(crops: Sequence[Image], side: int, device: torch.device) -> torch.Tensor:
    """Crops of any size -> (n, 3, side, side) float in 0..1, as `to_tensor` makes it."""
    sized = np.stack([resize(crop, side, side) for crop in crops])
    return to_tensor(torch.from_numpy(sized).permute(0, 3, 1, 2), device)


class Scorer(Protocol):
    """What a scan needs: a Detector, an Ensemble or another class with these members."""

    @property
    def info(self) -> ModelInfo: ...  # noqa: D102
    @property
    def calibration(self) -> Calibration: ...  # noqa: D102
    @property
    def margin(self) -> float: ...  # noqa: D102
    @property
    def finder_device(self) -> str: ...  # noqa: D102
    @property
    def in_sequence(self) -> bool: ...  # noqa: D102
    @property
    def batch(self) -> int: ...  # noqa: D102
    def score_signs(self, crops: Sequence[Image], *, mirror: bool = False) -> np.ndarray: ...  # noqa: D102


@dataclass(frozen=True)
class Detector:
    """A network with its calibration and crop margin."""

    info: ModelInfo
    network: Network = field(repr=False)
    calibration: Calibration
    margin: float
    """Share of the face's box that crops show around it, as in training."""
    device: torch.device

    @property
    def finder_device(self) -> str:
        """The device of the face finder: MTCNN runs on CUDA and the CPU, not on MPS."""
        return "cuda" if self.device.type == "cuda" else "cpu"

    @property
    def in_sequence(self) -> bool:
        """Whether a call takes one person's crops in order, which are judged together."""
        return self.network.in_sequence

    @property
    def batch(self) -> int:
        """Crops a forward pass."""
        return CPU_BATCH if self.device.type == "cpu" else BATCH

    @property
    def side(self) -> int:
        """Side of the network's input, pixels."""
        return self.network.architecture.side

    def prepare(self, crops: Sequence[Image]) -> torch.Tensor:
        """Crops of any size -> the network's input, (n, 3, side, side) float in 0..1."""
        return crops_to_tensor(crops, self.side, self.device)

    def score(self, crops: Sequence[Image], *, mirror: bool = False) -> np.ndarray:
        """The largest logit of each crop over the signs, (n,)."""
        return self.score_signs(crops, mirror=mirror).max(1)

    def score_signs(self, crops: Sequence[Image], *, mirror: bool = False) -> np.ndarray:
        """The logits, (n, signs); with `mirror`, averaged with those of the mirrored crops."""
        if not crops:
            return np.zeros((0, len(self.network.architecture.signs)), np.float32)
        logits = []
        batch = len(crops) if self.in_sequence else self.batch
        for start in range(0, len(crops), batch):
            pictures = self.prepare(crops[start : start + batch])
            with torch.inference_mode(), autocast(self.device):
                made = self.network.logits(pictures).float()
                if mirror:
                    made = (made + self.network.logits(pictures.flip(3)).float()) / 2
            logits.append(made.cpu().numpy())
        return np.concatenate(logits)


@dataclass(frozen=True)
class Ensemble:
    """Several detectors, their calibrated logits averaged."""

    info: ModelInfo
    members: tuple[Detector, ...] = field(repr=False)
    calibration: Calibration
    margin: float

    @classmethod
    def join(cls, name: str, members: Sequence[Detector]) -> "Ensemble":
        """Make an ensemble; its thresholds are the means of its members' thresholds."""
        if not members:
            raise UserError("unknown_model", f"The ensemble {name} has no members.")
        margins = {m.margin for m in members}
        if len(margins) > 1:
            raise UserError(
                "weights_mismatch", f"The members of {name} use different crop margins."
            )
        ours = [m.calibration for m in members]
        if len({c.signs for c in ours}) > 1:
            raise UserError("weights_mismatch", f"The members of {name} look for different signs.")
        calibrated = all(c.calibrated for c in ours)
        reals = [c.real_logits for c in ours]
        together: tuple[float, ...] = ()
        if len({len(r) for r in reals}) == 1:
            scaled = [np.array(c.real_logits) / c.temperature + c.bias for c in ours]
            together = tuple(np.mean(scaled, axis=0).tolist())
        calibration = Calibration(
            temperature=1.0,
            bias=0.0,
            lower=float(np.mean([c.lower for c in ours])),
            upper=float(np.mean([c.upper for c in ours])),
            calibrated=calibrated,
            real_logits=together,
            signs=ours[0].signs,
            crowd=float(np.mean([c.crowd for c in ours])),
        )
        digest = "+".join(m.info.sha256[:16] for m in members)
        info = ModelInfo(name, "ensemble", digest, calibrated)
        return cls(info, tuple(members), calibration, margins.pop())

    @property
    def finder_device(self) -> str:
        """The device of the face finder."""
        return self.members[0].finder_device

    @property
    def in_sequence(self) -> bool:
        """Whether any member judges a person's crops together."""
        return any(m.in_sequence for m in self.members)

    @property
    def batch(self) -> int:
        """Crops a forward pass."""
        return self.members[0].batch

    def score(self, crops: Sequence[Image], *, mirror: bool = False) -> np.ndarray:
        """The largest mean logit of each crop over the signs, (n,)."""
        return self.score_signs(crops, mirror=mirror).max(1)

    def score_signs(self, crops: Sequence[Image], *, mirror: bool = False) -> np.ndarray:
        """The mean of the members' calibrated logits, (n, signs)."""
        return np.mean(
            [
                m.score_signs(crops, mirror=mirror) / m.calibration.temperature + m.calibration.bias
                for m in self.members
            ],
            axis=0,
        )
