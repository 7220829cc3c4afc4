"""`app`: Unmask in the browser."""

import argparse
import logging
import os
import sys

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
    """Serve the app until it is stopped; without --host and --share, to this machine alone."""
    from detector.uploads import private_folder

    logging.basicConfig(level=logging.WARNING)  # standard error is the server's log
    with private_folder():
        from detector.interface import launch

        launch(
            host=options.host, port=options.port, share=options.share,
            open_browser=not options.no_browser,
        )  # fmt: skip
    sys.stdout.flush()
    # At a normal exit the interpreter aborts if a thread of gradio is still computing a heatmap.
    os._exit(0)
