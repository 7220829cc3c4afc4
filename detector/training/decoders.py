"""Small autoencoders trained on portraits, whose output shows the artefacts of decoders.

All generators end in a few layers that turn features into pixels. These layers leave traces in
whatever they draw: no sensor noise, a grid from upsampling, skin that is too smooth.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from detector.records import Image
from detector.scoring import autocast, to_device
from detector.settings import Progress, silent
from detector.training.portraits import Portrait

DECODERS = [("nearest", 3, 16), ("transposed", 2, 4), ("shuffle", 3, 12), ("nearest", 2, 4),
            ("transposed", 3, 16)]  # fmt: skip
"""Kind of upsampling, number of times the size is halved, channels at the bottleneck."""


def _upsample(kind: str, channels: int, outputs: int) -> nn.Module:
    """A layer that doubles the size, from `channels` to `outputs` channels."""
    if kind == "transposed":
        return nn.ConvTranspose2d(channels, outputs, 4, stride=2, padding=1)
    if kind == "shuffle":
        return nn.Sequential(nn.Conv2d(channels, outputs * 4, 3, padding=1), nn.PixelShuffle(2))
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(channels, outputs, 3, padding=1)
    )


class Autoencoder(nn.Module):
    """Convolutions down to 1/2**depth of the size, `latent` channels there, and back up."""

    def __init__(self, kind: str, depth: int, latent: int, width: int = 24) -> None:
        super().__init__()
        self.stride = 2**depth
        down: list[nn.Module] = []
        channels = 3
        for level in range(depth):
            outputs = width * min(2**level, 4)
            down += [nn.Conv2d(channels, outputs, 4, stride=2, padding=1), nn.SiLU()]
            down += [nn.Conv2d(outputs, outputs, 3, padding=1), nn.SiLU()]
            channels = outputs
        self.encode = nn.Sequential(*down, nn.Conv2d(channels, latent, 1))
        up: list[nn.Module] = [nn.Conv2d(latent, channels, 3, padding=1), nn.SiLU()]
        for level in reversed(range(depth)):
            outputs = width * min(2 ** max(level - 1, 0), 4)
            up += [_upsample(kind, channels, outputs), nn.SiLU()]
            up += [nn.Conv2d(outputs, outputs, 3, padding=1), nn.SiLU()]
            channels = outputs
        self.decode = nn.Sequential(*up, nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) in -1..1 -> the same shape; h and w multiples of the stride."""
        return self.decode(self.encode(pictures))


class Decoder:
    """A trained autoencoder that redraws RGB pictures of any size."""

    def __init__(self, network: Autoencoder) -> None:
        self.network = to_device(network).eval()

    def redraw(self, image: Image) -> Image:
        """Redraw a picture."""
        height, width = image.shape[:2]
        stride = self.network.stride
        below, right = -height % stride, -width % stride
        padded = np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")
        pixels = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            made = self.network(pixels.contiguous(memory_format=torch.channels_last))
        made = (made.float()[0].permute(1, 2, 0) * 127.5 + 127.5).round().clamp(0, 255)
        return np.ascontiguousarray(made.to(torch.uint8).numpy()[:height, :width])


def save_decoder(path: Path, network: Autoencoder, kind: str, depth: int, latent: int) -> None:
    """Write an autoencoder as safetensors, with its shape in the header."""
    shape = {"kind": kind, "depth": str(depth), "latent": str(latent)}
    tensors = {name: t.detach().half().contiguous() for name, t in network.state_dict().items()}
    save_file(tensors, path, metadata=shape)


def load_decoders(folder: Path) -> list[Decoder]:
    """Load all autoencoders of a folder, in the order of their names."""
    decoders = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as opened:
            shape = opened.metadata()
        network = Autoencoder(shape["kind"], int(shape["depth"]), int(shape["latent"]))
        network.load_state_dict({n: t.float() for n, t in load_file(path).items()})
        decoders.append(Decoder(network))
    return decoders


def _critic(width: int = 32) -> nn.Sequential:
    """The discriminator: a score for each patch of a picture, high for real ones."""
    return nn.Sequential(
        nn.Conv2d(3, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, width * 2, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width * 2, width * 2, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width * 2, 1, 3, padding=1),
    )


def _patches(
    portraits: Sequence[Portrait], count: int, side: int, rng: np.random.Generator
) -> torch.Tensor:
    """Random squares of random portraits, (count, 3, side, side), -1..1."""
    patches: list[np.ndarray] = []
    while len(patches) < count:
        image = portraits[int(rng.integers(len(portraits)))].image
        size = max(side, round(image.shape[0] * rng.uniform(0.45, 1.0)))
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        x, y = rng.integers(0, size - side + 1, 2)
        patches.append(image[y : y + side, x : x + side])
    pixels = torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


def train_decoder(
    portraits: Sequence[Portrait],
    kind: str,
    depth: int,
    latent: int,
    *,
    steps: int = 1500,
    batch: int = 8,
    side: int = 128,
    seed: int = 0,
    progress: Progress = silent,
) -> Autoencoder:
    """Train an autoencoder on portraits; in the second half also against a patch discriminator.

    Args:
        portraits: the pictures to reproduce.
        kind: kind of upsampling: nearest, transposed or shuffle.
        depth: number of times the size is halved.
        latent: channels at the bottleneck.
        steps: optimiser steps.
        batch: pictures a step.
        side: side of the random squares that are learned from, pixels.
        seed: of weights and squares.
        progress: called after every step.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = to_device(Autoencoder(kind, depth, latent))
    critic = to_device(_critic())
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=2e-3, betas=(0.5, 0.99), weight_decay=0.0
    )
    critic_optimiser = torch.optim.AdamW(
        critic.parameters(), lr=1e-3, betas=(0.5, 0.99), weight_decay=0.0
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=1e-4)
    cpu = torch.device("cpu")
    for step in range(steps):
        real = _patches(portraits, batch, side, rng)
        adversarial = step > steps // 2
        with autocast(cpu):
            made = network(real)
        made = made.float()
        loss = (made - real).abs().mean() + 0.5 * _edge_loss(made, real)
        if adversarial:
            with autocast(cpu):
                judged = critic(made).float()
            loss = loss - 0.02 * judged.mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if adversarial:
            with autocast(cpu):
                on_real, on_made = critic(real).float(), critic(made.detach()).float()
            hinge = (1 - on_real).relu().mean() + (1 + on_made).relu().mean()
            critic_optimiser.zero_grad(set_to_none=True)
            hinge.backward()
            critic_optimiser.step()
        progress("decoder", (step + 1) / steps)
    return network


def _edge_loss(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the pictures' gradients, so that edges are reproduced."""
    across = (made.diff(dim=3) - real.diff(dim=3)).abs().mean()
    return across + (made.diff(dim=2) - real.diff(dim=2)).abs().mean()


def make_decoders(
    portraits: Sequence[Portrait], folder: Path, count: int, progress: Progress = silent
) -> list[Decoder]:
    """Train the first `count` autoencoders of DECODERS, or load those that the folder holds.

    Args:
        portraits: what to train on; those in colour, if there are any.
        folder: where the autoencoders are kept.
        count: how many.
        progress: called after every step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, (kind, depth, latent) in enumerate(DECODERS[:count]):
        path = folder / f"{number}-{kind}.safetensors"
        if path.exists():
            continue
        colour = [p for p in portraits if not p.grey] or list(portraits)
        network = train_decoder(colour, kind, depth, latent, seed=number, progress=progress)
        save_decoder(path, network, kind, depth, latent)
    return load_decoders(folder)
