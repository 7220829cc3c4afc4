"""The Space's and the desktop's entry point: build the interface, launch it."""

import argparse
import logging
import os
import sys

from detector.uploads import private_folder


def main() -> None:
    """Open the app in the browser, bound to this machine alone unless told otherwise."""
    parser = argparse.ArgumentParser(description="Unmask in the browser")
    parser.add_argument("--port", type=int, help="7860 or the next free one by default")
    parser.add_argument("--share", action="store_true", help="make a public link, through Gradio")
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)  # standard error is the server's log
    with private_folder():
        from detector.interface import launch

        launch(port=options.port, share=options.share, open_browser=not options.no_browser)
    sys.stdout.flush()
    os._exit(0)  # an orderly end aborts where a thread of gradio's is amid a map


if __name__ == "__main__":
    main()
