"""The figures of an evaluation, with intervals: computed, as Markdown tables, and as plots."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detector.records import Calibration, Label
from detector.training import metrics
from detector.training.calibration import decide, decide_held_out, sign_of
from detector.training.labelled import ClipScore, CropScores
from detector.training.tables import format_count, format_head, format_interval, format_row
from detector.verdict import to_probability

MANY_CROPS = 5000  # for more crops than this, fewer bootstrap rounds are enough
PER_CLIP = (
    "average_precision", "equal_error_rate", "accuracy", "precision", "recall", "f1", "brier",
    "calibration_error", "log_loss",
)  # fmt: skip
LABELS = (Label.MANIPULATED, Label.INCONCLUSIVE, Label.NO_SIGNS)


def figures_of(scores: Sequence[ClipScore], calibration: Calibration) -> dict[str, Any]:
    """All figures of clips, with 95 % intervals from a bootstrap over groups."""
    labels = np.array([s.clip.fake for s in scores])
    logits = np.array([s.logit for s in scores])
    groups = np.array([s.clip.group for s in scores])
    kinds = np.array([s.clip.kind if s.clip.fake else "real" for s in scores])
    datasets = np.array([s.clip.dataset for s in scores])
    probabilities = np.array([to_probability(x, calibration) for x in logits])
    known = np.array([sign_of(s.clip) <= len(calibration.signs) for s in scores])

    def auc_among(chosen: np.ndarray) -> list[float]:
        return _with_interval(metrics.auc, groups[chosen], labels[chosen], logits[chosen])

    def has_both_classes(chosen: np.ndarray) -> bool:
        return 0 < labels[chosen].sum() < chosen.sum()

    return {
        "clips": len(scores),
        **_rank_figures(labels, logits, groups),
        **_decision_figures(labels, probabilities, groups),
        # Only for kinds of fakes that the network has a sign for.
        **_probability_figures(labels[known], probabilities[known], groups[known]),
        "confusion": metrics.confusion(labels, probabilities > 0.5).tolist(),
        "auc_by_kind": {
            str(kind): auc_among((kinds == kind) | ~labels) for kind in sorted(set(kinds[labels]))
        },
        "verdicts": _count_verdicts(kinds, [decide(s, calibration) for s in scores]),
        "verdicts_held_out": _count_verdicts(kinds, decide_held_out(scores)),
        "auc_by_dataset": {
            str(name): auc_among(datasets == name)
            for name in sorted(set(datasets))
            if has_both_classes(datasets == name)
        },
    }


def _count_verdicts(kinds: np.ndarray, verdicts: Sequence[Label]) -> dict[str, Any]:
    """How many clips of each kind get each label, with Wilson's intervals; real clips first."""
    counts: dict[str, Any] = {}
    for kind in sorted(set(kinds), key=lambda kind: (kind != "real", kind)):
        inside = [v for v, other in zip(verdicts, kinds, strict=True) if other == kind]
        counts[str(kind)] = {}
        for label in LABELS:
            count = sum(verdict is label for verdict in inside)
            low, high = metrics.wilson(count, len(inside))
            counts[str(kind)][str(label)] = {
                "count": count, "of": len(inside), "interval": [round(low, 3), round(high, 3)],
            }  # fmt: skip
    return counts


def _with_interval(
    figure: Callable[[np.ndarray, np.ndarray], float],
    groups: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
) -> list[float]:
    """A figure and its 95 % interval, rounded."""
    rounds = 1000 if len(labels) < MANY_CROPS else 200
    low, high = metrics.bootstrap(groups, figure, labels, scores, rounds=rounds)
    return [round(float(v), 4) for v in (figure(labels, scores), low, high)]


