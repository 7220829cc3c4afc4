"""`evaluate`: measure detectors on labelled clips."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from detector.commands.console import Bar, print_json, print_stderr, print_stdout
from detector.commands.options import Options, add_setting
from detector.errors import UserError
from detector.records import Calibration


def set_up(parser: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
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
    from detector.scoring import Detector, Ensemble
    from detector.training.evaluate import evaluate, evaluate_all, to_markdown
    from detector.training.left_out import evaluate_left_out
    from detector.weights import load_detector, recalibrate, resolve_weights

    checkpoints = options.weights or [None]
    if options.calibrate and len(options.data) * len(checkpoints) > 1:
        raise UserError(
            "bad_setting", "--calibrate takes one --data folder and one --weights file."
        )
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
        detectors = {name: Ensemble.join(name, members)}
    if len(options.data) * len(detectors) > 1:
        if options.json:
            raise UserError("bad_setting", "--json takes one --data folder and one --weights file.")
        with Bar("evaluating") as progress:
            table = evaluate_all(
                options.data, detectors, options.out, progress=progress,
                robustness=options.robustness,
            )  # fmt: skip
        print_stdout(table)
        return 0
    (detector,) = detectors.values()
    checkpoint = resolve_weights(options.model, checkpoints[0]) if options.calibrate else None
    if options.calibrate:
        detector = uncalibrated(detector)
    others = []
    with Bar("evaluating") as progress:
        if options.left_out:
            path = checkpoints[0]
            training = resolve_weights(options.model, path).metadata.get("training", {})
            others = evaluate_left_out(
                options.left_out, detector, training.get("left_out", ()), options.out, progress
            )
        figures, fresh, scales = evaluate(
            options.data[0], detector, options.out, progress=progress,
            robustness=options.robustness, others=others,
        )  # fmt: skip
    if checkpoint is not None:
        recalibrate(checkpoint, options.calibrate, fresh, figures, scales)
    print_json(figures) if options.json else print_stdout(to_markdown(figures))
    if others:
        print_stderr((options.out / "sources.md").read_text(encoding="utf-8"))
    for line in figures["failed"]:
        print_stderr(f"Not scored: {line}")
    return 0


def uncalibrated(detector: Any) -> Any:
    """The detector without its calibration, so that a new one is fitted."""
    return replace(detector, calibration=Calibration(signs=detector.calibration.signs))
