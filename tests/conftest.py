"""What several tests share."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from clips import face_clip, other_portrait, portrait, texture, write_clip

from detector.architectures import Network, build_network
from detector.records import Calibration
from detector.scoring import Detector
from detector.training import metrics
from detector.weights import load_detector, save_checkpoint


@pytest.fixture(autouse=True)
def _no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever passes, nothing may be logged as an error."""
    yield
    logged = [r for when in ("setup", "call") for r in caplog.get_records(when)]
    assert not [r.getMessage() for r in logged if r.levelno >= logging.ERROR]


@pytest.fixture
def few_bootstrap_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals from 20 resamples, for tests that do not depend on them."""

    def few(*given: Any, rounds: int = 0, **named: Any) -> tuple[float, float]:
        return bootstrap(*given, rounds=20, **named)

    bootstrap = metrics.bootstrap
    monkeypatch.setattr(metrics, "bootstrap", few)


def random_network(name: str) -> Network:
    """A network with random weights whose logits differ from picture to picture.

    Those of a new network are all about 0: its batch norms have not seen a picture yet.
    """
    torch.manual_seed(0)
    network = build_network(name)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    crops = [texture(number, 64, 64) for number in range(12)]
    crops += [cv2.resize(image, (64, 64)) for image in (portrait(), other_portrait())]
    pictures = np.stack(crops)
    with torch.no_grad():
        network.train()(torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255)
    torch.nn.init.normal_(network.backbone.get_classifier().weight, std=0.1)
    return network.eval()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of timm's tiny test network, random but sound."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(
        path,
        random_network("test_efficientnet"),
        margin=0.5,
        calibration=Calibration(1.0, 0.0, 0.3, 0.7, True, (-1.0, -0.5, 0.0, 0.5)),
        about={"licence": "none", "figures": {"AUC": 0.5}},
    )
    return path


@pytest.fixture(scope="session")
def detector(checkpoint: Path) -> Detector:
    """The tiny network, loaded."""
    loaded = load_detector(weights=checkpoint, device="cpu")
    assert isinstance(loaded, Detector)
    return loaded


@pytest.fixture(scope="session")
def face_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short clip of one face."""
    return write_clip(tmp_path_factory.mktemp("clips") / "face.mp4", face_clip())
