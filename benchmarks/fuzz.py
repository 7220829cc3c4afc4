"""Scan damaged files of every kind: each must give a result or an error with a code.

    python -m benchmarks.fuzz [--each N] [--kinds mp4 png ...] [--seed S] [--record FILE]

Prints a table. Fails if this process crashes, if a scan takes too long, if an error has no code or
one that is not about files, if files are left behind, or if memory grows.

With `--record`, each portion of files is recorded when it is done, and a run that was interrupted
continues after the last. The table counts all that the record holds.
"""

import argparse
import gc
import io
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pillow_heif

from benchmarks.memory import memory_of
from benchmarks.tables import print_head, print_row
from detector.errors import UserError
from detector.pipeline import scan
from detector.scoring import Scorer
from detector.settings import Settings
from detector.weights import load_detector

pillow_heif.register_heif_opener()

CODECS = {
    "mp4": "libx264", "mov": "libx264", "mkv": "libx264", "webm": "libvpx-vp9", "avi": "mpeg4",
    "gif": "gif", "mpg": "mpeg2video", "ts": "mpeg2video",
}  # fmt: skip
PICTURES = ("jpg", "png", "webp", "heic", "avif", "bmp", "tiff")
KINDS = (*CODECS, *PICTURES)
DECODE_LIMIT = 10.0  # seconds; a damaged file of this size takes a small part of one second
SCAN_LIMIT = 3 * DECODE_LIMIT  # seconds that a scan may take
PORTION = 100  # files after which the record is written
GROWTH_LIMIT = 1.1  # memory after any portion, relative to that after the first
FILE_CODES = {
    "unreadable_video", "no_video_stream", "no_frames", "frame_too_large", "decode_timeout",
    "empty_file",
}  # fmt: skip
"""The codes that a damaged file may get."""


def make_picture(seed: int, width: int = 96, height: int = 72) -> np.ndarray:
    """A random picture with structure."""
    rng = np.random.default_rng(seed)
    small = PIL.Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    return np.asarray(small.resize((width, height), PIL.Image.Resampling.BICUBIC))


