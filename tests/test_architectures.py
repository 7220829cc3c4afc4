import copy

import pytest
import torch
from torch import nn

from detector.architectures import ARCHITECTURES, build_network, fold_norms
from detector.weights import load_detector, load_network, resolve_weights


@pytest.mark.parametrize("name", [n for n, a in ARCHITECTURES.items() if not a.recurrent])
def test_the_mean_of_the_evidence_map_is_the_logit(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name, side=96).eval()
    with torch.inference_mode():
        pictures = torch.rand(2, 3, 96, 96)
        maps, logits = network.locate(pictures), network(pictures)
    assert maps.ndim == 3
    assert torch.allclose(maps.mean((1, 2)), logits, atol=1e-4)
    assert maps.std() > 0


def test_contrast_subtracts_the_surround_from_the_centre() -> None:
    torch.manual_seed(0)
    network = build_network("test_efficientnet", side=256, contrast=0.75).eval()
    maps = torch.full((1, 8, 8), -2.0)
    assert network.read(maps).item() == pytest.approx(-0.5)
    maps[:, 2:6, 2:6] = 3.0
    assert network.read(maps).item() == pytest.approx(3 + 0.75 * 2)
    with torch.inference_mode():
        pictures = torch.rand(2, 3, 256, 256)
        assert torch.allclose(network(pictures), network.read(network.locate(pictures)))


@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_map_without_a_surround_is_averaged(side: int) -> None:
    maps = torch.rand(2, side, side)
    network = build_network("test_efficientnet", contrast=0.75)
    assert torch.allclose(network.read(maps), maps.mean((1, 2)))


@pytest.mark.parametrize(
    "name",
    ["xception", "densenet201", "inception_v3", "resnet50", "plain_cnn", "efficientnet_lite0"],
)
def test_folding_the_norms_changes_no_output(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name).eval().double()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
    folded = copy.deepcopy(network)
    fold_norms(folded)
    pictures = torch.rand(1, 3, 96, 96, dtype=torch.float64)
    with torch.inference_mode():
        assert torch.allclose(folded(pictures), network(pictures), rtol=1e-6)
    assert _count_norms(folded) < _count_norms(network)


def test_a_loaded_detector_has_folded_norms_and_the_same_logits() -> None:
    folded = load_detector(device="cpu").network
    learned = load_network(resolve_weights())
    assert _count_norms(folded) == 0 < _count_norms(learned)
    pictures = torch.rand(2, 3, 260, 260)
    with torch.inference_mode():
        assert torch.allclose(folded.logits(pictures), learned.logits(pictures), atol=1e-3)


def _count_norms(network: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
