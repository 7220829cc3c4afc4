"""What the commands print: progress bars, lines for people, JSON for programs."""

import json
import sys
from typing import Any

from tqdm import tqdm

from detector.settings import Progress


class Bar:
    """Progress on standard error: a bar on a terminal, nothing if it is no terminal."""

    def __init__(self, title: str) -> None:
        self.bar = tqdm(
            total=100, desc=title[:40], leave=False, file=sys.stderr, disable=None,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix}",
        )  # fmt: skip

    def __call__(self, stage: str, fraction: float) -> None:
        """Show the stage and its fraction."""
        self.bar.set_postfix_str(stage, refresh=False)
        self.bar.n = round(100 * fraction)
        self.bar.refresh()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def print_stderr(text: str) -> None:
    """Print to standard error, above a progress bar if there is one."""
    tqdm.write(text, file=sys.stderr)


def print_stdout(text: str) -> None:
    """Print to standard output; characters that its encoding lacks are escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def print_json(value: Any) -> None:
    """Print one JSON object as one line on standard output."""
    print_stdout(json.dumps(value, ensure_ascii=False))
