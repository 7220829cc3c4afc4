"""The networks of the app: loaded once for all, and run on a shared GPU where there is one."""

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
    load_detector,
    read_catalogue,
    read_metadata,
    way_to_get,
)

MAP_SECONDS = 30  # asked of a shared GPU for one face's maps


class Detectors:
    """Each network is loaded once, for all visitors."""

    def __init__(self) -> None:
        self._loaded: dict[str, Detector | Ensemble] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Detector | Ensemble:
        """The detector of a name."""
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = load_detector(name)
            return self._loaded[name]


DETECTORS = Detectors()


def list_models() -> list[tuple[str, str]]:
    """Title and name of every model that has weights, and where these come from."""
    catalogue = read_catalogue()
    return [
        (f"{entry.title} ({source})", entry.name)
        for entry in catalogue.entries.values()
        if (source := find_source(entry, catalogue))
    ]


def list_missing() -> list[str]:
    """The titles of the models that have no weights here, and the command that each needs."""
    catalogue = read_catalogue()
    return [
        f"{entry.title}: {way_to_get(entry)}"
        for entry in catalogue.entries.values()
        if not find_source(entry, catalogue)
    ]


@cache
def read_figures(model: str) -> dict[str, Any]:
    """A model's measured figures, from its checkpoint; none of an ensemble."""
    catalogue = read_catalogue()
    entry = catalogue.find(model)
    if entry.file is None or not (catalogue.folder / entry.file).is_file():
        return {}
    figures: dict[str, Any] = read_metadata(catalogue.folder / entry.file).get("figures", {})
    return figures


def seconds_to_score(model: str, crops: Sequence[Image], mirror: bool) -> int:
    """What is asked of a shared GPU: no more than is needed."""
    return 5 + len(crops) // 10


@spaces.GPU(duration=seconds_to_score)
def compute_scores(model: str, crops: Sequence[Image], mirror: bool) -> np.ndarray:
    """The network's part of a scan, and all of it that holds a shared GPU."""
    return DETECTORS.get(model).answer(crops, mirror=mirror)


@dataclass(frozen=True)
class SharedDetector:
    """A detector of which only the network runs on the shared GPU, and the rest on the CPU."""

    name: str
    info: ModelInfo
    calibration: Calibration
    margin: float
    finder_device: str
    in_sequence: bool
    batch: int

    @classmethod
    def of(cls, name: str) -> "SharedDetector":
        """The one of a name."""
        whole = DETECTORS.get(name)
        where = "cpu" if "SPACES_ZERO_GPU" in os.environ else whole.finder_device
        return cls(
            name, whole.info, whole.calibration, whole.margin, where, whole.in_sequence, whole.batch
        )

    def answer(self, crops: Sequence[Image], *, mirror: bool = False) -> np.ndarray:
        """The logits, (n, signs)."""
        return compute_scores(self.name, list(crops), mirror)


@spaces.GPU(duration=MAP_SECONDS)
def compute_maps(
    model: str, person: PersonVerdict, face: Face, method: str, tested: bool = True
) -> dict[str, Heatmap]:
    """The map of one face; with `tested`, those of all four methods, each put to the test.

    They are of the kind of traces that the person's verdict rests on.
    """
    detector, sign = DETECTORS.get(model), deciding_sign(person)
    if not tested:
        made = explain(detector, face, method=method, person=person.person, sign=sign)
        return {method: made}
    methods = tuple(dict.fromkeys((*PAPER, method)))
    return dict(explain_all(detector, face, methods=methods, person=person.person, sign=sign))
