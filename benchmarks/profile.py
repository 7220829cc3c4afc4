"""Where the time of a scan goes, stage by stage, on five kinds of clip.

    python -m benchmarks.profile [--rounds N] [--key-frames N] [--only NAME...] [--busy]
        [CLIP ...]

Without clips, five are made. Seconds are wall-clock, medians of the rounds; `bare` is the decoding
of every frame by PyAV with threads, and nothing else. With `--busy`, a second pass is made while
another process keeps one core at work.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

from benchmarks.footage import FIVE_KINDS, make
from benchmarks.tables import print_head, print_row
from detector.pipeline import scan
from detector.scoring import Scorer
from detector.settings import Settings
from detector.weights import load_detector

FOLDER = Path(tempfile.gettempdir()) / "unmask-benchmarks"


def decode(path: Path) -> float:
    """Seconds to decode every frame and do nothing with it."""
    began = time.perf_counter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for _ in container.decode(stream):
            pass
    return time.perf_counter() - began


def _spin() -> None:
    while True:
        np.sqrt(np.arange(100_000.0))


@contextmanager
def busy_core() -> Iterator[None]:
    """Another process that keeps one core at work."""
    process = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def measure(path: Path, settings: Settings, detector: Scorer, rounds: int) -> dict[str, float]:
    """Medians of a scan's stages, in seconds, and what they are to be held against."""
    rows = []
    for _ in range(rounds):
        bare = decode(path)
        used = time.process_time()
        found = scan(path, settings, detector=detector)
        row = {"bare": bare, **found.timings, "cpu": time.process_time() - used}
        row["frames"] = found.video.frames or 0
        row["key frames"] = len(found.key_frames)
        row["found"] = sum(len(p.person.faces) for p in found.people)
        rows.append(row)
    return {name: float(np.median([row[name] for row in rows])) for name in rows[0]}


def print_table(clips: list[Path], settings: Settings, detector: Scorer, rounds: int) -> None:
    """One line a clip."""
    print_head(
        "clip", "frames", "bare s", "key frames s", "faces s (ms a key frame; found)", "scores s",
        "all s", "CPU s", "all / bare",
    )  # fmt: skip
    for clip in clips:
        row = measure(clip, settings, detector, rounds)
        each = 1000 * row["faces"] / max(1, row["key frames"])
        print_row(
            clip.stem, f"{row['frames']:.0f}", f"{row['bare']:.2f}", f"{row['decode']:.2f}",
            f"{row['faces']:.2f} ({each:.0f}; {row['found']:.0f})", f"{row['scores']:.2f}",
            f"{row['total']:.2f}", f"{row['cpu']:.2f}", f"{row['total'] / row['bare']:.2f}",
        )  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--only", nargs="*", default=[f.name for f in FIVE_KINDS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--key-frames", type=int, default=32)
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    clips = options.clips or [make(f, FOLDER) for f in FIVE_KINDS if f.name in options.only]
    settings = Settings(key_frames=options.key_frames)
    began = time.perf_counter()
    detector = load_detector()
    print(f"Loading the detector: {time.perf_counter() - began:.2f} s\n")
    scan(clips[0], Settings(key_frames=4), detector=detector)  # warm up
    print_table(clips, settings, detector, options.rounds)
    if options.busy:
        print("\nWith another process on one core:\n")
        with busy_core():
            print_table(clips, settings, detector, options.rounds)


if __name__ == "__main__":
    main()
