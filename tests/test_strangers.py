"""People who do not exist: how their generator is read, and what becomes of its faces."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from clips import other_portrait, portrait
from torch.nn import functional as F

from detector.errors import UserError
from detector.training import packages, strangers
from detector.training.portraits import PORTRAIT_MARGIN, Portrait
from detector.training.strangers import (
    Graph,
    Inventor,
    invent_people,
    repeated_edges,
    stand_in,
)

SPREAD = {"pads_begin": "0, 0", "pads_end": "0, 0", "dilations": "1, 1", "auto_pad": "explicit"}


class Writer:
    """Writes a graph in OpenVINO's format, layer by layer."""

    def __init__(self) -> None:
        self.root = ElementTree.Element("net")
        self.layers = ElementTree.SubElement(self.root, "layers")
        self.edges = ElementTree.SubElement(self.root, "edges")
        self.stored = b""

    def layer(self, kind: str, *sources: tuple[int, int], outputs: int = 1, **data: str) -> int:
        """Add a layer fed by outputs of others, (layer, output); its number."""
        number = len(self.layers)
        layer = ElementTree.SubElement(self.layers, "layer", id=str(number), type=kind)
        ElementTree.SubElement(layer, "data", data)
        for tag, ports in (("input", range(len(sources))), ("output", range(outputs))):
            whole = ElementTree.SubElement(layer, tag)
            for port in ports:
                at = port + (len(sources) if tag == "output" else 0)
                ElementTree.SubElement(whole, "port", id=str(at))
        for place, (begin, output) in enumerate(sources):
            inputs = len(self.layers[begin].findall("input/port"))
            ElementTree.SubElement(
                self.edges, "edge",
                {"from-layer": str(begin), "from-port": str(inputs + output),
                 "to-layer": str(number), "to-port": str(place)},
            )  # fmt: skip
        return number

    def constant(self, values: Any, kind: str = "f32") -> tuple[int, int]:
        """Add a constant; its output."""
        array = np.asarray(values, strangers.TYPES[kind])
        number = self.layer(
            "Const", element_type=kind, shape=", ".join(map(str, array.shape)),
            offset=str(len(self.stored)), size=str(array.nbytes),
        )  # fmt: skip
        self.stored += array.tobytes()
        return number, 0

    def write(self, path: Path) -> Path:
        """The .xml and the .bin beside it."""
        ElementTree.ElementTree(self.root).write(path)
        path.with_suffix(".bin").write_bytes(self.stored)
        return path


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A linear layer, a picture of its output, upsampled by groups, its halves multiplied."""
    rng = np.random.default_rng(0)
    writer = Writer()
    given = writer.layer("Parameter", shape="1, 4", element_type="f32"), 0
    weight = writer.constant(rng.standard_normal((8, 4)))
    linear = writer.layer("MatMul", given, weight, transpose_a="false", transpose_b="true"), 0
    slope = writer.constant([0.2])
    bent = writer.layer("PReLU", linear, slope), 0
    shape = writer.constant([0, 2, 2, 2], "i64")
    picture = writer.layer("Reshape", bent, shape, special_zero="true"), 0
    kernel = writer.constant(rng.standard_normal((2, 1, 1, 2, 2)))
    large = (
        writer.layer(
            "GroupConvolutionBackpropData", picture, kernel, strides="2, 2",
            output_padding="0, 0", **SPREAD,
        ),
        0,
    )  # fmt: skip
    axis, lengths = writer.constant(1, "i64"), writer.constant([1, 1], "i64")
    halves = writer.layer("VariadicSplit", large, axis, lengths, outputs=2)
    both = writer.layer("Multiply", (halves, 0), (halves, 1)), 0
    writer.layer("Result", both)
    return writer.write(tmp_path / "graph.xml")


def test_a_graph_computes_what_it_says(graph: Path) -> None:
    rng = np.random.default_rng(0)
    weight, kernel = (
        torch.from_numpy(rng.standard_normal(shape)).float() for shape in ((8, 4), (2, 1, 1, 2, 2))
    )
    given = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    picture = F.leaky_relu(given @ weight.T, 0.2).reshape(3, 2, 2, 2)
    large = F.conv_transpose2d(picture, kernel[:, 0], stride=2, groups=2)
    expected = large[:, :1] * large[:, 1:]
    assert torch.allclose(Graph(graph)(given), expected, atol=1e-5)


def test_a_spoilt_graph_is_refused(graph: Path) -> None:
    weights = graph.with_suffix(".bin")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    with pytest.raises(UserError) as caught:
        Graph(graph)
    assert caught.value.code == "weights_mismatch"
    weights.write_bytes(whole)
    text = graph.read_text(encoding="utf-8")
    graph.write_text(text.replace("PReLU", "Einsum"), encoding="utf-8")
    with pytest.raises(UserError, match="Einsum"):
        Graph(graph)
    graph.write_text(text[: len(text) // 2], encoding="utf-8")
    with pytest.raises(UserError) as caught:
        Graph(graph)
    assert caught.value.code == "weights_corrupt"


def test_a_seed_makes_a_face(tmp_path: Path) -> None:
    mapping = Writer()
    style = mapping.layer("Parameter", shape="1, 3", element_type="f32"), 0
    mapping.layer("Result", (mapping.layer("Multiply", style, mapping.constant([2.0])), 0))
    mapping.write(tmp_path / "MappingNetwork.xml")
    drawing = Writer()
    style = drawing.layer("Parameter", shape="1, 3", element_type="f32"), 0
    shape = drawing.constant([1, 3, 1, 1], "i64")
    colour = drawing.layer("Reshape", style, shape, special_zero="false"), 0
    large = drawing.layer("Tile", colour, drawing.constant([1, 1, 4, 4], "i64")), 0
    drawing.layer("Result", large)
    drawing.write(tmp_path / "SynthesisNetwork.xml")
    inventor = Inventor(tmp_path)
    one, again, other = (inventor.invent((0, n)) for n in (1, 1, 2))
    assert one.shape == (4, 4, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_what_was_invented_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [portrait(), other_portrait()]
    people: Any = SimpleNamespace(invent=lambda seed: drawn[seed[-1]])
    first = invent_people(2, tmp_path, inventor=people)
    monkeypatch.setattr(packages, "find_package", lambda name: None)
    again = invent_people(2, tmp_path)  # nobody is left to invent
    assert [p.name for p in first] == [p.name for p in again] == ["0.png", "1.png"]
    with pytest.raises(UserError, match="pip install --no-deps random-face"):
        invent_people(1, tmp_path / "other")


def test_both_end_where_either_does() -> None:
    def person(image: np.ndarray) -> Portrait:
        return Portrait("", 30.0, False, image, np.zeros((5, 2)), np.zeros(3))

    side = round(40 * (1 + PORTRAIT_MARGIN))
    rng = np.random.default_rng(0)
    ours, theirs = (rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(2))
    theirs[-12:] = theirs[-13]
    ours[:, :9] = ours[:, 9:10]
    both = stand_in(person(ours), person(theirs))
    assert both.painted is not None
    for image in (both.image, both.painted):
        top, bottom, left, right = repeated_edges(image)
        assert (top, right) == (0.0, 0.0)
        assert bottom == pytest.approx(12 / side, abs=0.02)
        assert left == pytest.approx(9 / side, abs=0.02)
    assert np.array_equal(both.image[10:60, 20:70], ours[10:60, 20:70])
    assert np.array_equal(both.painted[10:60, 20:70], theirs[10:60, 20:70])
