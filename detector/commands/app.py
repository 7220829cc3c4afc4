"""`app`: Unmask in the browser."""

import argparse
import logging
import os
import signal
import sys

from detector.commands.console import print_stderr
from detector.commands.options import Options


def set_up(parser: argparse.ArgumentParser) -> None:
    """Add the options of `app`."""
    parser.add_argument("--port", type=int, help="7860 or the next free one by default")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS",
        help="address to bind to; 0.0.0.0 serves the whole network (default: 127.0.0.1)",
    )  # fmt: skip
    parser.add_argument("--share", action="store_true", help="make a public link, through Gradio")
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")


def run(options: Options) -> int:
    """Serve the app until it is stopped; without --host and --share, to this machine alone.

    It does not return: at a normal exit the interpreter would abort if a thread of the server is
    still computing a heatmap.

    Raises:
        UserError, OSError: the server could not be started.
    """
    from detector.uploads import private_folder

    logging.basicConfig(level=logging.WARNING)  # standard error is the server's log
    code = 0
    try:
        with private_folder():
            from detector.interface import launch

            launch(
                host=options.host, port=options.port, share=options.share,
                open_browser=not options.no_browser,
            )  # fmt: skip
    except KeyboardInterrupt:  # before the server has started, or again while it closes
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print_stderr("Stopped.")
        code = 130
    sys.stdout.flush()
    os._exit(code)
