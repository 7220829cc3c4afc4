"""How fast a folder of clips is scanned: on one core, on two, and by Ray on two.

    python -m benchmarks.archives CLIPS [--every N]

CLIPS is searched with its subfolders; every N-th clip is scanned. Each way is the command
`scan FOLDER` in a process of its own, start included, and must give the same reports.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.tables import print_head, print_row
from detector.archive import find_clips

TOLERANCE = 1e-3  # of probabilities
WAYS: tuple[tuple[str, int, list[str]], ...] = (
    ("one core", 1, []),
    ("two cores, a process each", 2, []),
    ("two cores, Ray", 2, ["--ray"]),
)


def link_every(clips: Path, out: Path, every: int) -> int:
    """Link every N-th clip of a folder into a new folder; returns how many there are."""
    chosen = [path for path, error in find_clips(str(clips)) if error is None][::every]
    for number, path in enumerate(chosen):
        (out / f"{number:03d}{path.suffix}").symlink_to(path.resolve())
    return len(chosen)


def scan_folder(folder: Path, cores: int, options: list[str]) -> dict[str, tuple[str, float]]:
    """The label and probability of each clip, scanned by a command on so many cores."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    command = [sys.executable, "-m", "detector", "scan", str(folder), "--jsonl", "-", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )  # fmt: skip
    if not done.stdout:
        raise SystemExit(done.stderr[-3000:])
    found = {}
    for line in done.stdout.splitlines():
        report = json.loads(line)
        found[report["file"]] = report.get("verdict", ""), report.get("probability") or 0.0
    return found


def are_alike(first: dict[str, tuple[str, float]], second: dict[str, tuple[str, float]]) -> bool:
    """Whether two scans gave the same labels, and probabilities within the tolerance."""
    return first.keys() == second.keys() and all(
        label == second[name][0] and abs(probability - second[name][1]) <= TOLERANCE
        for name, (label, probability) in first.items()
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("--every", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        count = link_every(options.clips, folder, options.every)
        print_head("way", "clips", "seconds", "clips a minute", "same reports")
        first: dict[str, tuple[str, float]] = {}
        for name, cores, extra in WAYS:
            began = time.perf_counter()
            found = scan_folder(folder, cores, extra)
            seconds = time.perf_counter() - began
            first = first or found
            alike = "yes" if are_alike(first, found) else "no"
            print_row(name, str(count), f"{seconds:.0f}", f"{60 * count / seconds:.1f}", alike)


if __name__ == "__main__":
    main()
