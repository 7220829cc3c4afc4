"""A data set -> an index of face crops, divided into splits.

`prepare` cuts the faces once, in parallel; after a kill it continues. The index is a CSV file
beside the crops, a row for each.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image

from detector.errors import UserError
from detector.faces import CROP_MARGIN, FaceFinder, group_people, resize
from detector.keyframes import choose_frames
from detector.records import KeyFrame
from detector.settings import Progress, Settings, silent
from detector.training.readers import READERS, SPLITS, Source
from detector.video import IMAGE_SUFFIXES, Clip
from detector.weights import write_atomically
from detector.workers import map_jobs

FRAMES = "key", "even", "all"
SPLIT_SIZES = 0.8, 0.1, 0.1  # of training, validation and test, where no split was published
CROP_SIDE = 320  # pixels; larger crops are reduced
JPEG_QUALITY = 95  # of the crops
MIN_BRIGHTNESS = 25.0  # mean grey level, of 255; darker faces are left out
MIN_CHANGE = 5.0  # grey levels of the most changed block; a fake below it is taken for an original
LEAKS_SHOWN = 10  # names of people or sources found in more than one split


@dataclass(frozen=True)
class Row:
    """One crop of the index."""

    crop: str
    """Path of the file, relative to the index's folder."""
    fake: int
    video: str
    group: str
    dataset: str
    method: str
    split: str
    frame: int
    time: float
    width: int
    """Width of the face in the video, pixels."""
    kind: str = ""
    """real, swapped, reenacted, animated or synthesised; empty if unknown."""
    left: int = 0
    """left, top, right, bottom: the face's box inside the crop, if known; training then varies the
    crop margin."""
    top: int = 0
    right: int = 0
    bottom: int = 0


def assign_splits(
    sources: Sequence[Source], complaints: list[str], *, seed: int = 0
) -> list[Source]:
    """Split 8:1:1 by person, unless a split was published.

    Each person belongs to one split; a video with people of two splits is left out. If part of the
    data set has a published split, the rest is divided between training and validation.
    """
    rest = [s for s in sources if s.split is None]
    published = len(rest) < len(sources)
    train, val, _ = SPLIT_SIZES
    ends = (train / (train + val), 1.0) if published else (train, 0.9, 1.0)
    kept = [s for s in sources if s.split is not None]
    for source in rest:
        splits = {_split_of(person, ends, seed) for person in source.people}
        if len(splits) > 1:
            complaints.append(f"{source.path}: its people are in two splits; left out")
            continue
        kept.append(replace(source, split=splits.pop()))
    return kept