def _rank_figures(labels: np.ndarray, logits: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Figures that depend only on the order of the logits."""
    chosen = (metrics.auc, metrics.average_precision, metrics.equal_error_rate)
    return {f.__name__: _with_interval(f, groups, labels, logits) for f in chosen}


def _decision_figures(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray
) -> dict[str, Any]:
    """Accuracy, precision, recall and F1 at a probability of one half, as in the papers."""
    return {
        name: _with_interval(partial(_decision_figure, name), groups, labels, probabilities > 0.5)
        for name in ("accuracy", "precision", "recall", "f1")
    }


def _decision_figure(name: str, labels: np.ndarray, decided: np.ndarray) -> float:
    return metrics.decision_figures(labels, decided)[name]


def _probability_figures(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray
) -> dict[str, Any]:
    """Figures that judge the probabilities themselves."""
    chosen = (metrics.log_loss, metrics.brier, metrics.calibration_error)
    return {f.__name__: _with_interval(f, groups, labels, probabilities) for f in chosen}


def frame_figures(crops: CropScores, calibration: Calibration) -> dict[str, Any]:
    """Figures per crop, as in the papers."""
    probabilities = np.array([to_probability(x, calibration) for x in crops.logits])
    return {
        **_decision_figures(crops.labels, probabilities, crops.groups),
        **_rank_figures(crops.labels, crops.logits, crops.groups),
        **_probability_figures(crops.labels, probabilities, crops.groups),
        "confusion": metrics.confusion(crops.labels, probabilities > 0.5).tolist(),
    }


def _title(figure: str) -> str:
    return figure.upper() if figure in ("auc", "f1") else figure.replace("_", " ")


def _confusion_row(table: Sequence[Sequence[int]]) -> str:
    (right, alarms), (misses, hits) = table
    return format_row(
        "confusion (real, alarms / missed, found)", f"{right}/{alarms}/{misses}/{hits}"
    )


def to_markdown(figures: dict[str, Any]) -> str:
    """The figures as Markdown tables."""
    lines = []
    if "frames" in figures:
        per_crop = figures["frames"]
        lines.append(format_head("figure, per crop", "value (95 % interval)"))
        lines += [
            format_row(_title(name), format_interval(value))
            for name, value in per_crop.items()
            if name != "confusion"
        ]
        lines += [_confusion_row(per_crop["confusion"]), ""]
    lines.append(format_head("figure, per clip", "value (95 % interval)"))
    per_clip = {f"AUC, all {figures['clips']} clips": figures["auc"]}
    for kind, value in figures["auc_by_kind"].items():
        per_clip[f"AUC, {kind} against all real"] = value
    for name, value in figures["auc_by_dataset"].items():
        per_clip[f"AUC within {name}"] = value
    per_clip |= {_title(name): figures[name] for name in PER_CLIP}
    lines += [format_row(title, format_interval(value)) for title, value in per_clip.items()]
    lines.append(_confusion_row(figures["confusion"]))
    if "robustness" in figures:
        lines += ["", format_head("altered", "video AUC, untouched first, then ever stronger")]
        for name, curve in figures["robustness"].items():
            lines.append(format_row(name, ", ".join(f"{auc:.2f}" for _, auc, *_ in curve)))
    lines += ["", format_head("verdicts", *LABELS)]
    lines += _verdict_rows(figures["verdicts"], "")
    lines += _verdict_rows(
        figures["verdicts_held_out"], ", thresholds set without the clip's group"
    )
    return "\n".join(lines) + "\n"


def _verdict_rows(counts: dict[str, Any], suffix: str) -> list[str]:
    return [
        format_row(kind + suffix, *map(format_count, of_kind.values()))
        for kind, of_kind in counts.items()
    ]


def draw_figures(
    scores: Sequence[ClipScore], calibration: Calibration, figures: dict[str, Any]
) -> Figure:
    """Plots: ROC, reliability, risk against coverage, probabilities by kind, confusion matrices.

    Args:
        scores: the clips' scores.
        calibration: the one that the figures were computed with.
        figures: what `figures_of` returns, with those of `frame_figures` as `frames`, if any.
    """
    mpl.use("Agg")
    labels = np.array([s.clip.fake for s in scores])
    probabilities = np.array([to_probability(s.logit, calibration) for s in scores])
    figure = Figure(figsize=(16, 9), layout="constrained")
    (roc, reliability, per_clip), (risk, kinds, per_crop) = figure.subplots(2, 3)
    alarms, hits, _ = metrics.roc(labels, probabilities)
    roc.plot(alarms, hits, drawstyle="steps-post")
    roc.plot([0, 1], [0, 1], color="0.7")
    roc.set(title="ROC", xlabel="false alarms", ylabel="fakes found")
    table = metrics.reliability(labels, probabilities, bins=8)
    reliability.plot([p for p, _, _ in table], [s for _, s, _ in table], "o-")
    reliability.plot([0, 1], [0, 1], color="0.7")
    reliability.set(title="Reliability", xlabel="probability", ylabel="share of fakes")
    coverage, wrong = metrics.risk_coverage(labels, probabilities)
    risk.plot(coverage, wrong)
    risk.set(title="Risk against coverage", xlabel="share answered", ylabel="share wrong")
    names = sorted({s.clip.kind for s in scores}, key=lambda k: k != "real")
    for row, kind in enumerate(names):
        values = [p for p, s in zip(probabilities, scores, strict=True) if s.clip.kind == kind]
        kinds.plot(values, [row] * len(values), "o", alpha=0.5)
    for threshold in (calibration.lower, calibration.upper):
        kinds.axvline(threshold, color="0.6", linestyle="--")
    kinds.set(title="Probability by kind", yticks=range(len(names)), yticklabels=names)
    _draw_confusion(per_clip, "Clips, decided at 0.5", figures["confusion"])
    if "frames" in figures:
        _draw_confusion(per_crop, "Crops, decided at 0.5", figures["frames"]["confusion"])
    else:
        per_crop.set_axis_off()
    return figure


def _draw_confusion(axes: Axes, title: str, table: Sequence[Sequence[int]]) -> None:
    """Draw a confusion matrix: rows are true labels, columns decisions, shades shares of a row."""
    counts = np.array(table)
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), "Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(2, 2):
        axes.text(
            column, row, str(counts[row, column]), ha="center", va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip
    names = ["real", "fake"]
    axes.set(title=title, xlabel="decided", ylabel="true", xticks=[0, 1], yticks=[0, 1],
             xticklabels=names, yticklabels=names)  # fmt: skip
