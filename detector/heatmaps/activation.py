"""Grad-CAM, Grad-CAM++, Layer-CAM and HiRes-CAM, with the weights of pytorch-grad-cam.

pytorch-grad-cam's own call scales every map to 0..1, which hides its strength. Its parts are
therefore called one by one here.
"""

import numpy as np
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from pytorch_grad_cam.base_cam import BaseCAM

from detector.architectures import Network
from detector.heatmaps.base import Method, evidence, graph_from, to_pixels


def activation_method(kind: type[BaseCAM]) -> Method:
    """Make a method from a class of pytorch-grad-cam that weights channels by their gradients."""

    def explain(network: Network, pictures: torch.Tensor) -> np.ndarray:
        layer = network.explained_layer
        with graph_from(layer), torch.enable_grad():
            cam = kind(model=network, target_layers=[layer])
            try:
                seen = cam.activations_and_grads
                evidence(seen(pictures)).sum().backward()
                maps = cam.get_cam_image(
                    pictures,
                    layer,
                    [evidence] * len(pictures),
                    seen.activations[0].float().numpy(),
                    seen.gradients[0].float().numpy(),
                    False,
                )
            finally:
                cam.activations_and_grads.release()
        return to_pixels(maps, pictures.shape[-1])

    return explain


gradcam = activation_method(GradCAM)
gradcam_plus_plus = activation_method(GradCAMPlusPlus)
layercam = activation_method(LayerCAM)
hirescam = activation_method(HiResCAM)
