"""What decoding behind the fence costs, and whether memory comes back after large clips.

    python -m benchmarks.fence cost [--rounds N] [--only NAME...]
    python -m benchmarks.fence memory [--seconds N]

`cost` scans each clip in turn behind the fence and in this process; the ratios are of one run, so
other work on the machine weighs on both alike, and of processor time it weighs least. It also says
how soon after a crash the next clip is read. `memory` scans a 4K clip, one of eight people and a
long one, and says after each what this process and its decoders hold.
"""

import argparse
import gc
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.footage import FIVE_KINDS, Footage, make
from benchmarks.memory import memory_of
from benchmarks.profile import FOLDER
from benchmarks.tables import print_head, print_row
from detector import fence, pipeline
from detector.decoder import THUMBNAIL
from detector.errors import UserError
from detector.keyframes import Choice, choose_frames
from detector.provenance import read_provenance
from detector.records import Curve, KeyFrame, Provenance, VideoInfo
from detector.scoring import Scorer
from detector.settings import Progress, Settings, silent
from detector.video import Clip
from detector.weights import load_detector

SMALL = Footage("480p-10s", 10, 854, 480)
LARGE = (
    Footage("2160p-10s", 10, 3840, 2160),
    Footage("cost-10s-8-people", 10, 1920, 1080, 8),
)


@dataclass
class Unfenced:
    """What a look gives, decoded in this process."""

    clip: Clip
    choice: Choice

    @property
    def video(self) -> VideoInfo:
        """What the clip is."""
        return self.clip.info

    @property
    def curve(self) -> Curve:
        """Its differences."""
        return self.choice.curve

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is said of it."""
        return tuple(self.clip.warnings)

    @property
    def frames(self) -> list[object]:
        """Its key frames."""
        return list(self.choice.frames)

    def thumbnails(self) -> Iterator[KeyFrame]:
        """The key frames, small."""
        return self.choice.key_frames(THUMBNAIL)

    def key_frames(self) -> Iterator[KeyFrame]:
        """The key frames."""
        return self.choice.key_frames()

    def provenance(self) -> Provenance:
        """What the file says of itself."""
        return read_provenance(self.clip.file, self.clip.metadata)


@contextmanager
def open_unfenced(
    path: Path, settings: Settings, progress: Progress = silent
) -> Iterator[Unfenced]:
    """What `fence.open_clip` does, without the fence."""
    clip = Clip(path, settings)
    choice = choose_frames(clip, count=settings.key_frames, again=lambda: Clip(path, settings))
    yield Unfenced(clip, choice)


def used() -> float:
    """Processor time of this process and of the decoder that waits (Linux), in seconds."""
    ticks = 0
    for decoder in fence.decoder_pool()._idle:
        told = Path(f"/proc/{decoder._process.pid}/stat").read_text(encoding="utf-8")
        ticks += sum(int(number) for number in told.rpartition(")")[2].split()[11:13])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def compare(clip: Path, detector: Scorer, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and processor time of a scan behind the fence, and without: medians, in turn."""
    spent: dict[object, list[tuple[float, float]]] = {pipeline.open_clip: [], open_unfenced: []}
    fenced = pipeline.open_clip
    try:
        for number in range(2 * rounds):
            ways = (fenced, open_unfenced) if number // 2 % 2 else (open_unfenced, fenced)
            way = ways[number % 2]
            pipeline.open_clip = way  # type: ignore[assignment]
            began, before = time.perf_counter(), used()
            pipeline.scan(clip, detector=detector)
            spent[way].append((time.perf_counter() - began, used() - before))
    finally:
        pipeline.open_clip = fenced
    return np.median(spent[fenced], axis=0), np.median(spent[open_unfenced], axis=0)


def choosing(clip: Path) -> float:
    """Seconds until a warm decoder has chosen a clip's key frames."""
    began = time.perf_counter()
    with fence.open_clip(clip, Settings(key_frames=4)):
        return time.perf_counter() - began


def recover(clip: Path) -> float:
    """Seconds from a decoder's crash until the key frames of the next clip are chosen."""
    with suppress(UserError), fence.open_clip(clip, Settings(key_frames=4)) as seen:
        next(seen.thumbnails())
        began = time.perf_counter()
        os.kill(seen.decoder._process.pid, signal.SIGKILL)
        list(seen.key_frames())
    with fence.open_clip(clip, Settings(key_frames=4)):
        return time.perf_counter() - began


def print_cost(detector: Scorer, rounds: int, names: list[str]) -> None:
    """One line a clip."""
    print_head("clip", "behind the fence, s", "without, s", "ratio", "of processor time")
    for clip in [make(f, FOLDER) for f in FIVE_KINDS if f.name in names]:
        fenced, bare = compare(clip, detector, rounds)
        ratio, share = fenced / bare
        print_row(clip.stem, f"{fenced[0]:.2f}", f"{bare[0]:.2f}", f"{ratio:.3f}", f"{share:.3f}")
    small = make(SMALL, FOLDER)
    print(f"\nThe next clip after a crash: {recover(small):.2f} s, of which without one "
          f"{choosing(small):.2f} s.")  # fmt: skip


def print_memory(detector: Scorer, seconds: int) -> None:
    """One line a clip, the small one first and last."""
    print_head("after", "held, MiB")
    for footage in (SMALL, *LARGE, Footage(f"cost-{seconds}s", seconds, 1920, 1080), SMALL):
        pipeline.scan(make(footage, FOLDER), detector=detector)
        gc.collect()
        print_row(footage.name, f"{memory_of():.0f}")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("cost", "memory"))
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--only", nargs="*", default=["720p-10s", "1080p-10s"], metavar="NAME")
    parser.add_argument("--seconds", type=int, default=7200, metavar="N", help="the long clip's")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    detector = load_detector()
    pipeline.scan(make(SMALL, FOLDER), Settings(key_frames=4), detector=detector)  # warm up
    if options.what == "cost":
        print_cost(detector, options.rounds, options.only)
    else:
        print_memory(detector, options.seconds)


if __name__ == "__main__":
    main()
