"""Portraits of people who do not exist, invented by a generator that others trained.

It is MobileStyleGAN. Such faces stand on false profiles, and portraits that are animated often are
of such people. The weights are those of the package `random-face` (Apache-2.0), in the format of
OpenVINO: they are read here, and neither the package nor OpenVINO is imported. Belousov,
"MobileStyleGAN: A Lightweight Convolutional Neural Network for High-Fidelity Image Synthesis",
2021.
"""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from detector.charts import write_png
from detector.errors import UserError
from detector.faces import resize
from detector.records import Image
from detector.settings import Progress, silent
from detector.training.packages import require_package
from detector.training.portraits import Portrait, find_portraits

PACKAGE = "random-face==2021.7.21.1"
KEPT_SIDE = 512  # pixels; portraits hold no more of a face than this does
VARIETY = 0.5, 0.9  # how far from the mean face: farther ones are stranger, and less well drawn
SAMPLED_STYLES = 1024  # for the mean
SAME = 6  # levels between two rows of pixels of which one only repeats the other, at most
SEAM = 0.004  # of a picture's side: rows that resizing mixed with repeated ones
TYPES = {"f32": np.float32, "i64": np.int64, "i32": np.int32}

Values = list[torch.Tensor]
Attributes = dict[str, str]
Operation = Callable[[Values, Attributes], torch.Tensor | Sequence[torch.Tensor]]


def _whole(attributes: Attributes, name: str) -> list[int]:
    return [int(number) for number in attributes[name].split(",")]


def _strides_and_pads(attributes: Attributes) -> dict[str, Any]:
    pads = _whole(attributes, "pads_begin")
    if pads != _whole(attributes, "pads_end") or attributes.get("auto_pad") != "explicit":
        raise ValueError("uneven borders")
    return {"stride": _whole(attributes, "strides"), "padding": pads}


def _multiply(values: Values, attributes: Attributes) -> torch.Tensor:
    first, second = values
    first = first.T if attributes["transpose_a"] == "true" else first
    return first @ (second.T if attributes["transpose_b"] == "true" else second)


def _gather(values: Values, attributes: Attributes) -> torch.Tensor:
    data, places, axis = values
    if int(axis) != 0:
        raise ValueError("only the first axis can be gathered from")
    return data[places.long()]


def _reshape(values: Values, attributes: Attributes) -> torch.Tensor:
    data, shape = values
    wanted = [
        data.shape[axis] if size == 0 and attributes["special_zero"] == "true" else size
        for axis, size in enumerate(shape.tolist())
    ]
    return data.reshape(wanted)


def _grow(values: Values, attributes: Attributes) -> torch.Tensor:
    data, shape = values[0], values[1].tolist()
    return data.expand(torch.broadcast_shapes(data.shape, shape))


def _by_groups(convolve: Callable[..., torch.Tensor]) -> Operation:
    def run(values: Values, attributes: Attributes) -> torch.Tensor:
        data, weight = values
        strides = _strides_and_pads(attributes)
        return convolve(data, weight.flatten(0, 1), groups=len(weight), **strides)

    return run


def _insert_axes(values: Values, attributes: Attributes) -> torch.Tensor:
    data, axes = values
    for axis in sorted(axes.flatten().tolist()):
        data = data.unsqueeze(axis)
    return data


OPERATIONS: dict[str, Operation] = {
    "Add": lambda v, a: v[0] + v[1],
    "Multiply": lambda v, a: v[0] * v[1],
    "Power": lambda v, a: v[0] ** v[1],
    "MatMul": _multiply,
    "ReduceMean": lambda v, a: v[0].mean(v[1].flatten().tolist(), a["keep_dims"] == "true"),
    "PReLU": lambda v, a: F.prelu(v[0], v[1].flatten()),
    "Convolution": lambda v, a: F.conv2d(v[0], v[1], **_strides_and_pads(a)),
    "GroupConvolution": _by_groups(F.conv2d),
    "GroupConvolutionBackpropData": _by_groups(F.conv_transpose2d),
    "ShapeOf": lambda v, a: torch.tensor(v[0].shape),
    "Gather": _gather,
    "Concat": lambda v, a: torch.cat(v, int(a["axis"])),
    "Reshape": _reshape,
    "Unsqueeze": _insert_axes,
    "Squeeze": lambda v, a: v[0].squeeze(v[1].flatten().tolist()),
    "Broadcast": _grow,
    "Tile": lambda v, a: v[0].tile(v[1].tolist()),
    "VariadicSplit": lambda v, a: v[0].split(v[2].tolist(), int(v[1])),
    "Result": lambda v, a: v[0],
}


