"""Knowledge distillation: learn a trained detector's probabilities besides the labels."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from detector.provenance import hash_file
from detector.settings import Progress, silent
from detector.training.datasets import Row
from detector.training.mixture import read_face
from detector.verdict import to_probability
from detector.weights import load_detector, write_atomically

TEACHER_SHARE = 0.4
"""Weight of the teacher's probability in a target; the rest is the label. Below one half, so that
every target stays on its label's side and class weights apply as without a teacher."""


def ask_teacher(
    teacher: Path,
    data: Path,
    rows: Sequence[Row],
    device: str = "cpu",
    progress: Progress = silent,
) -> dict[str, float]:
    """The teacher's probability of manipulation of each crop.

    Each is computed once: they are kept beside the index, in a file named after the teacher's hash.

    Args:
        teacher: the teacher's checkpoint.
        data: the folder of the index.
        rows: rows of the index.
        device: cpu, cuda or mps.
        progress: called with the fraction of crops done.
    """
    cache = data / f"teacher-{hash_file(teacher)[:12]}.csv"
    known: dict[str, float] = {}
    if cache.is_file():
        with cache.open(newline="", encoding="utf-8") as file:
            known = {row["crop"]: float(row["probability"]) for row in csv.DictReader(file)}
    missing = [row for row in rows if row.crop not in known]
    if missing:
        detector = load_detector(weights=teacher, device=device)
        size = 1 if detector.in_sequence else detector.batch  # each face is judged by itself
        for start in range(0, len(missing), size):
            progress("teacher", start / len(missing))
            asked = missing[start : start + size]
            logits = detector.score([read_face(data, row, detector.margin) for row in asked])
            for row, logit in zip(asked, logits, strict=True):
                known[row.crop] = round(to_probability(float(logit), detector.calibration), 4)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["crop", "probability"])
        writer.writerows(known.items())
        write_atomically(cache, text.getvalue().encode())
    return {row.crop: known[row.crop] for row in rows}


def soften(rows: Sequence[Row], probabilities: dict[str, float]) -> dict[str, float]:
    """The target of each crop: its label and the teacher's probability, weighted.

    Cross-entropy with such a target is the weighted sum of those with the label and with the
    teacher's probability (Hinton, Vinyals and Dean, 2015, at temperature 1).
    """
    return {
        row.crop: (1 - TEACHER_SHARE) * row.fake + TEACHER_SHARE * probabilities[row.crop]
        for row in rows
    }
