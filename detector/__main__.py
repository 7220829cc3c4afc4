"""The command line: `python -m detector`, or `unmask` when installed."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from detector import __version__
from detector.commands import app, evaluate, explain, prepare, scan, train, verify, weights
from detector.commands.console import print_stderr
from detector.errors import UserError, as_user_error

COMMANDS: dict[str, tuple[ModuleType, str]] = {
    "scan": (scan, "does a face in these clips show signs of manipulation?"),
    "explain": (explain, "where did the network look, and can one trust it?"),
    "app": (app, "open the app in the browser"),
    "verify": (verify, "does a report hold for this clip?"),
    "weights": (weights, "list, verify, download, convert, average, extend or push weights"),
    "prepare": (prepare, "cut the faces of a data set into an index"),
    "train": (train, "train a detector from real faces, or from labelled ones"),
    "evaluate": (evaluate, "measure a detector on labelled clips"),
}
USAGE_ERRORS = "bad_setting", "unknown_model", "unknown_method"  # their exit code is 2


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    called = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(
        prog="unmask" if called == "unmask" else "python -m detector", description="Unmask"
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="write errors of the program itself to this file"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (command, summary) in COMMANDS.items():
        command.set_up(commands.add_parser(name, help=summary, description=summary.capitalize()))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: those of the command line; None takes the program's own.

    Returns:
        The exit code: 0 if all went well, 1 if something failed, 2 for wrong usage, 130 if stopped
        by Ctrl-C.
    """
    options = build_parser().parse_args(arguments)
    try:
        if options.log:
            start_log(options.log)
        command, _ = COMMANDS[options.command]
        return int(command.run(options))
    except KeyboardInterrupt:
        print_stderr("Stopped.")
        return 130
    except BrokenPipeError:  # the reader, `head` for one, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001  a person is shown a sentence, not a traceback
        shown = as_user_error(error)
        print_stderr(f"{shown.message} [{shown.code}]")
        return 2 if shown.code in USAGE_ERRORS else 1


def start_log(path: Path) -> None:
    """Write warnings and errors, with tracebacks, to a file."""
    try:
        logging.basicConfig(filename=path, level=logging.WARNING, encoding="utf-8")
    except OSError as error:
        raise UserError(
            "no_permission", f"The log {path} cannot be written: {error.strerror}."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
