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
