"""Tests of `benchmarks.keras_starts`."""

import base64
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.keras_starts import (
    KERAS_EPSILON,
    Convolution,
    fill_network,
    find_convolutions,
    read_inception,
)
from detector.architectures import Network, build_network

RNG = np.random.default_rng(0)


def draw_convolutions(network: Network) -> list[Convolution]:
    """Random convolutions of the network's shapes, in Keras' form."""
    drawn = []
    for own, norm in find_convolutions(network.backbone):
        kernels = [RNG.normal(0, 0.1, c.weight.shape).astype(np.float32) for c in own]
        width = len(norm.running_mean)
        statistics = {
            "bias": RNG.normal(0, 1, width).astype(np.float32),
            "running_mean": RNG.normal(0, 1, width).astype(np.float32),
            "running_var": RNG.uniform(0.5, 2, width).astype(np.float32),
        }
        drawn.append(Convolution(kernels, statistics))
    return drawn


def test_the_first_layer_sees_a_picture_as_keras_networks_do() -> None:
    network = build_network("inception_v3").eval()
    given = draw_convolutions(network)
    fill_network(network, given)
    picture = RNG.uniform(0, 1, (3, 15, 15))

    first, norm = given[0].kernels[0], given[0].norm
    expected = nn.functional.conv2d(
        torch.from_numpy(2 * picture - 1).float()[None], torch.from_numpy(first), stride=2
    )[0]
    for channel, values in enumerate(expected):
        values -= norm["running_mean"][channel]
        values /= np.sqrt(norm["running_var"][channel] + KERAS_EPSILON)
        values += norm["bias"][channel]
    mean, deviation = (
        np.array(v)[:, None, None] for v in (network.architecture.mean, network.architecture.std)
    )
    own = torch.from_numpy((picture - mean) / deviation).float()[None]
    with torch.no_grad():
        found = network.backbone.get_submodule("Conv2d_1a_3x3")(own)[0]
    assert found.max() > 1
    torch.testing.assert_close(found, expected.relu(), rtol=1e-4, atol=1e-4)


def test_convolutions_that_do_not_fit_are_refused() -> None:
    network = build_network("xception")
    given = draw_convolutions(network)
    fill_network(network, given)
    with pytest.raises(SystemExit, match="more convolutions"):
        fill_network(network, [*given, given[0]])
    given[0].kernels[0] = given[0].kernels[0][:1]
    with pytest.raises(SystemExit, match="does not fit"):
        fill_network(network, given)


def test_packed_weights_are_read(tmp_path: Path) -> None:
    codes = RNG.integers(0, 256, 900, dtype=np.uint8)
    text = base64.b64encode(codes.tobytes()).decode()
    (tmp_path / "group1-shard1of1.min.js").write_text(f'exports="{text}"', encoding="utf-8")
    parts = [("conv2d_1/kernel", "3,3,4,24")]
    norm = "batch_normalization_1"
    parts += [(f"{norm}/{part}", "12") for part in ("beta", "moving_mean", "moving_variance")]
    described = [
        f'{{name:"{name}",shape:[{shape}],dtype:"float32",'
        'quantization:{min:-1.5,scale:.01,dtype:"uint8"}}'
        for name, shape in parts
    ]
    (tmp_path / "model.min.js").write_text(",".join(described), encoding="utf-8")

    (found,) = read_inception(tmp_path)

    kernel = (codes[:864].reshape(3, 3, 4, 24) * 0.01 - 1.5).transpose(3, 2, 0, 1)
    np.testing.assert_allclose(found.kernels[0], kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.norm["running_var"], codes[888:] * 0.01 - 1.5, rtol=1e-5)


def test_an_incomplete_folder_is_refused(tmp_path: Path) -> None:
    text = base64.b64encode(bytes(900)).decode()
    (tmp_path / "group1-shard1of1.min.js").write_text(f'exports="{text}"', encoding="utf-8")
    (tmp_path / "model.min.js").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit, match="900 weights"):
        read_inception(tmp_path)
