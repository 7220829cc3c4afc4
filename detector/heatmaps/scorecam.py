"""Score-CAM, and Faster Score-CAM as the paper uses it.

Faster Score-CAM masks the picture with the few channels of highest variance, in batches, and
weights each by the probability of the masked picture. pytorch-grad-cam's full Score-CAM uses every
channel and a softmax over the weights; it is kept for comparison.
"""

import contextlib
import io

import numpy as np
import torch
from pytorch_grad_cam import ScoreCAM

from detector.architectures import Network
from detector.heatmaps.base import evidence, to_pixels
from detector.scoring import autocast

CHANNELS = 10  # the paper's N
BATCH = 16  # masked pictures a forward pass


class FasterScoreCAM(ScoreCAM):
    """Score-CAM on the channels of highest variance."""

    channels = CHANNELS

    def get_cam_weights(  # noqa: D102
        self,
        input_tensor: torch.Tensor,
        target_layer: object,
        targets: object,
        activations: np.ndarray,
        grads: object,
    ) -> np.ndarray:
        weights = np.zeros(activations.shape[:2], np.float32)
        kept = np.argsort(-activations.std(axis=(2, 3)), axis=1)[:, : self.channels]
        for number, (picture, channels) in enumerate(zip(input_tensor, kept, strict=True)):
            masks = _masks(torch.from_numpy(activations[number, channels]), picture)
            scores = [
                torch.sigmoid(evidence(self.model(picture * part)).float())
                for part in masks.split(BATCH)
            ]
            weights[number, channels] = torch.cat(scores).cpu().numpy()
        return weights


def _masks(activations: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
    """Channels, (k, h, w) -> masks in 0..1 at the picture's size, (k, 1, side, side)."""
    enlarged = torch.nn.functional.interpolate(
        activations[:, None].to(picture), size=picture.shape[-2:], mode="bilinear"
    )
    low, high = enlarged.amin((2, 3), keepdim=True), enlarged.amax((2, 3), keepdim=True)
    return (enlarged - low) / (high - low + 1e-8)


def faster_scorecam(
    network: Network, pictures: torch.Tensor, channels: int = CHANNELS
) -> np.ndarray:
    """Faster Score-CAM with `channels` channels, that is as many forward passes."""
    kind = type("Chosen", (FasterScoreCAM,), {"channels": channels})
    return _run(kind, network, pictures)


def scorecam(network: Network, pictures: torch.Tensor) -> np.ndarray:
    """pytorch-grad-cam's Score-CAM: one forward pass a channel of the layer."""
    return _run(ScoreCAM, network, pictures)


def _run(kind: type[ScoreCAM], network: Network, pictures: torch.Tensor) -> np.ndarray:
    layer = network.explained_layer
    cam = kind(model=network, target_layers=[layer])
    try:
        with torch.no_grad(), autocast(pictures.device):
            seen = cam.activations_and_grads
            seen(pictures)
            activations = seen.activations[0].float().numpy()
            seen.release()  # the masked passes need not be recorded
            # The full Score-CAM prints a progress bar.
            with contextlib.redirect_stderr(io.StringIO()):
                maps = cam.get_cam_image(
                    pictures, layer, [_as_float] * len(pictures), activations, None
                )
    finally:
        cam.activations_and_grads.release()
    return to_pixels(maps, pictures.shape[-1])


def _as_float(output: torch.Tensor) -> torch.Tensor:
    return evidence(output).float()
