"""`scan`: judge clips."""

import argparse
from pathlib import Path

from detector.commands.console import Bar, print_json, print_stdout
from detector.commands.options import Options, add_model_options, add_ray, add_setting
from detector.errors import UserError
from detector.settings import Settings


def set_up(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scan`."""
    parser.add_argument("clips", nargs="+", metavar="FILE_OR_FOLDER")
    parser.add_argument(
        "--jsonl", choices=["-"], help="print one JSON object for each file, and nothing else"
    )
    parser.add_argument(
        "--report", metavar="DIR", type=Path, help="write the reports to this folder"
    )
    add_model_options(parser)
    add_setting(parser, "key_frames", type=int, metavar="N")
    add_setting(parser, "frames", choices=("some", "all"))
    add_setting(parser, "explain", metavar="METHOD")
    add_ray(parser)


def run(options: Options) -> int:
    """Scan files and print each report; a bad file never stops the rest."""
    settings = Settings(
        model=options.model,
        weights=options.weights,
        device=options.device,
        key_frames=options.key_frames,
        frames=options.frames,
        explain=None if options.explain == "none" else options.explain,
    )
    if settings.explain:
        from detector.heatmaps import check_method

        check_method(settings.explain)
        if options.report is None:
            raise UserError(
                "bad_setting", "--explain needs --report DIR, where the maps are written."
            )
    with Bar("") as progress:
        progress("loading", 0.0)
        if not options.ray:
            from detector.fence import decoder_pool

            decoder_pool().warm_up()  # it loads its libraries while this process loads torch
        from detector.archive import scan_files
        from detector.report import to_text

    failed = 0
    for report in scan_files(
        options.clips, settings, folder=options.report, ray=options.ray, show_progress=Bar
    ):
        failed += "error" in report
        print_json(report) if options.jsonl else print_stdout(to_text(report))
    return 1 if failed else 0
