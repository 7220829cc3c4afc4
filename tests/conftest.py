"""What several tests share."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from clips import face_clip, write_clip

from detector.architectures import build_network
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


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of timm's tiny test network, random but sound."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(
        path,
        build_network("test_efficientnet"),
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
