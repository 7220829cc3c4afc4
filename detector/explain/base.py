"""What all explanations share: the frozen network, the layer's hook, the way back to pixels.

A map always explains the evidence *for* manipulation, the logit of one sign, whatever the
verdict; and it keeps its strength: a weak map stays weak beside a strong one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from torch import nn

from detector.architectures import Network

Method = Callable[[Network, torch.Tensor], np.ndarray]
"""A network and pictures, (n, 3, side, side) in 0..1 -> maps, (n, side, side), 0 and up."""


def evidence(output: torch.Tensor) -> torch.Tensor:
    """What is explained: the logit of manipulation. For one logit grad-cam's own default is not."""
    return output


@contextmanager
def frozen(network: Network) -> Iterator[Network]:
    """The network for explaining: evaluation mode, no gradients for its weights."""
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
    """Gradients begin at this layer's output: what lies before it costs a forward pass alone."""

    def cut(module: nn.Module, given: object, output: torch.Tensor) -> torch.Tensor:
        return output.detach().requires_grad_()

    handle = layer.register_forward_hook(cut)
    try:
        yield
    finally:
        handle.remove()


def to_pixels(maps: np.ndarray, side: int) -> np.ndarray:
    """Maps of a layer, (n, h, w), at the picture's size; what speaks against is cut off at 0."""
    positive = np.maximum(maps, 0).astype(np.float32)
    return np.stack([cv2.resize(m, (side, side), interpolation=cv2.INTER_LINEAR) for m in positive])
