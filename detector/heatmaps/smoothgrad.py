"""SmoothGrad (Smilkov et al., 2017): gradients of noisy copies, averaged."""

import numpy as np
import torch

from detector.architectures import Network
from detector.heatmaps.base import evidence

SAMPLES = 20  # the paper's number
NOISE = 0.2  # standard deviation, as a share of the picture's range: the paper's
BATCH = 10


def smoothgrad(
    network: Network, pictures: torch.Tensor, *, noise: float = NOISE, seed: int = 0
) -> np.ndarray:
    """Mean absolute gradient over noisy copies, maximum over the colour channels."""
    generator = torch.Generator().manual_seed(seed)
    maps = []
    for picture in pictures:
        deviation = noise * float(picture.max() - picture.min())
        total = torch.zeros_like(picture)
        for start in range(0, SAMPLES, BATCH):
            count = min(BATCH, SAMPLES - start)
            drawn = torch.randn((count, *picture.shape), generator=generator).to(picture)
            noisy = (picture + deviation * drawn).requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(evidence(network(noisy)).sum(), noisy)
            total += slope.abs().sum(0)
        maps.append((total / SAMPLES).amax(0).cpu().numpy())
    return np.stack(maps)