def make_file(kind: str, frames: int = 12) -> bytes:
    """An undamaged file of a kind."""
    buffer = io.BytesIO()
    if kind in PICTURES:
        names = {"jpg": "JPEG", "heic": "HEIF"}
        PIL.Image.fromarray(make_picture(1)).save(buffer, names.get(kind, kind.upper()))
        return buffer.getvalue()
    formats = {"mkv": "matroska", "mpg": "mpeg", "ts": "mpegts"}
    with av.open(buffer, "w", format=formats.get(kind, kind)) as container:
        stream = container.add_stream(CODECS[kind], rate=25)
        stream.width, stream.height = 96, 72
        stream.pix_fmt = "rgb8" if kind == "gif" else "yuv420p"
        for seed in range(frames):
            frame = av.VideoFrame.from_ndarray(make_picture(seed // 3), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one way, more often near its beginning, where sizes and counts are."""
    mutant = bytearray(data)
    head = int(rng.choice([64, 512, 4096, len(data)]))
    start = int(rng.integers(min(head, len(data))))
    damage = rng.integers(6)
    if damage == 0:  # change single bytes
        for position in rng.integers(0, min(head, len(data)), int(rng.integers(1, 20))):
            mutant[position] = rng.integers(256)
    elif damage == 1:  # cut off the end
        del mutant[max(1, start) :]
    elif damage == 2:  # write an extreme size or count
        values = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, int(rng.integers(2**32)))
        value = values[int(rng.integers(len(values)))]
        mutant[start : start + 4] = value.to_bytes(4, "big" if rng.integers(2) else "little")
    elif damage == 3:  # replace a part by zeros, of another length
        mutant[start : start + int(rng.integers(1, 400))] = bytes(int(rng.integers(1, 400)))
    elif damage == 4:  # repeat a part
        mutant[start:start] = mutant[start : start + int(rng.integers(1, 2000))]
    else:  # overwrite a part with another
        other = int(rng.integers(len(data)))
        length = int(rng.integers(1, 64))
        mutant[start : start + length] = data[other : other + length]
    return bytes(mutant) or b"\0"


@dataclass
class Tally:
    """The results of a portion of files of one kind."""

    kind: str
    seed: int
    first: int
    """The number of the first file; they are numbered from 0."""
    count: int
    answers: Counter[str] = field(default_factory=Counter)
    """How many files gave each code; `scanned` for those that gave a result."""
    slowest: float = 0.0
    """Seconds of the slowest scan."""
    memory: float = 0.0
    """Held after the last file, MiB."""
    wrong: list[str] = field(default_factory=list)
    """A line for each failure."""

    def add(self, other: "Tally") -> None:
        """Count a later portion of the same kind as well."""
        self.count += other.count
        self.answers.update(other.answers)
        self.slowest = max(self.slowest, other.slowest)
        self.memory = other.memory
        self.wrong += other.wrong


def scan_damaged(tally: Tally, undamaged: bytes, detector: Scorer, folder: Path) -> None:
    """Scan damaged copies of a file, and count the results in `tally`."""
    path = folder / f"file.{tally.kind}"
    settings = Settings(key_frames=2, max_decode_time=DECODE_LIMIT)
    for number in range(tally.first, tally.first + tally.count):
        path.write_bytes(mutate(undamaged, np.random.default_rng([tally.seed, number])))
        name = f"{tally.kind} {tally.seed} {number}"
        began = time.monotonic()
        try:
            scan(path, settings, detector=detector)
            answer = "scanned"
        except UserError as error:
            answer = error.code
            if error.code not in FILE_CODES:
                tally.wrong.append(f"{name}: {error.code}")
        except Exception as error:  # noqa: BLE001  this command searches for such errors
            answer = "crash"
            tally.wrong.append(f"{name}: {error!r}")
        tally.answers[answer] += 1
        seconds = time.monotonic() - began
        tally.slowest = max(tally.slowest, seconds)
        if seconds > SCAN_LIMIT:
            tally.wrong.append(f"{name}: {seconds:.0f} s")
    path.unlink()
    tally.wrong += [f"{tally.kind}: {p.name} left behind" for p in folder.iterdir()]


def measure_memory() -> float:
    """The memory that this process and the decoders hold now, in MiB."""
    gc.collect()
    return memory_of()


def run(wanted: list[Tally]) -> Iterator[Tally]:
    """Fill and yield each tally in turn."""
    if not wanted:
        return
    detector = load_detector("default", device="cpu")
    undamaged = {kind: make_file(kind) for kind in {tally.kind for tally in wanted}}
    first_memory = 0.0
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        for tally in wanted:
            scan_damaged(tally, undamaged[tally.kind], detector, Path(folder))
            tally.memory = measure_memory()
            first_memory = first_memory or tally.memory
            if tally.memory > GROWTH_LIMIT * first_memory:
                tally.wrong.append(
                    f"{tally.kind}: {first_memory:.0f} MiB became {tally.memory:.0f}"
                )
            yield tally
        tempfile.tempdir = None


def portions(kinds: list[str], each: int, seed: int) -> list[Tally]:
    """Empty tallies for all files: a portion of every kind, then the next of every kind."""
    return [
        Tally(kind, seed, first, min(PORTION, each - first))
        for first in range(0, each, PORTION)
        for kind in kinds
    ]


def read_record(path: Path) -> list[Tally]:
    """Read the tallies of a record; a line that was not written to its end is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        found.append(Tally(**{**values, "answers": Counter(values["answers"])}))
    return found


def print_table(done: list[Tally]) -> None:
    """Print a row for each kind."""
    codes = ["scanned", *sorted(FILE_CODES - {"empty_file"})]
    print_head("file", "damaged files", *codes, "other", "slowest, s", "memory, MiB")
    kinds: dict[str, Tally] = {}
    for tally in sorted(done, key=lambda t: (KINDS.index(t.kind), t.seed, t.first)):
        kinds.setdefault(tally.kind, Tally(tally.kind, tally.seed, 0, 0)).add(tally)
    for kind, tally in kinds.items():
        counts = [tally.answers[code] for code in codes]
        print_row(
            kind, str(tally.count), *map(str, counts), str(tally.count - sum(counts)),
            f"{tally.slowest:.1f}", f"{tally.memory:.0f}",
        )  # fmt: skip


def main() -> int:
    """Scan what is not in the record yet, and print the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--each", type=int, default=1000, metavar="N")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="where finished portions are recorded"
    )
    options = parser.parse_args()
    done = read_record(options.record) if options.record else []
    known = {(t.kind, t.seed, t.first, t.count) for t in done}
    wanted = portions(options.kinds, options.each, options.seed)
    for tally in run([t for t in wanted if (t.kind, t.seed, t.first, t.count) not in known]):
        done.append(tally)
        if options.record:
            with options.record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(vars(tally)) + "\n")
    print_table(done)
    wrong = [line for tally in done for line in tally.wrong]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
