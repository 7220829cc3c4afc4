"""Deepfake data sets in their own layouts -> one index of face crops.

A reader lists a data set's videos with their labels, their people or sources (which must not be in
two splits), and the published split if there is one. `prepare` cuts the faces once, in parallel;
after a kill it continues. The index is a CSV file beside the crops.
"""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from detector.provenance import hash_file
from detector.records import KeyFrame
from detector.settings import Progress, Settings, silent
from detector.video import CLIP_SUFFIXES, IMAGE_SUFFIXES, Clip
from detector.weights import write_whole
from detector.workers import map_jobs

FRAMES = "key", "even", "all"
SPLITS = "train", "val", "test"
SHARES = 0.8, 0.1, 0.1
CROP_SIDE = 320  # pixels; larger crops are reduced
QUALITY = 95  # JPEG quality of the crops
DARK = 25.0  # mean grey level of 255; darker cut faces are left out
SAME = 5.0  # grey levels; a fake is its original's picture if no block differs by as much
LEAKS_SHOWN = 10  # names of people or sources found in more than one split
FACEFORENSICS_METHODS = (
    "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter", "DeepFakeDetection",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A video, or a picture of a face, with its label."""

    path: str
    fake: bool
    dataset: str
    method: str
    people: tuple[str, ...]
    """The people or sources in it; none of them may be in two splits."""
    split: str | None = None
    """The published split."""
    width: int | None = None
    """Width of the face in the video, pixels, if `path` is a face that was cut already."""
    original: str | None = None
    """Path of the original's face, if `path` is a cut face of a fake and the original is there."""


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


Reader = Callable[[Path, list[str]], list[Source]]
"""Takes a data set's folder and a list to add complaints to; returns its videos."""


def read_faceforensics(root: Path, complaints: list[str]) -> list[Source]:
    """FaceForensics++: all methods and compressions found, with the official splits."""
    split_of: dict[str, str] = {}
    for split in SPLITS:
        for file in (root / "splits" / f"{split}.json", root / f"{split}.json"):
            if file.is_file():
                for pair in json.loads(file.read_text(encoding="utf-8")):
                    split_of |= dict.fromkeys(map(str, pair), split)
                break
    if not split_of:
        complaints.append("no official split files (splits/train.json …): split by source video")
    found = []
    for path in sorted(root.glob("*_sequences/*/*/videos/*.mp4")):
        kind, method, compression = path.relative_to(root).parts[:3]
        fake = kind.startswith("manipulated")
        if fake and method not in FACEFORENSICS_METHODS:
            complaints.append(f"{path}: unknown method {method}")
            continue
        people = _faceforensics_people(path.stem, method)
        splits = {split_of[p] for p in people if p in split_of}
        if len(splits) > 1:
            complaints.append(f"{path}: its two sources are in different splits; left out")
            continue
        found.append(
            Source(str(path), fake, f"faceforensics-{compression}", method, people,
                   splits.pop() if splits else None)
        )  # fmt: skip
    return found


def _faceforensics_people(stem: str, method: str) -> tuple[str, ...]:
    if method in ("actors", "DeepFakeDetection"):
        return tuple(f"actor{number}" for number in stem.split("__")[0].split("_"))
    return tuple(stem.split("_"))


def read_celebdf(root: Path, complaints: list[str]) -> list[Source]:
    """Celeb-DF v2: three folders and a list of test videos, in which 1 means real."""
    listed: dict[str, bool] = {}
    tests = root / "List_of_testing_videos.txt"
    if tests.is_file():
        for line in tests.read_text(encoding="utf-8").splitlines():
            if line.strip():
                real, name = line.split(maxsplit=1)
                listed[name.strip()] = real == "0"
    else:
        complaints.append("List_of_testing_videos.txt is missing: split by identity")
    found = []
    folders = {"Celeb-real": False, "YouTube-real": False, "Celeb-synthesis": True}
    for folder, fake in folders.items():
        for path in sorted((root / folder).glob("*.mp4")):
            name = f"{folder}/{path.name}"
            if listed.get(name, fake) != fake:
                complaints.append(f"{name}: the list of test videos contradicts its folder")
                continue
            parts = path.stem.split("_")
            people = tuple(p for p in parts if p.startswith("id")) or (f"youtube{path.stem}",)
            split = "test" if name in listed else None
            found.append(Source(str(path), fake, "celebdf", folder, people, split))
    for name in listed:
        if not (root / name).is_file():
            complaints.append(f"{name}: in the list of test videos, but not there")
    return found


def read_dfdc(root: Path, complaints: list[str]) -> list[Source]:
    """DFDC: folders with a metadata.json that gives the label and original of each video."""
    found = []
    metadata = sorted(root.rglob("metadata.json"))
    if not metadata:
        raise UserError("no_data", f"There is no metadata.json below {root}.")
    for file in metadata:
        for name, values in sorted(json.loads(file.read_text(encoding="utf-8")).items()):
            path = file.parent / name
            if not path.is_file():
                complaints.append(f"{path}: named in metadata.json, but not there")
                continue
            fake = values.get("label", "").upper() == "FAKE"
            people = (str(values.get("original") or name),)
            found.append(Source(str(path), fake, "dfdc", "fake" if fake else "original", people))
    return found


def read_deepfake_faces(root: Path, complaints: list[str]) -> list[Source]:
    """Kaggle's deepfake_faces: metadata.csv and one cut face a video in faces_224.

    Some originals are there under two names, as identical files. One of them is kept, and the fakes
    of both form one group.
    """
    file = root / "metadata.csv"
    if not file.is_file():
        raise UserError("no_data", f"There is no {file}.")
    found: dict[str, Source] = {}
    seen: dict[str, str] = {}  # a picture's hash -> its first name
    alias: dict[str, str] = {}  # an original -> the one that it is the same as
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            name = Path(row["videoname"]).stem
            path = root / "faces_224" / f"{name}.jpg"
            fake = row["label"].upper() == "FAKE"
            if not path.is_file():
                complaints.append(f"{path}: named in metadata.csv, but not there")
                continue
            if name in found and found[name].fake != fake:
                complaints.append(f"{name}: metadata.csv calls it both real and fake; left out")
                found.pop(name)
                continue
            given = row.get("original") or ""
            original = given if given not in ("", "NAN") else row["videoname"]
            twin = seen.setdefault(hash_file(path), name)
            if twin in found and twin != name:
                complaints.append(f"{path}: the same picture as {twin}; left out")
                one, other = (_follow(alias, p) for p in (found[twin].people[0], original))
                if one != other:
                    alias[other] = one
                continue
            genuine = path.with_stem(Path(original).stem)
            found[name] = Source(
                str(path), fake, "deepfake_faces", "face", (original,),
                width=int(row["original_width"]),
                original=str(genuine) if fake and genuine.is_file() else None,
            )  # fmt: skip
    return [replace(s, people=(_follow(alias, s.people[0]),)) for s in found.values()]


def _follow(alias: dict[str, str], name: str) -> str:
    while name in alias:
        name = alias[name]
    return name


def list_labelled(root: Path) -> Iterator[tuple[Path, bool, dict[str, str]]]:
    """(path, fake, facts from manifest.tsv or defaults) of each clip below real/ and fake/."""
    known: dict[str, dict[str, str]] = {}
    manifest = root / "manifest.tsv"
    if manifest.is_file():
        with manifest.open(newline="") as file:
            known = {row["name"]: row for row in csv.DictReader(file, delimiter="\t")}
    for label in ("real", "fake"):
        for path in sorted((root / label).rglob("*")):
            if path.suffix.lower() in CLIP_SUFFIXES:
                given = known.get(path.name, {})
                said = {k: given[k] for k in ("kind", "dataset", "method", "group") if given.get(k)}
                usual = {"kind": label, "dataset": root.name, "method": label, "group": path.stem}
                yield path, label == "fake", usual | said


def read_folder(root: Path, complaints: list[str]) -> list[Source]:
    """Any folder with real/ and fake/, of videos or pictures, and optionally a manifest.tsv."""
    return [
        Source(str(path), fake, said["dataset"], said["method"], (said["group"],))
        for path, fake, said in list_labelled(root)
    ]


READERS: dict[str, Reader] = {
    "faceforensics": read_faceforensics,
    "celebdf": read_celebdf,
    "dfdc": read_dfdc,
    "deepfake_faces": read_deepfake_faces,
    "folder": read_folder,
}


def assign_splits(
    sources: Sequence[Source], complaints: list[str], *, seed: int = 0
) -> list[Source]:
    """Split 8:1:1 by person, unless a split was published.

    Each person belongs to one split; a video with people of two splits is left out. If part of the
    data set has a published split, the rest is divided between training and validation.
    """
    rest = [s for s in sources if s.split is None]
    published = len(rest) < len(sources)
    shares = (SHARES[0] / (SHARES[0] + SHARES[1]), 1.0) if published else (SHARES[0], 0.9, 1.0)
    kept = [s for s in sources if s.split is not None]
    for source in rest:
        sides = {_side_of(person, shares, seed) for person in source.people}
        if len(sides) > 1:
            complaints.append(f"{source.path}: its people are in two splits; left out")
            continue
        kept.append(replace(source, split=SPLITS[sides.pop()]))
    return kept


def _side_of(person: str, shares: Sequence[float], seed: int) -> int:
    digest = hashlib.sha256(f"{seed}:{person}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return next(side for side, share in enumerate(shares) if position < share)


def split_crops_at_random(rows: Sequence[Row], *, seed: int = 0) -> list[Row]:
    """Split crops at random, as several papers did: frames of one video are then in all splits.

    Figures on such a split measure memorised videos as much as detection. Use it only to reproduce
    published figures. Rows of the validation split are not returned, so that the same network can
    also be measured on videos that it never saw.
    """
    drawn = [row for row in rows if row.split != "val"]
    rng = np.random.default_rng(seed)
    sides = rng.choice(SPLITS, len(drawn), p=SHARES)
    return [replace(row, split=str(side)) for row, side in zip(drawn, sides, strict=True)]


def find_leaks(rows: Sequence[Row]) -> list[str]:
    """People or sources, as dataset/name, whose crops are in more than one split."""
    sides: dict[str, set[str]] = {}
    for row in rows:
        for person in row.group.split("+"):
            sides.setdefault(f"{row.dataset}/{person}", set()).add(row.split)
    return sorted(name for name, found in sides.items() if len(found) > 1)


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
    complaints += check_rows(rows)
    write_index(out / "index.csv", rows)
    write_whole(out / "left_out.txt", "".join(f"{line}\n" for line in complaints).encode())
    return rows, complaints


def check_rows(rows: Sequence[Row]) -> list[str]:
    """Sentences about an index as a whole: classes missing from a split, leaks between splits."""
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
    frames: str
    key_frames: int
    margin: float


def cut_source(job: CutJob) -> tuple[list[Row], str | None]:
    """(crops of one video, None) or ([], reason); read from its part file if it was cut before."""
    source, out = job.source, job.out
    key = hashlib.sha256(source.path.encode()).hexdigest()[:16]
    options = f"{job.frames} {job.key_frames} {job.margin}"  # cut otherwise, it is cut anew
    name = f"{key}-{hashlib.sha256(options.encode()).hexdigest()[:8]}"
    part = out / "parts" / f"{name}.csv"
    try:
        if source.width is not None:
            return _take(job, key)
        if part.is_file():
            rows = [replace(r, split=source.split or "train") for r in read_index(part)]
        else:
            rows = list(_cut(job, key, name))
            write_index(part, rows)
    except UserError as error:
        return [], f"{source.path}: {error.message}"
    return rows, None if rows else f"{source.path}: no face"


def _row(source: Source, key: str) -> Row:
    """The columns that all rows of a video share."""
    return Row(
        crop="", fake=int(source.fake), video=key, group="+".join(source.people),
        dataset=source.dataset, method=source.method, split=source.split or "train",
        frame=0, time=0.0, width=0,
    )  # fmt: skip


def _take(job: CutJob, key: str) -> tuple[list[Row], str | None]:
    """Copy a face that was cut already; encoding it again would weaken its traces."""
    source, out = job.source, job.out
    fault = find_fault(source)
    if fault:
        return [], f"{source.path}: {fault}; left out"
    path = out / "crops" / key[:2] / f"{key}-0{Path(source.path).suffix}"
    if not path.is_file():
        write_whole(path, Path(source.path).read_bytes())
    kind = "swapped" if source.fake else "real"
    crop = str(path.relative_to(out))
    return [replace(_row(source, key), crop=crop, width=source.width or 0, kind=kind)], None


def find_fault(source: Source) -> str | None:
    """Why a face that was cut already is left out; None if it is fit."""
    blocks = _blocks_of(source.path)
    if blocks.mean() < DARK:
        return "nearly black"
    if source.original is not None:
        original = _blocks_of(source.original)
        if original.shape == blocks.shape and np.abs(blocks - original).max() < SAME:
            return "the same picture as its original"
    return None


@lru_cache(maxsize=20_000)  # originals are looked at again with each of their fakes
def _blocks_of(path: str) -> np.ndarray:
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


def _cut(job: CutJob, key: str, name: str) -> Iterator[Row]:
    source, out = job.source, job.out
    row = _row(source, key)
    folder = out / "crops" / key[:2]
    folder.mkdir(parents=True, exist_ok=True)
    is_image = Path(source.path).suffix.lower() in IMAGE_SUFFIXES
    clip = Clip(source.path, Settings(frames="all"))
    looked_at: Iterable[KeyFrame]
    if job.frames == "all":
        looked_at = (KeyFrame(f.index, f.time, 0.0, f.image) for f in clip)
    else:
        count = 1 if is_image else job.key_frames
        looked_at = choose_frames(clip, count=count, evenly=job.frames == "even").key_frames()
    finder = FaceFinder(margin=job.margin)
    people = group_people([face for frame in looked_at for face in finder.find([frame])])
    for person in people[:1]:  # the videos are of one person; others pass by
        for face in person.faces:
            if face.unfit is not None:
                continue
            crop = face.crop
            if crop.shape[0] > CROP_SIDE:
                crop = resize(crop, CROP_SIDE, CROP_SIDE)
            path = folder / f"{name}-{face.frame_index}.jpg"
            _save(path, crop)
            yield replace(
                row, crop=str(path.relative_to(out)), frame=face.frame_index,
                time=round(face.time, 4), width=face.box[2] - face.box[0],
            )  # fmt: skip


def _save(path: Path, image: np.ndarray) -> None:
    _, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    write_whole(path, coded.tobytes())


def write_index(path: Path, rows: Iterable[Row]) -> None:
    """Write an index, one line a crop."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_whole(path, text.getvalue().encode())


def read_index(path: Path) -> list[Row]:
    """Read an index; columns with a default may be missing. Raises UserError `no_data`."""
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
