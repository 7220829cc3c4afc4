"""AUC of a detector on crops that are encoded, downscaled, blurred, made noisy or darker.

The alterations are applied to the face crops at their original size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
from matplotlib.figure import Figure

from detector.faces import resize
from detector.records import Image
from detector.scoring import Detector, Ensemble
from detector.settings import Progress, silent
from detector.training import metrics
from detector.training.degradation import blur, encode_jpeg, to_uint8
from detector.video import Recoder

CROPS_EACH = 8  # crops of a clip that are altered


@dataclass(frozen=True)
class LabelledFaces:
    """A clip's label and some of its crops."""

    fake: bool
    group: str
    crops: tuple[Image, ...] = field(repr=False)


@dataclass(frozen=True)
class Alteration:
    """A way to alter a picture, at increasing strengths."""

    title: str
    unit: str
    strengths: tuple[float, ...]
    apply: Callable[[float, Image], Image]


def _shrink(factor: float, image: Image) -> Image:
    height, width = image.shape[:2]
    return resize(image, max(16, round(width * factor)), max(16, round(height * factor)))


def _noise(deviation: float, image: Image) -> Image:
    drawn = np.random.default_rng(0).normal(0, deviation, image.shape)
    return to_uint8(image + drawn)


def _gamma(gamma: float, image: Image) -> Image:
    return cv2.LUT(image, to_uint8(255 * np.linspace(0, 1, 256) ** gamma))


ALTERATIONS = (
    Alteration("h264", "crf", (18, 23, 28, 33, 38, 43), lambda s, i: Recoder(int(s)).run([i])[0]),
    Alteration("JPEG", "quality", (90, 70, 50, 30, 15), lambda s, i: encode_jpeg(i, int(s))),
    Alteration("size", "of the original", (0.75, 0.5, 0.35, 0.25), _shrink),
    Alteration("blur", "pixels", (0.5, 1, 2, 3), lambda s, i: to_uint8(blur(i, s))),
    Alteration("noise", "grey levels", (2, 5, 10, 20), _noise),
    Alteration("gamma", "exponent", (0.5, 0.75, 1.5, 2), _gamma),
)

Curves = dict[str, list[tuple[float | None, float, float, float]]]
"""Alteration -> (strength or None for unaltered, AUC, low, high) with a 95 % interval."""


def sweep(
    clips: Sequence[LabelledFaces], detector: Detector | Ensemble, progress: Progress = silent
) -> Curves:
    """Video AUC under every alteration; each curve starts with the unaltered crops."""
    untouched = _measure(clips, detector, lambda image: image)
    curves: Curves = {}
    total = sum(len(a.strengths) for a in ALTERATIONS)
    done = 0
    for alteration in ALTERATIONS:
        curve: list[tuple[float | None, float, float, float]] = [(None, *untouched)]
        for strength in alteration.strengths:
            progress("robustness", done / total)
            done += 1
            measured = _measure(clips, detector, partial(alteration.apply, strength))
            curve.append((strength, *measured))
        curves[alteration.title] = curve
    return curves


def _measure(
    clips: Sequence[LabelledFaces], detector: Detector | Ensemble, alter: Callable[[Image], Image]
) -> tuple[float, float, float]:
    logits = np.array(
        [float(np.median(detector.score([alter(c) for c in f.crops]))) for f in clips]
    )
    labels = np.array([f.fake for f in clips])
    groups = np.array([f.group for f in clips])
    low, high = metrics.bootstrap(groups, metrics.auc, labels, logits)
    return round(metrics.auc(labels, logits), 4), round(low, 4), round(high, 4)


def draw_curves(curves: Curves) -> Figure:
    """Plot one panel for each alteration."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    panels = figure.subplots(2, 3, sharey=True).ravel()
    for panel, alteration in zip(panels, ALTERATIONS, strict=True):
        curve = curves[alteration.title]
        names = ["as it is" if s is None else f"{s:g}" for s, *_ in curve]
        x = range(len(curve))
        panel.fill_between(x, [p[2] for p in curve], [p[3] for p in curve], alpha=0.2)
        panel.plot(x, [p[1] for p in curve], "o-")
        panel.axhline(0.5, color="0.7", linestyle="--")
        panel.set(title=alteration.title, xlabel=alteration.unit, ylim=(0, 1))
        panel.set_xticks(list(x), names)
    panels[0].set_ylabel("video AUC")
    return figure