def _split_of(person: str, ends: Sequence[float], seed: int) -> str:
    """The split of a person: the first whose end lies beyond the hash of the name, 0 to 1."""
    digest = hashlib.sha256(f"{seed}:{person}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return next(split for split, end in zip(SPLITS, ends, strict=False) if position < end)


def split_crops_at_random(rows: Sequence[Row], *, seed: int = 0) -> list[Row]:
    """Split crops at random, as several papers did: frames of one video are then in all splits.

    Figures on such a split measure memorised videos as much as detection. Use it only to reproduce
    published figures. Rows of the validation split are not returned, so that the same network can
    also be measured on videos that it never saw.
    """
    drawn = [row for row in rows if row.split != "val"]
    splits = np.random.default_rng(seed).choice(SPLITS, len(drawn), p=SPLIT_SIZES)
    return [replace(row, split=str(split)) for row, split in zip(drawn, splits, strict=True)]


def find_leaks(rows: Sequence[Row]) -> list[str]:
    """People or sources, as dataset/name, whose crops are in more than one split."""
    splits: dict[str, set[str]] = {}
    for row in rows:
        for person in row.group.split("+"):
            splits.setdefault(f"{row.dataset}/{person}", set()).add(row.split)
    return sorted(name for name, found in splits.items() if len(found) > 1)


def prepare(
    name: str,
    root: Path,
    out: Path,
    *,
    key_frames: int = 32,
    frames: str = "key",
    margin: float = CROP_MARGIN,
    workers: int = 1,
    ray: bool = False,
    progress: Progress = silent,
) -> tuple[list[Row], list[str]]:
    """Cut the faces of a data set and write index.csv and left_out.txt.

    Args:
        name: a key of READERS.
        root: the data set's folder.
        out: the folder for the index and the crops. Videos that were cut before are not cut again.
        key_frames: the largest number of frames a video.
        frames: `key` frames, as many `even`ly spaced frames, or `all` frames.
        margin: share of the face's box that crops show around it.
        workers: processes on this machine.
        ray: use a Ray cluster instead.
        progress: called after every video.

    Returns:
        The rows of the index, and a sentence for everything that was left out.

    Raises:
        UserError: `bad_setting`, `no_data`.
    """
    if frames not in FRAMES:
        raise UserError("bad_setting", f"Frames are one of {', '.join(FRAMES)}, not {frames!r}.")
    if name not in READERS:
        raise UserError(
            "bad_setting", f"There is no data set {name!r}. Known are: {', '.join(READERS)}."
        )
    if not root.is_dir():
        raise UserError("no_data", f"There is no folder {root}.")
    complaints: list[str] = []
    sources = assign_splits(READERS[name](root, complaints), complaints)
    if not sources:
        raise UserError("no_data", f"{root} holds nothing in the layout of {name}.")
    (out / "parts").mkdir(parents=True, exist_ok=True)
    jobs = [CutJob(source, out, frames, key_frames, margin) for source in sources]
    rows: list[Row] = []
    for number, (made, complaint) in enumerate(
        map_jobs(cut_source, jobs, workers=workers, ray=ray)
    ):
        rows += made
        if complaint:
            complaints.append(complaint)
        progress("faces", (number + 1) / len(jobs))
    if not rows:
        raise UserError("no_data", f"No face was found in {root}.")
    complaints += check_index(rows)
    write_index(out / "index.csv", rows)
    write_atomically(out / "left_out.txt", "".join(f"{line}\n" for line in complaints).encode())
    return rows, complaints


def check_index(rows: Sequence[Row]) -> list[str]:
    """A sentence for each class that a split lacks, and one for all leaks between splits."""
    counts = Counter((row.split, row.fake) for row in rows)
    complaints = [
        f"the {split} split holds no {('real', 'fake')[fake]} faces"
        for split in SPLITS
        for fake in (0, 1)
        if not counts[split, fake]
    ]
    leaks = find_leaks(rows)
    if leaks:
        shown = ", ".join(leaks[:LEAKS_SHOWN]) + (", …" if len(leaks) > LEAKS_SHOWN else "")
        complaints.append(f"in more than one split: {len(leaks)} people or sources ({shown})")
    return complaints


@dataclass(frozen=True)
class CutJob:
    """One video to cut faces from."""

    source: Source
    out: Path
    """The index's folder."""
    frames: str
    """One of FRAMES."""
    key_frames: int
    """The largest number of frames."""
    margin: float
    """Share of the face's box that crops show around it."""


def cut_source(job: CutJob) -> tuple[list[Row], str | None]:
    """Cut the faces of one video, or read its rows if they were cut before with these options.

    Returns:
        The rows, and None; or no rows, and the reason.
    """
    source, out = job.source, job.out
    key = hashlib.sha256(source.path.encode()).hexdigest()[:16]
    options = f"{job.frames} {job.key_frames} {job.margin}"
    name = f"{key}-{hashlib.sha256(options.encode()).hexdigest()[:8]}"
    part = out / "parts" / f"{name}.csv"
    try:
        if source.width is not None:
            return _copy_face(job, key)
        if part.is_file():
            rows = [replace(r, split=source.split or "train") for r in read_index(part)]
        else:
            rows = list(_cut_faces(job, key, name))
            write_index(part, rows)
    except UserError as error:
        return [], f"{source.path}: {error.message}"
    return rows, None if rows else f"{source.path}: no face"


def _shared_columns(source: Source, key: str) -> Row:
    """A row with the columns that all crops of a video share."""
    return Row(
        crop="", fake=int(source.fake), video=key, group="+".join(source.people),
        dataset=source.dataset, method=source.method, split=source.split or "train",
        frame=0, time=0.0, width=0, kind=source.kind,
    )  # fmt: skip


def _copy_face(job: CutJob, key: str) -> tuple[list[Row], str | None]:
    """Copy a face that was cut already; encoding it again would weaken its traces.

    Returns:
        As `cut_source`.
    """
    source, out = job.source, job.out
    fault = find_fault(source)
    if fault:
        return [], f"{source.path}: {fault}; left out"
    path = out / "crops" / key[:2] / f"{key}-0{Path(source.path).suffix}"
    if not path.is_file():
        write_atomically(path, Path(source.path).read_bytes())
    kind = "swapped" if source.fake else "real"
    crop = str(path.relative_to(out))
    row = replace(_shared_columns(source, key), crop=crop, width=source.width or 0, kind=kind)
    return [row], None


def find_fault(source: Source) -> str | None:
    """Why a face that was cut already is left out; None if it is fit."""
    blocks = _mean_blocks(source.path)
    if blocks.mean() < MIN_BRIGHTNESS:
        return "nearly black"
    if source.original is not None:
        original = _mean_blocks(source.original)
        if original.shape == blocks.shape and np.abs(blocks - original).max() < MIN_CHANGE:
            return "the same picture as its original"
    return None


@lru_cache(maxsize=20_000)  # an original is needed again for each of its fakes
def _mean_blocks(path: str) -> np.ndarray:
    """Mean grey levels of blocks of 16 x 16 pixels, from the reduced size a JPEG decodes to."""
    try:
        with PIL.Image.open(path, formats=("JPEG", "PNG")) as picture:
            width, height = picture.size
            picture.draft("L", (width // 8, height // 8))
            small = np.asarray(picture.convert("L"), np.float32)
    except (OSError, PIL.Image.DecompressionBombError) as error:
        raise UserError("unreadable_video", "not a picture that can be decoded") from error
    size = max(1, width // 16), max(1, height // 16)
    return cv2.resize(small, size, interpolation=cv2.INTER_AREA)


def _cut_faces(job: CutJob, key: str, name: str) -> Iterator[Row]:
    """Cut and save the faces of the person seen most; crops are called `name` and their frame."""
    source, out = job.source, job.out
    row = _shared_columns(source, key)
    folder = out / "crops" / key[:2]
    folder.mkdir(parents=True, exist_ok=True)
    is_image = Path(source.path).suffix.lower() in IMAGE_SUFFIXES
    clip = Clip(source.path, Settings(frames="all"))
    chosen: Iterable[KeyFrame]
    if job.frames == "all":
        chosen = (KeyFrame(f.index, f.time, 0.0, f.image) for f in clip)
    else:
        count = 1 if is_image else job.key_frames
        chosen = choose_frames(clip, count=count, evenly=job.frames == "even").key_frames()
    finder = FaceFinder(margin=job.margin)
    people = group_people([face for frame in chosen for face in finder.find([frame])])
    for person in people[:1]:  # the label is that of the main person; others only pass by
        for face in person.faces:
            if face.unfit is not None:
                continue
            crop = face.crop
            if crop.shape[0] > CROP_SIDE:
                crop = resize(crop, CROP_SIDE, CROP_SIDE)
            path = folder / f"{name}-{face.frame_index}.jpg"
            _save_crop(path, crop)
            yield replace(
                row, crop=str(path.relative_to(out)), frame=face.frame_index,
                time=round(face.time, 4), width=face.box[2] - face.box[0],
            )  # fmt: skip


def _save_crop(path: Path, image: np.ndarray) -> None:
    _, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    write_atomically(path, coded.tobytes())


def write_index(path: Path, rows: Iterable[Row]) -> None:
    """Write an index, one line a crop."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_atomically(path, text.getvalue().encode())


def read_index(path: Path) -> list[Row]:
    """Read an index; columns with a default may be missing.

    Raises:
        UserError: `no_data` if the file, a column or a value is missing or cannot be read.
    """
    if not path.is_file():
        raise UserError("no_data", f"There is no index {path}: run prepare first.")
    types: dict[str, Any] = {f.name: f.type for f in fields(Row)}
    needed = {f.name for f in fields(Row) if f.default is MISSING}
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = needed - set(reader.fieldnames or ())
        if missing:
            raise UserError("no_data", f"{path} lacks the columns {', '.join(sorted(missing))}.")
        for given in reader:
            try:
                rows.append(Row(**{n: types[n](v) for n, v in given.items() if n in types}))
            except (TypeError, ValueError) as error:
                raise UserError(
                    "no_data", f"{path}, line {reader.line_num}, cannot be read: {error}."
                ) from error
    return rows