class Graph:
    """A network with one input and one output, read from a file of OpenVINO's format."""

    def __init__(self, path: Path) -> None:
        """`path` is the .xml; the weights lie beside it, in the .bin."""
        try:
            root = ElementTree.parse(path).getroot()
            stored = path.with_suffix(".bin").read_bytes()
        except (OSError, ElementTree.ParseError) as error:
            raise UserError("weights_corrupt", f"{path} cannot be read: {error}") from error
        layers = {int(layer.attrib["id"]): layer for layer in root.iterfind("layers/layer")}
        self.kinds = {number: layer.attrib["type"] for number, layer in layers.items()}
        self.attributes = {
            number: dict(data.attrib) if (data := layer.find("data")) is not None else {}
            for number, layer in layers.items()
        }
        # A layer's ports are numbered through, the inputs first.
        self.ports = {n: len(layer.findall("input/port")) for n, layer in layers.items()}
        self.wires: dict[int, dict[int, tuple[int, int]]] = {number: {} for number in layers}
        for edge in root.iterfind("edges/edge"):
            begin, port, end, place = (
                int(edge.attrib[name])
                for name in ("from-layer", "from-port", "to-layer", "to-port")
            )
            self.wires[end][place] = begin, port - self.ports[begin]
        self.order = list(
            TopologicalSorter(
                {n: {begin for begin, _ in wires.values()} for n, wires in self.wires.items()}
            ).static_order()
        )
        unknown = set(self.kinds.values()) - {*OPERATIONS, "Const", "Parameter"}
        if unknown:
            raise UserError("weights_mismatch", f"{path} asks for {', '.join(sorted(unknown))}.")
        self.constants = {
            number: _read_constant(stored, self.attributes[number], path)
            for number, kind in self.kinds.items()
            if kind == "Const"
        }

    def __call__(self, given: torch.Tensor) -> torch.Tensor:
        """What the network makes of its input."""
        left = Counter(begin for wires in self.wires.values() for begin, _ in wires.values())
        made: dict[int, Sequence[torch.Tensor]] = {}
        result = given
        for number in self.order:
            kind = self.kinds[number]
            if kind == "Const":
                made[number] = [self.constants[number]]
                continue
            if kind == "Parameter":
                made[number] = [given]
                continue
            sources = [self.wires[number][place] for place in sorted(self.wires[number])]
            values = [made[begin][output] for begin, output in sources]
            answer = OPERATIONS[kind](values, self.attributes[number])
            made[number] = [answer] if isinstance(answer, torch.Tensor) else answer
            for begin, _ in sources:
                left[begin] -= 1
                if left[begin] == 0:
                    del made[begin]
            if kind == "Result":
                result = made[number][0]
        return result


def _read_constant(stored: bytes, attributes: Attributes, path: Path) -> torch.Tensor:
    kind = np.dtype(TYPES[attributes["element_type"]])
    start, size = int(attributes["offset"]), int(attributes["size"])
    shape = [int(length) for length in attributes["shape"].split(",") if length.strip()]
    if len(stored) < start + size or size != int(np.prod(shape)) * kind.itemsize:
        raise UserError("weights_mismatch", f"{path} and its weights do not fit.")
    values = np.frombuffer(stored, kind, size // kind.itemsize, start).copy()
    return torch.from_numpy(values).reshape(shape)


class Inventor:
    """The generator: a style drawn by a seed -> a face."""

    def __init__(self, folder: Path) -> None:
        self.map_style = Graph(folder / "MappingNetwork.xml")
        self.draw_style = Graph(folder / "SynthesisNetwork.xml")
        many = np.random.default_rng(0).standard_normal((SAMPLED_STYLES, self.width), np.float32)
        with torch.inference_mode():
            self.mean = self.map_style(torch.from_numpy(many)).mean(0, keepdim=True)

    @property
    def width(self) -> int:
        """How many numbers a style is drawn from."""
        first = next(n for n, kind in self.map_style.kinds.items() if kind == "Parameter")
        return int(self.map_style.attributes[first]["shape"].split(",")[1])

    def invent(self, seed: tuple[int, ...]) -> Image:
        """A square picture of a person."""
        rng = np.random.default_rng(seed)
        drawn = torch.from_numpy(rng.standard_normal((1, self.width), np.float32))
        with torch.inference_mode():
            style = self.map_style(drawn)
            style = self.mean + float(rng.uniform(*VARIETY)) * (style - self.mean)
            picture = self.draw_style(style)[0]
        pixels = ((picture + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def load_inventor() -> Inventor:
    """The generator with the weights of its package."""
    folder = require_package(PACKAGE, "people invented by MobileStyleGAN")
    return Inventor(folder / "data")


def invent_people(
    count: int,
    folder: Path,
    *,
    inventor: Inventor | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Portrait]:
    """Portraits of `count` people who do not exist, less those in whom no face is found.

    What was drawn is kept in the folder, so that a second run need not draw it again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        progress("people invented", number / count)
        path = folder / f"{number}.png"
        if path.exists():
            continue
        inventor = inventor or load_inventor()
        picture = inventor.invent((seed, number))
        side = min(KEPT_SIDE, picture.shape[0])
        write_png(path, resize(picture, side, side))
    return find_portraits(folder, folder / "portraits.npz", progress)


def stand_in(portrait: Portrait, stranger: Portrait) -> Portrait:
    """The portrait with the stranger as what was drawn of it, both ending where either does.

    Beyond a picture's edge a portrait repeats the last pixels: that alone would tell them apart.
    """
    ends = zip(repeated_edges(portrait.image), repeated_edges(stranger.image), strict=True)
    shares = [max(pair) for pair in ends]
    side = portrait.image.shape[0]
    drawn = resize(stranger.image, side, side)
    return replace(
        portrait,
        image=repeat_edges(portrait.image, shares),
        painted=repeat_edges(drawn, shares),
    )


def repeated_edges(image: Image) -> list[float]:
    """The share of a square picture that repeats what it ends with: top, bottom, left, right."""
    found = []
    down = image.astype(np.int16)
    across = down.transpose(1, 0, 2)
    for lines in (down, down[::-1], across, across[::-1]):
        differs = np.abs(lines - lines[0]).max(axis=(1, 2)) > SAME
        share = float(np.argmax(differs) - 1) / len(lines)
        found.append(share + SEAM if share > 2 * SEAM else 0.0)
    return found


def repeat_edges(image: Image, shares: Sequence[float]) -> Image:
    """The picture, so much of it replaced by its last pixels: top, bottom, left, right."""
    side = image.shape[0]
    top, bottom, left, right = (round(side * share) for share in shares)
    kept = np.ascontiguousarray(image[top : side - bottom, left : side - right])
    return cv2.copyMakeBorder(kept, top, bottom, left, right, cv2.BORDER_REPLICATE)
