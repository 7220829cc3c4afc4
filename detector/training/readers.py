"""Readers of deepfake data sets, each in its own layout.

A reader lists a data set's videos with their labels, the people or sources in them, and the
published split if there is one. It adds a sentence to `complaints` for everything it leaves out.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from detector.errors import UserError
from detector.provenance import hash_file
from detector.video import CLIP_SUFFIXES

SPLITS = "train", "val", "test"
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
    """The published split; None if there is none."""
    width: int | None = None
    """Width of the face in the video, pixels, if `path` is a face that was cut already."""
    original: str | None = None
    """Path of the original's face, if `path` is a cut face of a fake and the original is there."""
    kind: str = ""
    """The kind of fake, or real, if known."""


Reader = Callable[[Path, list[str]], list[Source]]
"""Takes a data set's folder and the list to add complaints to; returns the videos."""


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
    """The people in a video, from its file's name."""
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
    first_names: dict[str, str] = {}  # a picture's hash -> its first name
    alias: dict[str, str] = {}  # an original's name -> the name under which it is kept
    with file.open(newline="", encoding="utf-8") as lines:
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
            stated = row.get("original") or ""
            original = stated if stated not in ("", "NAN") else row["videoname"]
            twin = first_names.setdefault(hash_file(path), name)
            if twin in found and twin != name:
                complaints.append(f"{path}: the same picture as {twin}; left out")
                kept, copy = (_follow(alias, p) for p in (found[twin].people[0], original))
                if kept != copy:
                    alias[copy] = kept
                continue
            genuine = path.with_stem(Path(original).stem)
            found[name] = Source(
                str(path), fake, "deepfake_faces", "face", (original,),
                width=int(row["original_width"]),
                original=str(genuine) if fake and genuine.is_file() else None,
            )  # fmt: skip
    return [replace(s, people=(_follow(alias, s.people[0]),)) for s in found.values()]


def _follow(alias: dict[str, str], name: str) -> str:
    """The name at the end of a chain of aliases."""
    while name in alias:
        name = alias[name]
    return name


def list_labelled(root: Path) -> Iterator[tuple[Path, bool, dict[str, str]]]:
    """List the clips below real/ and fake/.

    Yields:
        The path, whether it is fake, and its kind, data set, method and group, as a manifest.tsv
        names them, or by default.
    """
    manifest: dict[str, dict[str, str]] = {}
    if (root / "manifest.tsv").is_file():
        with (root / "manifest.tsv").open(newline="", encoding="utf-8") as file:
            manifest = {row["name"]: row for row in csv.DictReader(file, delimiter="\t")}
    for label in ("real", "fake"):
        for path in sorted((root / label).rglob("*")):
            if path.suffix.lower() in CLIP_SUFFIXES:
                facts = {"kind": label, "dataset": root.name, "method": label, "group": path.stem}
                row = manifest.get(path.name, {})
                facts |= {name: row[name] for name in facts if row.get(name)}
                yield path, label == "fake", facts


def read_folder(root: Path, complaints: list[str]) -> list[Source]:
    """Any folder with real/ and fake/, of videos or pictures, and optionally a manifest.tsv."""
    return [
        Source(
            str(path), fake, facts["dataset"], facts["method"], (facts["group"],),
            kind="" if facts["kind"] == "fake" else facts["kind"],
        )
        for path, fake, facts in list_labelled(root)
    ]  # fmt: skip


READERS: dict[str, Reader] = {
    "faceforensics": read_faceforensics,
    "celebdf": read_celebdf,
    "dfdc": read_dfdc,
    "deepfake_faces": read_deepfake_faces,
    "folder": read_folder,
}
