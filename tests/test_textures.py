from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clips import make_row, texture

from detector.__main__ import main
from detector.architectures import Network, build_network
from detector.errors import UserError
from detector.records import SIGNS, Calibration
from detector.training.datasets import read_index, write_index
from detector.training.metrics import auc
from detector.training.mixture import crop_face
from detector.training.textures import DRAWN, discriminant, fit_texture_head
from detector.weights import load_network, recalibrate, resolve_weights, save_checkpoint

BOX = 20, 20, 100, 100
MARGIN = 0.2


def _network(**options: object) -> Network:
    torch.manual_seed(0)
    return build_network("test_efficientnet", signs=SIGNS, **options).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Genuine faces are textures, drawn ones the same without their finest structure."""
    folder = tmp_path_factory.mktemp("textures")
    rows = []
    for number in range(48):
        kind = ("real", "animated", "swapped")[number % 3]
        picture = texture(number, 120, 120)
        if kind == "animated":
            picture = cv2.GaussianBlur(picture, (0, 0), 1.5)
        crop = f"{number}.png"
        cv2.imwrite(str(folder / crop), picture)
        fake = int(kind != "real")
        dataset = f"set{number % 4}"
        video, group = f"clip{number}", f"group{number}"
        rows.append(make_row(
            crop, fake=fake, video=video, group=group, dataset=dataset, kind=kind, box=BOX
        ))  # fmt: skip
    write_index(folder / "index.csv", rows)
    return folder


def _drawn_logits(network: Network, index: Path, kind: str) -> np.ndarray:
    rows = [row for row in read_index(index / "index.csv") if row.kind == kind]
    side = network.architecture.side
    crops = np.stack([cv2.resize(crop_face(index, row, MARGIN), (side, side)) for row in rows])
    with torch.inference_mode():
        pictures = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
        return network.logits(pictures)[:, DRAWN].numpy()


def test_a_texture_head_tells_drawn_faces_that_the_backbone_does_not(index: Path) -> None:
    network = _network()
    fit_texture_head(network, index, MARGIN, left_out=["set3"])
    genuine, drawn = (_drawn_logits(network, index, kind) for kind in ("real", "animated"))
    labels = np.repeat([False, True], [len(genuine), len(drawn)])
    assert auc(labels, np.concatenate([genuine, drawn])) > 0.95
    before = network.texture_head.weight[1 - DRAWN]  # type: ignore[union-attr]
    assert not before.any(), "the pasted logit stays as it was"


def test_a_new_texture_head_adds_nothing() -> None:
    pictures = torch.rand(2, 3, 64, 64)
    network = _network()
    with torch.inference_mode():
        before = network.logits(pictures)
        network.add_texture_head(2)
        torch.testing.assert_close(network.logits(pictures), before)
        assert network.texture_head is not None
        network.texture_head.bias[1] = 1.0
        torch.testing.assert_close(network.logits(pictures)[:, 1], before[:, 1] + 1)


def test_textures_are_means_and_deviations_of_the_first_stages() -> None:
    network = _network()
    maps = []
    for stage in network.backbone.blocks[:2]:  # type: ignore[index]
        stage.register_forward_hook(lambda module, given, made: maps.append(made))
    with torch.inference_mode():
        _, textures = network.logits_and_textures(torch.rand(1, 3, 64, 64), 2)
    expected = [f(m.double()) for m in maps for f in (_means, _deviations)]
    torch.testing.assert_close(textures.double(), torch.cat(expected, 1), atol=1e-5, rtol=1e-4)


def _means(maps: torch.Tensor) -> torch.Tensor:
    return maps.flatten(2).mean(2)


def _deviations(maps: torch.Tensor) -> torch.Tensor:
    return maps.flatten(2).std(2)


def test_the_discriminant_of_one_feature_by_hand() -> None:
    features = np.array([[0.0], [2.0], [4.0], [6.0]])
    drawn = np.array([False, False, True, True])
    direction, offset = discriminant(features, drawn, np.ones(4))
    spread = np.std([0, 2, 4, 6]) + 1e-3
    variance = (1 / spread) ** 2  # of each class
    assert direction[0] == pytest.approx((4 / spread) / (11 * variance) / spread)
    assert features[:, 0] @ [1, 1, 1, 1] * direction[0] + 4 * offset == pytest.approx(0)


def test_the_command_writes_a_checkpoint_that_keeps_its_head(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, extended = tmp_path / "plain.safetensors", tmp_path / "extended.safetensors"
    training = {"training": {"left_out": ["set3"]}, "licence": "test"}
    save_checkpoint(plain, _network(), margin=MARGIN, about=training)
    words = ["weights", "texture-head", str(plain), "--data", str(index), "--out", str(extended)]
    assert main(words) == 0
    assert str(extended) in capsys.readouterr().out
    checkpoint = resolve_weights(path=extended)
    assert checkpoint.metadata["training"] == {"left_out": ["set3"], "texture_head": 4}
    network = load_network(checkpoint)
    own = _network()
    fit_texture_head(own, index, MARGIN, ["set3"])
    for kind in ("real", "animated"):
        logits = [_drawn_logits(n, index, kind) for n in (network, own)]
        np.testing.assert_allclose(*logits, atol=0.05)  # the file holds half precision
    scaled = tmp_path / "scaled.safetensors"
    figures = {"auc": [], "auc_by_kind": {}, "auc_by_dataset": {},
               "verdicts": {"real": {"manipulated": 0}}}  # fmt: skip
    recalibrate(checkpoint, scaled, Calibration(), figures, [(1.0, 0.0), (2.0, -1.0)])
    halved = _drawn_logits(load_network(resolve_weights(path=scaled)), index, "real")
    expected = _drawn_logits(network, index, "real") / 2 - 1
    np.testing.assert_allclose(halved, expected, atol=0.02)


def test_what_cannot_have_a_texture_head_is_refused(index: Path) -> None:
    with pytest.raises(UserError, match="drawn"):
        fit_texture_head(build_network("test_efficientnet"), index, MARGIN)
    with pytest.raises(UserError, match="genuine and drawn"):
        fit_texture_head(_network(), index, MARGIN, ["set0", "set1", "set2", "set3"])
    with pytest.raises(UserError, match="texture head"):
        build_network("resnet50", textures=2)
