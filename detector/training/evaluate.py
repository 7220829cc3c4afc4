"""Measure and calibrate a detector on labelled clips: figures, thresholds, plots, a table.

Clips lie in `real/` and `fake/`; a `manifest.tsv` may give each clip's kind, data set, method and
group (clips of one source). All figures are per clip, after aggregation over its faces.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detector.errors import UserError
from detector.pipeline import scan
from detector.records import SIGNS, Calibration, Image, Label
from detector.scoring import Detector, Ensemble
from detector.settings import Progress, Settings, silent
from detector.training import metrics
from detector.training.datasets import list_labelled, read_index
from detector.training.left_out import SourceScore
from detector.training.mixture import REAL, SIGN_OF
from detector.training.robustness import CROPS_EACH, Faces, draw_curves, sweep
from detector.training.sequence import group_videos
from detector.training.train import batch_bounds
from detector.verdict import (
    by_suspicion,
    choose_label,
    median_probability,
    strongest_sign,
    to_probability,
)
from detector.video import read_image

ALARM_BUDGET = 0.05  # share of genuine clips that may be called manipulated
MISS_BUDGET = 0.08  # share of fakes that may be called free of signs
MANY = 5000  # for more crops than this, fewer bootstrap rounds are enough
PER_CLIP = (
    "average_precision", "equal_error_rate", "accuracy", "precision", "recall", "f1", "brier",
    "calibration_error", "log_loss",
)  # fmt: skip
THRESHOLD_MARGIN = 0.02  # distance of the thresholds from the clips that set them, probability


@dataclass(frozen=True)
class LabelledClip:
    """A clip with its label."""

    path: Path
    fake: bool
    kind: str
    dataset: str
    method: str
    group: str


@dataclass(frozen=True)
class ClipScore:
    """A clip with the logits of the person who decides its verdict."""

    clip: LabelledClip
    logits: np.ndarray = field(repr=False, compare=False)
    """(n,), or (n, signs)."""
    crops: tuple[Image, ...] = field(default=(), repr=False, compare=False)
    """A few of the faces, for the robustness sweep."""

    @property
    def logit(self) -> float:
        """The clip's logit: the largest median over the signs."""
        return float(np.median(strongest_sign(self.logits)))


class CropScores(NamedTuple):
    """Label, logit and group (for the bootstrap) of every crop of an index."""

    labels: np.ndarray
    logits: np.ndarray
    groups: np.ndarray


def find_labelled(folder: Path) -> list[LabelledClip]:
    """The clips below real/ and fake/; raises UserError `no_data` or `one_class`."""
    clips = [LabelledClip(path, fake, **said) for path, fake, said in list_labelled(folder)]
    if not clips:
        raise UserError("no_data", f"{folder} has no clips in real/ and fake/.")
    if len({c.fake for c in clips}) == 1:
        raise UserError("one_class", f"{folder} holds clips of one class only.")
    return clips


