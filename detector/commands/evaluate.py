"""`evaluate`: measure detectors on labelled clips."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from detector.commands.console import Bar, print_json, print_stderr, print_stdout
from detector.commands.options import Options, add_setting
from detector.errors import UserError
from detector.records import Calibration

if TYPE_CHECKING:
    from detector.scoring import Detector, Ensemble


def set_up(parser: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate`."""
    add_setting(parser, "model", metavar="NAME")
    parser.add_argument(
        "--weights",
        nargs="+",
        metavar="PATH",
        help="checkpoint files to use in place of the catalogue's",
    )
    parser.add_argument(
        "--together", action="store_true", help="measure the checkpoints as one ensemble"
    )
    add_setting(parser, "device", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="DIR",
        help="a folder of clips in real/ and fake/, optionally with a manifest.tsv, or an index "
        "that `prepare` made; several folders or checkpoints give a matrix",
    )  # fmt: skip
    parser.add_argument(
        "--robustness", action="store_true",
        help="also measure on faces that are encoded, downscaled, blurred, made noisy or darker",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", choices=["-"], help="print the figures as one JSON object")
    parser.add_argument(
        "--calibrate", type=Path, metavar="FILE",
        help="write the checkpoint to this file, calibrated on these clips",
    )  # fmt: skip
    parser.add_argument(
        "--left-out", type=Path, metavar="DIR",
        help="an index of labelled sources: also measure those that the checkpoint was not trained "
        "on, source by source; with --calibrate they are used as well",
    )  # fmt: skip


def run(options: Options) -> int:
    """Measure, and optionally calibrate, detectors on labelled clips."""
    checkpoints = options.weights or [None]
    if options.calibrate and len(options.data) * len(checkpoints) > 1:
        raise UserError(
            "bad_setting", "--calibrate takes one --data folder and one --weights file."
        )
    detectors = _load_detectors(options, checkpoints)
    if len(options.data) * len(detectors) > 1:
        return _evaluate_all(options, detectors)
    (detector,) = detectors.values()
    return _evaluate_one(options, detector, checkpoints[0])


def _load_detectors(
    options: Options, checkpoints: list[str | None]
) -> dict[str, "Detector | Ensemble"]:
    """The detectors to measure, by name."""
    from detector.scoring import Detector, Ensemble
    from detector.weights import load_detector

    if options.together and len(checkpoints) < 2:
        raise UserError("bad_setting", "--together needs at least two checkpoints: --weights A B.")
    detectors = {
        Path(path).stem if path else options.model: load_detector(
            options.model, weights=path, device=options.device
        )
        for path in checkpoints
    }
    if len(detectors) < len(checkpoints):
        raise UserError("bad_setting", "The checkpoints of a matrix need different names.")
    if options.together:
        members = [d for d in detectors.values() if isinstance(d, Detector)]
        name = "+".join(detectors)
        return {name: Ensemble.join(name, members)}
    return detectors


def _evaluate_all(options: Options, detectors: dict[str, "Detector | Ensemble"]) -> int:
    """Measure every detector on every data set, and print a matrix."""
    from detector.training.evaluate import evaluate_all

    if options.json:
        raise UserError("bad_setting", "--json takes one --data folder and one --weights file.")
    with Bar("evaluating") as progress:
        matrix = evaluate_all(
            options.data, detectors, options.out, progress=progress, robustness=options.robustness
        )
    print_stdout(matrix)
    return 0


def _evaluate_one(options: Options, detector: "Detector | Ensemble", path: str | None) -> int:
    """Measure one detector on one data set, write its calibration if asked to, print the figures.

    `path` is the detector's checkpoint; None if it is the catalogue's.
    """
    from detector.training.evaluate import evaluate
    from detector.training.figures import to_markdown
    from detector.training.left_out import evaluate_left_out
    from detector.weights import recalibrate, resolve_weights

    needs_checkpoint = options.calibrate or options.left_out
    checkpoint = resolve_weights(options.model, path) if needs_checkpoint else None
    if options.calibrate:
        # Without a calibration, so that the figures are those of the new one.
        detector = replace(detector, calibration=Calibration(signs=detector.calibration.signs))
    left_out = []
    with Bar("evaluating") as progress:
        if options.left_out and checkpoint:
            datasets = checkpoint.metadata.get("training", {}).get("left_out", ())
            left_out = evaluate_left_out(
                options.left_out, detector, datasets, options.out, progress
            )
        figures, calibration, scales = evaluate(
            options.data[0], detector, options.out, progress=progress,
            robustness=options.robustness, others=left_out,
        )  # fmt: skip
    if options.calibrate and checkpoint:
        recalibrate(checkpoint, options.calibrate, calibration, figures, scales)
    print_json(figures) if options.json else print_stdout(to_markdown(figures))
    if left_out:
        print_stderr((options.out / "sources.md").read_text(encoding="utf-8"))
    for line in figures["failed"]:
        print_stderr(f"Not scored: {line}")
    return 0
