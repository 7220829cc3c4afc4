import numpy as np
import pytest
import torch
from clips import texture
from codes import raises_code

from detector.architectures import ARCHITECTURES, build_network
from detector.scoring import Detector, choose_device


def test_each_crop_gets_its_own_logit_whatever_the_batch(detector: Detector) -> None:
    crops = [texture(n, 60 + n, 60 + n) for n in range(20)]
    together = detector.score(crops)
    alone = np.concatenate([detector.score([crop]) for crop in crops])
    assert together.shape == (20,)
    assert together == pytest.approx(alone, abs=0.02)


def test_mirror_averaging_is_symmetric(detector: Detector) -> None:
    crop = texture(1, 64, 64)
    flipped = np.ascontiguousarray(crop[:, ::-1])
    both = detector.score([crop, flipped], mirror=True)
    assert both[0] == pytest.approx(both[1], abs=0.02)
    plain = detector.score([crop, flipped])
    assert abs(plain[0] - plain[1]) > 0.1
    assert both[0] == pytest.approx(plain.mean(), abs=0.02)


def test_no_crops_no_logits(detector: Detector) -> None:
    assert detector.score([]).shape == (0,)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_missing_device() -> None:
    with raises_code("no_device"):
        choose_device("cuda")
    assert choose_device("auto") in ("cpu", "mps")


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_every_architecture_builds_with_one_logit_and_a_layer(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name)
        side = network.architecture.side
        shapes = []
        network.explained_layer.register_forward_hook(
            lambda module, given, out: shapes.append(out.shape)
        )
        assert network.eval()(torch.zeros(2, 3, side, side)).shape == (2,)
    assert len(shapes) == 1
    assert len(shapes[0]) == 4
    assert shapes[0][2] > 1
