"""Measure a detector on labelled clips or an index, and fit a calibration to them."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detector.errors import UserError
from detector.records import Calibration
from detector.scoring import Detector, Ensemble
from detector.settings import Progress, Settings, silent
from detector.training import metrics
from detector.training.calibration import calibrate, scale_signs, scaled
from detector.training.figures import draw_figures, figures_of, frame_figures, to_markdown
from detector.training.labelled import (
    ClipScore,
    LabelledClip,
    find_labelled,
    score_clips,
    score_index,
)
from detector.training.left_out import SourceScore
from detector.training.mixture import REAL
from detector.training.robustness import LabelledFaces, draw_curves, sweep
from detector.training.tables import format_head, format_interval, format_row
from detector.verdict import to_probability


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
    fitted = calibrate(everything)
    calibration = detector.calibration if detector.calibration.calibrated else fitted
    figures = figures_of(scores, calibration)
    if frames is not None:
        figures["frames"] = frame_figures(frames, calibration)
    figures["failed"] = failed
    if robustness:
        faces = [LabelledFaces(s.clip.fake, s.clip.group, s.crops) for s in scores]
        figures["robustness"] = sweep(faces, detector, progress)
        draw_curves(figures["robustness"]).savefig(out / "robustness.png", dpi=110)
    figures["calibration"] = {k: v for k, v in asdict(calibration).items() if k != "real_logits"}
    (out / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    (out / "table.md").write_text(to_markdown(figures), encoding="utf-8")
    _write_scores(out / "scores.csv", scores, calibration)
    draw_figures(scores, calibration, figures).savefig(out / "figures.png", dpi=110)
    return figures, fitted, [(s.temperature, s.bias) for s in scales]


def _write_scores(path: Path, scores: Sequence[ClipScore], calibration: Calibration) -> None:
    """Write one line a clip."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "fake", "kind", "dataset", "group", "logit", "probability"])
        for score in scores:
            clip, probability = score.clip, to_probability(score.logit, calibration)
            writer.writerow([
                clip.path.name, int(clip.fake), clip.kind, clip.dataset, clip.group,
                round(score.logit, 4), round(probability, 4),
            ])  # fmt: skip


def as_clip(source: SourceScore) -> ClipScore:
    """Convert the score of a clip of a left-out source, to calibrate on it."""
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
    """Evaluate every detector on every data set.

    Args:
        folders: the data sets, as `evaluate` takes them; their names must differ.
        detectors: the detectors by name.
        out: the folder to write to: matrix.md, and a folder for each pair.
        settings: those of the scans.
        progress: called with the fraction done of each pair.
        robustness: also measure under a sweep of alterations.

    Returns:
        A Markdown matrix of video AUC.

    Raises:
        UserError: `bad_setting` if two folders have the same name; see `evaluate`.
    """
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        raise UserError("bad_setting", "The folders of a matrix need different names.")
    lines = [format_head("video AUC", *names)]
    for title, detector in detectors.items():
        cells = []
        for folder in folders:
            figures, *_ = evaluate(
                folder, detector, out / f"{title}-on-{folder.name}", settings, progress,
                robustness=robustness,
            )  # fmt: skip
            cells.append(format_interval(figures["auc"]))
        lines.append(format_row(title, *cells))
    table = "\n".join(lines) + "\n"
    (out / "matrix.md").write_text(table, encoding="utf-8")
    return table
