"""`verify`: scan a clip again and compare with a report."""

import argparse
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from detector.commands.console import Bar, print_stdout
from detector.commands.options import Options, setting_help
from detector.errors import printable
from detector.settings import Settings


def set_up(parser: argparse.ArgumentParser) -> None:
    """Add the options of `verify`."""
    parser.add_argument(
        "report", type=Path, metavar="REPORT", help="the JSON or the page of a report"
    )
    parser.add_argument("clip", type=Path)
    parser.add_argument("--weights", metavar="PATH", help=setting_help("weights"))


def run(options: Options) -> int:
    """Scan a clip again with a report's settings, and compare the report and its page."""
    from detector.archive import verify
    from detector.report import read_report

    report = read_report(options.report)
    settings = stored_settings(report["settings"], options.weights)
    page = options.report.with_suffix(".html")
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else None
    with Bar(options.clip.name) as progress:
        differences = verify(report, options.clip, settings, text, progress)
    for difference in differences:
        print_stdout(f"Differs: {printable(difference)}.")
    if not differences:
        print_stdout("The report is confirmed: same clip, same weights, same answer.")
    return 1 if differences else 0


def stored_settings(stored: dict[str, Any], weights: str | None) -> Settings:
    """The settings of a report.

    Its limits (`max_…`) may only be stricter than the defaults: a report from a stranger must not
    make this machine decode more than usual.

    Args:
        stored: the settings as the report holds them.
        weights: a checkpoint file to use in place of the report's.

    Raises:
        UserError: `bad_setting` for a value that cannot be.
    """
    defaults = Settings()
    chosen = {f.name: stored[f.name] for f in fields(Settings) if f.name in stored}
    if weights:
        chosen["weights"] = weights
    settings = Settings(**chosen)
    return replace(
        settings,
        **{
            f.name: min(getattr(settings, f.name), getattr(defaults, f.name))
            for f in fields(Settings)
            if f.name.startswith("max_")
        },
    )
