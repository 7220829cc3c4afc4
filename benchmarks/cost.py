"""What a scan costs in time and memory, from five seconds to an hour, from one person to twenty.

    python -m benchmarks.cost [--seconds N...] [--people N...]

The clips are made, 1080p. Memory is the most that this process and its decoder held at the same
time, pages that both use counted once; each case has a process of its own.
"""

import argparse
import multiprocessing
import time
from pathlib import Path

from benchmarks.footage import Footage, make
from benchmarks.memory import MostHeld
from benchmarks.profile import FOLDER, decode
from benchmarks.tables import print_head, print_row
from detector.pipeline import scan
from detector.weights import load_detector

SECONDS = (5, 10, 60, 600, 3600)
PEOPLE = (1, 2, 5, 20)
LONGEST_DECODED = 60  # seconds; bare decoding of longer clips is not measured


def measure(clip: Path) -> tuple[float, float, float, int, int]:
    """Seconds of loading and of the scan, MiB, people and faces found."""
    began = time.perf_counter()
    detector = load_detector()
    loaded = time.perf_counter()
    with MostHeld() as most:
        found = scan(clip, detector=detector)
        done = time.perf_counter()
    faces = sum(len(person.person.faces) for person in found.people)
    return loaded - began, done - loaded, most.mebibytes, len(found.people), faces


def main() -> None:
    """Print one line a case."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", nargs="*", type=int, default=SECONDS)
    parser.add_argument("--people", nargs="*", type=int, default=PEOPLE)
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    cases = [Footage(f"cost-{s}s", s, 1920, 1080) for s in options.seconds]
    cases += [Footage(f"cost-10s-{p}-people", 10, 1920, 1080, p) for p in options.people]
    print_head("clip", "bare decoding s", "loading s", "scan s", "MiB at most", "people", "faces")
    for case in cases:
        clip = make(case, FOLDER)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            loading, scanning, held, people, faces = pool.apply(measure, (clip,))
        bare = f"{decode(clip):.2f}" if case.seconds <= LONGEST_DECODED else "not measured"
        print_row(
            case.name, bare, f"{loading:.2f}", f"{scanning:.2f}", f"{held:.0f}",
            str(people), str(faces),
        )  # fmt: skip


if __name__ == "__main__":
    main()