def score_clips(
    clips: Sequence[LabelledClip],
    detector: Detector | Ensemble,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> tuple[list[ClipScore], list[str]]:
    """Scan every clip; (scores, a sentence for each clip that could not be scored)."""
    scores, failed = [], []
    for number, clip in enumerate(clips):
        progress("clips", number / len(clips))
        try:
            found = scan(clip.path, settings, detector=detector)
        except UserError as error:
            failed.append(f"{clip.path.name}: {error.message}")
            continue
        people = [p for p in by_suspicion(found.people) if len(p.scores) >= 3] or [
            p for p in by_suspicion(found.people) if p.scores
        ]
        if not people:
            failed.append(f"{clip.path.name}: no face that can be judged")
            continue
        logits = np.array([s.logits for s in people[0].scores])
        scores.append(ClipScore(clip, logits, _some([s.face.crop for s in people[0].scores])))
    return scores, failed


def _some(given: Sequence[Any] | np.ndarray) -> tuple[Any, ...]:
    """At most CROPS_EACH of a clip's crops, evenly spaced."""
    numbers = np.linspace(0, len(given) - 1, min(len(given), CROPS_EACH)).round().astype(int)
    return tuple(given[number] for number in numbers)


def score_index(
    folder: Path, detector: Detector | Ensemble, split: str = "test", progress: Progress = silent
) -> tuple[list[ClipScore], CropScores]:
    """Score a split of an index, by clip and by crop."""
    rows = [row for row in read_index(folder / "index.csv") if row.split == split]
    if not rows:
        raise UserError("no_data", f"The {split} split of {folder} is empty.")
    if len({row.fake for row in rows}) < 2:
        raise UserError("one_class", f"The {split} split of {folder} holds one class only.")
    rows = [row for video in group_videos(rows) for row in video]
    videos = np.array([row.video for row in rows])
    labels = np.array([bool(row.fake) for row in rows])
    logits = np.zeros((len(rows), len(detector.calibration.signs)))
    for start, end in batch_bounds(len(rows), videos if detector.in_sequence else None):
        progress("crops", start / len(rows))
        logits[start:end] = detector.answer(
            [read_image(folder / row.crop) for row in rows[start:end]]
        )
    scores = []
    for video in sorted(set(videos)):
        inside = np.flatnonzero(videos == video)
        row = rows[inside[0]]
        kind = row.method if row.fake else "real"
        clip = LabelledClip(Path(video), bool(row.fake), kind, row.dataset, row.method, row.group)
        crops = tuple(read_image(folder / rows[i].crop) for i in _some(inside))
        scores.append(ClipScore(clip, logits[inside], crops))
    groups = np.array([row.group for row in rows])
    return scores, CropScores(labels, logits.max(1), groups)


def sign_of(clip: LabelledClip) -> int:
    """0 for real, 1 for pasted, 2 for drawn; a fake of unknown kind counts as pasted."""
    return SIGN_OF.get(clip.kind, 1) if clip.fake else 0


def scale_signs(scores: Sequence[ClipScore]) -> list[metrics.Scaling]:
    """Temperature and bias of each sign's logit, fitted to its own fakes and the genuine clips."""
    kinds = np.array([sign_of(s.clip) for s in scores])
    medians = np.array([np.median(s.logits, axis=0) for s in scores])
    found = []
    for number in range(medians.shape[1]):
        inside = (kinds == 0) | (kinds == number + 1)
        if len(set(kinds[inside])) < 2:
            raise UserError(
                "one_class", "Genuine clips and fakes of every sign are needed to calibrate."
            )
        found.append(metrics.fit_scaling(kinds[inside] > 0, medians[inside, number]))
    return found


def scaled(score: ClipScore, scalings: Sequence[metrics.Scaling]) -> ClipScore:
    """A clip's score with each sign's logit scaled."""
    temperatures, biases = np.array([(s.temperature, s.bias) for s in scalings]).T
    return replace(score, logits=score.logits / temperatures + biases)


def calibrate(scores: Sequence[ClipScore]) -> Calibration:
    """Fit temperature, bias and thresholds to labelled clips.

    The upper threshold meets the false alarm budget on genuine clips, the lower one the miss budget
    on fakes. For a network with one logit, only fakes of kind `blended` are used if there are any:
    its probability is that of a pasted face.
    """
    signs = 1 if scores[0].logits.ndim == 1 else scores[0].logits.shape[1]
    if signs == 1 and any(s.clip.kind == "blended" for s in scores):
        scores = [s for s in scores if not s.clip.fake or s.clip.kind == "blended"]
    labels = np.array([s.clip.fake for s in scores])
    if labels.all() or not labels.any():
        raise UserError("one_class", "Both genuine and manipulated clips are needed to calibrate.")
    scaling = metrics.fit_scaling(labels, np.array([s.logit for s in scores]))
    reals = [s for s in scores if not s.clip.fake]
    fakes = [s for s in scores if s.clip.fake]
    whole = Calibration(
        temperature=scaling.temperature,
        bias=scaling.bias,
        calibrated=True,
        real_logits=tuple(sorted(round(s.logit, 4) for s in reals)),
        signs=SIGNS[:signs],
    )
    lows = sorted((median_probability(s.logits, whole)[1] for s in reals), reverse=True)
    highs = sorted(median_probability(s.logits, whole)[2] for s in fakes)
    upper = lows[int(ALARM_BUDGET * len(lows))] + THRESHOLD_MARGIN
    lower = highs[int(MISS_BUDGET * len(highs))] - THRESHOLD_MARGIN
    upper = float(np.clip(upper, 0.5, 0.99))
    whole = replace(whole, crowd=tail_of([s.logit for s in reals]) / whole.temperature)
    return replace(whole, upper=upper, lower=float(np.clip(lower, 0.01, min(0.5, upper - 0.01))))


def tail_of(logits: Sequence[float]) -> float:
    """Mean distance of the upper half of genuine clips' logits from their median.

    If this tail is exponential, judging e times as many people needs a threshold higher by this for
    the same false alarm rate.
    """
    values = np.asarray(logits)
    middle = float(np.median(values))
    return float(np.mean(values[values >= middle] - middle))


def decide(score: ClipScore, calibration: Calibration) -> Label:
    """The label of a clip."""
    _, low, high = median_probability(score.logits, calibration)
    return choose_label((low, high), calibration)


def decide_held_out(scores: Sequence[ClipScore]) -> list[Label]:
    """Each clip's label by thresholds that were set without the clips of its group."""
    labels = []
    for score in scores:
        others = [s for s in scores if s.clip.group != score.clip.group]
        labels.append(decide(score, calibrate(others)))
    return labels


def figures_of(scores: Sequence[ClipScore], calibration: Calibration) -> dict[str, Any]:
    """All figures with 95 % intervals, from a bootstrap over groups."""
    labels = np.array([s.clip.fake for s in scores])
    logits = np.array([s.logit for s in scores])
    groups = np.array([s.clip.group for s in scores])
    kinds = np.array([s.clip.kind for s in scores])
    probabilities = np.array([to_probability(x, calibration) for x in logits])
    known = np.array([sign_of(s.clip) <= len(calibration.signs) for s in scores])
    answer: dict[str, Any] = {
        "clips": len(scores),
        **_rank_figures(labels, logits, groups),
        **_decision_figures(labels, probabilities, groups),
        # Only for kinds of fakes that the network has a sign for.
        **_probability_figures(labels[known], probabilities[known], groups[known]),
        "confusion": metrics.confusion(labels, probabilities > 0.5).tolist(),
        "auc_by_kind": {},
        "verdicts": {},
        "verdicts_held_out": {},
    }
    for kind in sorted(set(kinds[labels])):
        chosen = (kinds == kind) | ~labels
        answer["auc_by_kind"][str(kind)] = _with_interval(
            metrics.auc, groups[chosen], labels[chosen], logits[chosen]
        )
    datasets = np.array([s.clip.dataset for s in scores])
    answer["auc_by_dataset"] = {
        str(name): _with_interval(
            metrics.auc, groups[datasets == name], labels[datasets == name],
            logits[datasets == name],
        )
        for name in sorted(set(datasets))
        if 0 < labels[datasets == name].sum() < (datasets == name).sum()
    }  # fmt: skip
    decided = [decide(s, calibration) for s in scores]
    held_out = decide_held_out(scores)
    for kind in ["real", *answer["auc_by_kind"]]:
        inside = [
            i for i, s in enumerate(scores) if (s.clip.kind if s.clip.fake else "real") == kind
        ]
        for name, verdicts in (("verdicts", decided), ("verdicts_held_out", held_out)):
            answer[name][kind] = {
                str(label): _share(sum(verdicts[i] is label for i in inside), len(inside))
                for label in (Label.MANIPULATED, Label.INCONCLUSIVE, Label.NO_SIGNS)
            }
    return answer


def _with_interval(
    figure: Any, groups: np.ndarray, labels: np.ndarray, scores: np.ndarray
) -> list[float]:
    rounds = 1000 if len(labels) < MANY else 200
    low, high = metrics.bootstrap(groups, figure, labels, scores, rounds=rounds)
    return [round(float(v), 4) for v in (figure(labels, scores), low, high)]


def _share(hits: int, total: int) -> dict[str, Any]:
    low, high = metrics.wilson(hits, total)
    return {"count": hits, "of": total, "interval": [round(low, 3), round(high, 3)]}


def _rank_figures(labels: np.ndarray, logits: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    chosen = (metrics.auc, metrics.average_precision, metrics.equal_error_rate)
    return {f.__name__: _with_interval(f, groups, labels, logits) for f in chosen}


def _decision_figures(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray
) -> dict[str, Any]:
    """Accuracy, precision, recall and F1 at a probability of one half, as in the papers."""
    return {
        name: _with_interval(
            lambda truth, decided, name=name: metrics.decision_figures(truth, decided)[name],
            groups, labels, probabilities > 0.5,
        )
        for name in ("accuracy", "precision", "recall", "f1")
    }  # fmt: skip


def _probability_figures(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray
) -> dict[str, Any]:
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


def evaluate(
    folder: Path,
    detector: Detector | Ensemble,
    out: Path,
    settings: Settings | None = None,
    progress: Progress = silent,
    *,
    robustness: bool = False,
    others: Sequence[SourceScore] = (),
) -> tuple[dict[str, Any], Calibration, list[tuple[float, float]]]:
    """Measure a detector, and write figures.json, scores.csv, table.md and plots.

    Args:
        folder: labelled clips, or an index that `prepare` made, of which the test split is used.
        detector: the detector. Without a calibration, the one fitted here is used.
        out: the folder to write to.
        settings: those of the scans.
        progress: called with the fraction done.
        robustness: also measure under a sweep of alterations.
        others: clips of left-out sources, which are used for the calibration only.

    Returns:
        The figures, a calibration fitted to the clips, and (temperature, bias) of each sign, by
        which the logits must be scaled before that calibration.

    Raises:
        UserError: `no_data`, `one_class`.
    """
    out.mkdir(parents=True, exist_ok=True)
    frames = None
    failed: list[str] = []
    if (folder / "index.csv").is_file():
        scores, frames = score_index(folder, detector, progress=progress)
    else:
        scores, failed = score_clips(find_labelled(folder), detector, settings, progress)
    if not scores:
        raise UserError("no_data", f"No clip of {folder} could be scored.")
    everything = [*scores, *map(as_clip, others)]
    scales: list[metrics.Scaling] = []
    if len(detector.calibration.signs) > 1:
        scales = scale_signs(everything)
        everything = [scaled(score, scales) for score in everything]
        if not detector.calibration.calibrated:
            scores = everything[: len(scores)]
    fresh = calibrate(everything)
    calibration = detector.calibration if detector.calibration.calibrated else fresh
    figures = figures_of(scores, calibration)
    if frames is not None:
        figures["frames"] = frame_figures(frames, calibration)
    figures["failed"] = failed
    if robustness:
        faces = [Faces(s.clip.fake, s.clip.group, s.crops) for s in scores]
        figures["robustness"] = sweep(faces, detector, progress)
        draw_curves(figures["robustness"]).savefig(out / "robustness.png", dpi=110)
    figures["calibration"] = {k: v for k, v in asdict(calibration).items() if k != "real_logits"}
    (out / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    (out / "table.md").write_text(to_markdown(figures), encoding="utf-8")
    with (out / "scores.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "fake", "kind", "dataset", "group", "logit", "probability"])
        for s in scores:
            p = to_probability(s.logit, calibration)
            writer.writerow([s.clip.path.name, int(s.clip.fake), s.clip.kind, s.clip.dataset,
                             s.clip.group, round(s.logit, 4), round(p, 4)])  # fmt: skip
    draw_figures(scores, calibration, figures).savefig(out / "figures.png", dpi=110)
    return figures, fresh, [(s.temperature, s.bias) for s in scales]


def as_clip(source: SourceScore) -> ClipScore:
    """Convert a clip of a left-out source, to calibrate on it."""
    fake = source.kind != REAL
    clip = LabelledClip(
        Path(source.video), fake, source.kind, source.dataset, source.kind,
        f"{source.dataset}/{source.group}",
    )  # fmt: skip
    return ClipScore(clip, source.logits)


def evaluate_all(
    folders: Sequence[Path],
    detectors: dict[str, Detector | Ensemble],
    out: Path,
    settings: Settings | None = None,
    progress: Progress = silent,
    *,
    robustness: bool = False,
) -> str:
    """Evaluate every detector on every data set; a Markdown matrix of video AUC."""
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        raise UserError("bad_setting", "The folders of a matrix need different names.")
    lines = ["| video AUC | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for title, detector in detectors.items():
        cells = []
        for folder in folders:
            cell = out / f"{title}-on-{folder.name}"
            figures, *_ = evaluate(
                folder, detector, cell, settings, progress, robustness=robustness
            )
            cells.append(_cell(figures["auc"]))
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    table = "\n".join(lines) + "\n"
    (out / "matrix.md").write_text(table, encoding="utf-8")
    return table


def _cell(value: Sequence[float]) -> str:
    return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"


def _name(figure: str) -> str:
    return figure.upper() if figure in ("auc", "f1") else figure.replace("_", " ")


def _confusion_row(table: Sequence[Sequence[int]]) -> str:
    (right, alarms), (misses, hits) = table
    return f"| confusion (real, alarms / missed, found) | {right}/{alarms}/{misses}/{hits} |"


def to_markdown(figures: dict[str, Any]) -> str:
    """The figures as Markdown tables."""
    lines = []
    if "frames" in figures:
        f = figures["frames"]
        names = [name for name in f if name != "confusion"]
        lines += ["| figure, per crop | value (95 % interval) |", "|---|---|"]
        lines += [f"| {_name(name)} | {_cell(f[name])} |" for name in names]
        lines += [_confusion_row(f["confusion"]), ""]
    lines += ["| figure, per clip | value (95 % interval) |", "|---|---|"]
    lines.append(f"| AUC, all {figures['clips']} clips | {_cell(figures['auc'])} |")
    for kind, value in figures["auc_by_kind"].items():
        lines.append(f"| AUC, {kind} against all real | {_cell(value)} |")
    for name, value in figures["auc_by_dataset"].items():
        lines.append(f"| AUC within {name} | {_cell(value)} |")
    lines += [f"| {_name(name)} | {_cell(figures[name])} |" for name in PER_CLIP]
    lines.append(_confusion_row(figures["confusion"]))
    if "robustness" in figures:
        lines += ["", "| altered | video AUC, untouched first, then ever stronger |", "|---|---|"]
        for name, curve in figures["robustness"].items():
            lines.append(f"| {name} | " + ", ".join(f"{auc:.2f}" for _, auc, *_ in curve) + " |")
    lines += ["", "| verdicts | manipulated | inconclusive | no_signs |", "|---|---|---|---|"]
    for title, table in (
        ("", figures["verdicts"]),
        (", thresholds set without the clip's group", figures["verdicts_held_out"]),
    ):
        for kind, shares in table.items():
            row = " | ".join(
                f"{s['count']} of {s['of']} ({s['interval'][0]:.0%} to {s['interval'][1]:.0%})"
                for s in shares.values()
            )
            lines.append(f"| {kind}{title} | {row} |")
    return "\n".join(lines) + "\n"


def draw_figures(
    scores: Sequence[ClipScore], calibration: Calibration, figures: dict[str, Any]
) -> Figure:
    """Plots: ROC, reliability, risk against coverage, probabilities by kind, confusion matrices."""
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
