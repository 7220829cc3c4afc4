"""Parts that the explanation methods share: freezing, the layer's hook, resizing to pixels.

A map explains the evidence *for* manipulation, that is the logit of one sign, whatever the verdict.
Maps are not normalised here: weak evidence gives a weak map.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from torch import nn

from detector.architectures import Network

Method = Callable[[Network, torch.Tensor], np.ndarray]
"""A network and pictures, (n, 3, side, side) in 0..1 -> maps, (n, side, side), not negative."""


def evidence(output: torch.Tensor) -> torch.Tensor:
    """The target to explain: the logit itself. grad-cam's default target does not fit one logit."""
    return output


@contextmanager
def frozen(network: Network) -> Iterator[Network]:
    """Put the network into evaluation mode, without gradients for its weights, for a while."""
    was = [(p, p.requires_grad) for p in network.parameters()]
    try:
        for parameter, _ in was:
            parameter.requires_grad_(False)
        yield network.eval()
    finally:
        for parameter, value in was:
            parameter.requires_grad_(value)


@contextmanager
def graph_from(layer: nn.Module) -> Iterator[None]:
    """Compute gradients only from this layer's output on: earlier layers need no backward pass."""

    def cut(module: nn.Module, given: object, output: torch.Tensor) -> torch.Tensor:
        return output.detach().requires_grad_()

    handle = layer.register_forward_hook(cut)
    try:
        yield
    finally:
        handle.remove()


def to_pixels(maps: np.ndarray, side: int) -> np.ndarray:
    """Resize a layer's maps, (n, h, w), to the picture's size; negative values become 0."""
    positive = np.maximum(maps, 0).astype(np.float32)
    return np.stack([cv2.resize(m, (side, side), interpolation=cv2.INTER_LINEAR) for m in positive])
