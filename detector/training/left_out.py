"""Figures on data sets that were left out of training, source by source, the worst first.

A single pooled figure would hide which generators are missed. Each kind of fake of each data set is
compared with the genuine clips of all left-out data sets.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detector.errors import UserError
from detector.records import SIGNS
from detector.scoring import Detector, Ensemble
from detector.settings import Progress, silent
from detector.training import metrics
from detector.training.datasets import read_index
from detector.training.mixture import REAL, SIGN_OF, crop_face
from detector.training.sequence import group_videos
from detector.training.tables import format_head, format_interval, format_row
from detector.verdict import strongest_sign

ALARM_RATE = 0.05  # false alarm rate at which caught fakes are counted


@dataclass(frozen=True)
class SourceScore:
    """A clip of a left-out data set with its faces' logits."""

    dataset: str
    kind: str
    group: str
    video: str
    logits: np.ndarray = field(repr=False, compare=False)
    """(n, signs)."""

    @property
    def logit(self) -> float:
        """The clip's logit: the largest median over the signs."""
        return float(np.median(strongest_sign(self.logits)))


def score_sources(
    folder: Path,
    detector: Detector | Ensemble,
    datasets: Sequence[str],
    progress: Progress = silent,
) -> list[SourceScore]:
    """Score the clips of some data sets of an index.

    Args:
        folder: holds `index.csv` and the crops.
        detector: the detector.
        datasets: the data sets' names.
        progress: called with the fraction of clips done.

    Raises:
        UserError: `no_data` if no data set is named, or one is not in the index; `one_class`.
    """
    if not datasets:
        raise UserError("no_data", "The checkpoint names no data set that it did not learn from.")
    rows = [row for row in read_index(folder / "index.csv") if row.dataset in set(datasets)]
    rows = [row for row in rows if row.kind in (REAL, *SIGN_OF)]
    missing = sorted(set(datasets) - {row.dataset for row in rows})
    if missing:
        raise UserError("no_data", f"{folder} holds no labelled faces of {', '.join(missing)}.")
    if len({row.kind == REAL for row in rows}) < 2:
        raise UserError("one_class", "The data sets that are left out hold one class only.")
    scores = []
    videos = group_videos(rows)
    for number, video in enumerate(videos):
        progress("clips", number / len(videos))
        crops = [crop_face(folder, row, detector.margin) for row in video]
        first = video[0]
        logits = detector.score_signs(crops, mirror=False)
        scores.append(SourceScore(first.dataset, first.kind, first.group, first.video, logits))
    return scores


def table_of(scores: Sequence[SourceScore]) -> dict[str, Any]:
    """Figures over all fakes, for each sign, and for each source."""
    logits = np.array([s.logit for s in scores])
    real = np.array([s.kind == REAL for s in scores])
    groups = np.array([f"{s.dataset}/{s.group}" for s in scores])
    threshold = float(np.quantile(logits[real], 1 - ALARM_RATE))
    fakes: dict[str, np.ndarray] = {"all fakes": ~real}  # of each row of the table
    for number, sign in enumerate(SIGNS):
        fakes[sign] = np.array([SIGN_OF.get(s.kind) == number + 1 for s in scores])
    for dataset, kind in sorted({(s.dataset, s.kind) for s in scores if s.kind != REAL}):
        fakes[f"{dataset}, {kind}"] = np.array(
            [(s.dataset, s.kind) == (dataset, kind) for s in scores]
        )
    rows = {}
    for name, fake in fakes.items():
        if not fake.any():
            continue
        chosen = fake | real
        low, high = metrics.bootstrap(
            groups[chosen], metrics.auc, fake[chosen], logits[chosen], rounds=200
        )
        caught = int((logits[fake] > threshold).sum())
        rows[name] = {
            "clips": int(fake.sum()),
            "auc": [round(v, 3) for v in (metrics.auc(fake[chosen], logits[chosen]), low, high)],
            "caught": caught,
            "caught_interval": [round(v, 3) for v in metrics.wilson(caught, int(fake.sum()))],
        }
    return {"genuine clips": int(real.sum()), "threshold": round(threshold, 3), "sources": rows}


def to_markdown(table: dict[str, Any]) -> str:
    """The table as Markdown: totals first, then the sources by rising AUC."""
    totals = ["all fakes", *SIGNS]
    rows = table["sources"]
    names = [n for n in totals if n in rows]
    names += sorted((n for n in rows if n not in totals), key=lambda n: rows[n]["auc"][0])
    lines = [
        f"Against {table['genuine clips']} genuine clips; caught at {ALARM_RATE:.0%} false alarms.",
        "",
        format_head("source", "clips", "AUC (95 % interval)", "caught"),
    ]
    for name in names:
        row = rows[name]
        low, high = row["caught_interval"]
        caught = f"{row['caught']} ({low:.0%} to {high:.0%})"
        lines.append(format_row(name, str(row["clips"]), format_interval(row["auc"]), caught))
    return "\n".join(lines) + "\n"


def evaluate_left_out(
    folder: Path,
    detector: Detector | Ensemble,
    datasets: Sequence[str],
    out: Path,
    progress: Progress = silent,
) -> list[SourceScore]:
    """Score the clips of left-out data sets; write sources.json, sources.md and predictions.csv.

    Args:
        folder: holds `index.csv` and the crops.
        detector: the detector.
        datasets: the data sets that its training left out.
        out: the folder to write to.
        progress: called with the fraction of clips done.

    Raises:
        UserError: as `score_sources`.
    """
    scores = score_sources(folder, detector, datasets, progress)
    table = table_of(scores)
    out.mkdir(parents=True, exist_ok=True)
    (out / "sources.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    (out / "sources.md").write_text(to_markdown(table), encoding="utf-8")
    write_predictions(out / "predictions.csv", scores)
    return scores


def write_predictions(path: Path, scores: Sequence[SourceScore]) -> None:
    """Write one line a clip, from which all figures of the table can be computed."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["dataset", "kind", "clip", "faces", *SIGNS])
        for s in scores:
            medians = np.median(s.logits, axis=0)
            writer.writerow(
                [s.dataset, s.kind, s.video, len(s.logits), *(round(float(m), 3) for m in medians)]
            )
