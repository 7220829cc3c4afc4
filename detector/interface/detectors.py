"""Load the app's detectors once for all visitors, and run them on a ZeroGPU if there is one."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import spaces

from detector.heatmaps import PAPER, explain, explain_all
from detector.records import Calibration, Face, Heatmap, Image, ModelInfo, PersonVerdict
from detector.scoring import Detector, Ensemble
from detector.verdict import deciding_sign
from detector.weights import (
    find_source,
    how_to_get,
    load_detector,
    read_catalogue,
    read_metadata,
)

MAP_SECONDS = 30  # GPU time requested for one face's heatmaps


class Detectors:
    """Loads each detector once and keeps it."""

    def __init__(self) -> None:
        self._loaded: dict[str, Detector | Ensemble] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Detector | Ensemble:
        """Return the detector of a model, loading it at the first call."""
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = load_detector(name)
            return self._loaded[name]


DETECTORS = Detectors()


def list_models() -> list[tuple[str, str]]:
    """Return (title with the source of the weights, name) of every model that has weights."""
    catalogue = read_catalogue()
    return [
        (f"{entry.title} ({source})", entry.name)
        for entry in catalogue.entries.values()
        if (source := find_source(entry, catalogue))
    ]


def list_missing() -> list[str]:
    """Return a line for each model without weights: its title and how to get them."""
    catalogue = read_catalogue()
    return [
        f"{entry.title}: {how_to_get(entry)}"
        for entry in catalogue.entries.values()
        if not find_source(entry, catalogue)
    ]


@cache
def read_figures(model: str) -> dict[str, Any]:
    """Return the measured figures in a model's checkpoint; empty for an ensemble."""
    catalogue = read_catalogue()
    entry = catalogue.find(model)
    if entry.file is None or not (catalogue.folder / entry.file).is_file():
        return {}
    figures: dict[str, Any] = read_metadata(catalogue.folder / entry.file).get("figures", {})
    return figures


def seconds_to_score(model: str, crops: Sequence[Image], mirror: bool) -> int:
    """Return the GPU time to request for scoring, seconds; a short request is served earlier."""
    return 5 + len(crops) // 10


@spaces.GPU(duration=seconds_to_score)
def compute_scores(model: str, crops: Sequence[Image], mirror: bool) -> np.ndarray:
    """Return the logits of crops. Of a scan, only this occupies the shared GPU."""
    return DETECTORS.get(model).score_signs(crops, mirror=mirror)


@dataclass(frozen=True)
class SharedDetector:
    """A detector whose network runs on the shared GPU, and everything else on the CPU."""

    name: str
    info: ModelInfo
    calibration: Calibration
    margin: float
    finder_device: str
    in_sequence: bool
    batch: int

    @classmethod
    def of(cls, name: str) -> "SharedDetector":
        """Return the shared detector of a model."""
        whole = DETECTORS.get(name)
        where = "cpu" if "SPACES_ZERO_GPU" in os.environ else whole.finder_device
        return cls(
            name, whole.info, whole.calibration, whole.margin, where, whole.in_sequence, whole.batch
        )

    def score_signs(self, crops: Sequence[Image], *, mirror: bool = False) -> np.ndarray:
        """Return the logits of crops, shape (n, signs)."""
        return compute_scores(self.name, list(crops), mirror)


@spaces.GPU(duration=MAP_SECONDS)
def compute_maps(
    model: str, person: PersonVerdict, face: Face, method: str, tested: bool = True
) -> dict[str, Heatmap]:
    """Return one face's heatmaps by method, for the sign that decides the person's verdict.

    If `tested`, there are maps of `method` and of the paper's four methods, all with trust figures;
    otherwise only that of `method`, without.
    """
    detector, sign = DETECTORS.get(model), deciding_sign(person)
    if not tested:
        made = explain(detector, face, method=method, person=person.person, sign=sign)
        return {method: made}
    methods = tuple(dict.fromkeys((*PAPER, method)))
    return dict(explain_all(detector, face, methods=methods, person=person.person, sign=sign))
