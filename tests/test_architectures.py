import pytest
import torch

from detector.architectures import ARCHITECTURES, build_network


@pytest.mark.parametrize("name", [n for n, a in ARCHITECTURES.items() if not a.recurrent])
def test_the_evidence_of_the_places_makes_the_logit(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name, side=96).eval()
    with torch.inference_mode():
        pictures = torch.rand(2, 3, 96, 96)
        maps, logits = network.locate(pictures), network(pictures)
    assert maps.ndim == 3
    assert torch.allclose(maps.mean((1, 2)), logits, atol=1e-4)
    assert maps.std() > 0


def test_contrast_sets_the_middle_against_what_surrounds_it() -> None:
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
def test_a_map_too_small_for_surroundings_counts_alike_everywhere(side: int) -> None:
    maps = torch.rand(2, side, side)
    network = build_network("test_efficientnet", contrast=0.75)
    assert torch.allclose(network.read(maps), maps.mean((1, 2)))
