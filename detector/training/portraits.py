"""A folder of real faces -> portraits with landmarks, found once and kept in one file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from detector.errors import UserError
from detector.faces import FaceFinder, cut, describe
from detector.records import Image, KeyFrame
from detector.settings import Progress, silent
from detector.video import IMAGE_SUFFIXES, read_image

PORTRAIT_MARGIN = 1.4  # of the box: room for shifts, turns and looser crops
CANVAS = 1.8  # side of the part that is worked on, in face boxes: room for the loosest crop
PORTRAIT_LIMIT = 680  # pixels
GREY_SHARE = 0.3  # how often a black-and-white portrait is drawn, relative to one in colour
SMALLEST_FACE = 56  # pixels of width; smaller faces hold too little to learn from


@dataclass(frozen=True)
class Portrait:
    """A real face with room around it."""

    name: str
    """The file's path below the folder."""
    face_width: float
    """Pixels, in `image`."""
    grey: bool
    image: Image = field(repr=False, compare=False)
    landmarks: np.ndarray = field(repr=False, compare=False)
    """(5, 2) float, in `image`."""
    appearance: np.ndarray = field(repr=False, compare=False)
    painted: Image | None = field(default=None, repr=False, compare=False)
    """The picture as a generator draws it, or a person invented in its place; see `painter`
    and `strangers`."""


def find_portraits(
    folder: Path, cache: Path | None = None, progress: Progress = silent
) -> list[Portrait]:
    """The largest face of every image below the folder.

    `cache` is a file that keeps what was found; it is used again when it is there.
    Images that do not decode or hold no face are left out.
    """
    if cache is not None and cache.exists():
        return load_portraits(cache)
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise UserError("no_data", f"{folder} holds no images.")
    finder = FaceFinder(margin=PORTRAIT_MARGIN)
    portraits = []
    for number, file in enumerate(files):
        progress("faces", number / len(files))
        try:
            image = read_image(file)
        except UserError:
            continue
        portrait = _find_portrait(finder, image, str(file.relative_to(folder)))
        if portrait is not None:
            portraits.append(portrait)
    if not portraits:
        raise UserError("no_data", f"No face was found in the {len(files)} images of {folder}.")
    if cache is not None:
        save_portraits(cache, portraits)
    return portraits


def _find_portrait(finder: FaceFinder, image: Image, name: str) -> Portrait | None:
    faces = finder.find([KeyFrame(0, 0.0, 0.0, image)])
    faces = [f for f in faces if f.box[2] - f.box[0] >= SMALLEST_FACE]
    if not faces:
        return None
    face = max(faces, key=lambda f: f.box[2] - f.box[0])
    crop = cut(image, face.crop_box, PORTRAIT_LIMIT)
    scale = crop.shape[0] / (face.crop_box[3] - face.crop_box[1])
    landmarks = (face.landmarks - face.crop_box[:2]) * scale
    saturation = cv2.cvtColor(crop, cv2.COLOR_RGB2HSV)[..., 1]
    return Portrait(
        name=name,
        face_width=(face.box[2] - face.box[0]) * scale,
        grey=bool(np.percentile(saturation, 90) < 20),
        image=crop,
        landmarks=landmarks.astype(np.float32),
        appearance=describe(crop, landmarks),
    )


def save_portraits(path: Path, portraits: Sequence[Portrait]) -> None:
    """Write portraits to one .npz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        names=np.array([p.name for p in portraits]),
        widths=np.array([p.face_width for p in portraits]),
        grey=np.array([p.grey for p in portraits]),
        landmarks=np.stack([p.landmarks for p in portraits]),
        appearances=np.stack([p.appearance for p in portraits]),
        sides=np.array([p.image.shape[0] for p in portraits]),
        pixels=np.concatenate([p.image.ravel() for p in portraits]),
    )


def load_portraits(path: Path) -> list[Portrait]:
    """Read what `save_portraits` wrote."""
    with np.load(path) as stored:
        kept = {name: stored[name] for name in stored.files}
    ends = np.cumsum(kept["sides"].astype(np.int64) ** 2 * 3)
    return [
        Portrait(
            name=str(name),
            face_width=float(kept["widths"][i]),
            grey=bool(kept["grey"][i]),
            image=kept["pixels"][ends[i] - side * side * 3 : ends[i]].reshape(side, side, 3),
            landmarks=kept["landmarks"][i],
            appearance=kept["appearances"][i],
        )
        for i, (name, side) in enumerate(zip(kept["names"], kept["sides"].tolist(), strict=True))
    ]


def weigh(portraits: Sequence[Portrait]) -> np.ndarray:
    """How often each portrait is drawn, as shares: wide faces and those in colour more often."""
    weights = np.array(
        [(GREY_SHARE if p.grey else 1.0) * min(1.5, p.face_width / 100) for p in portraits]
    )
    return weights / weights.sum()


def split_portraits(
    portraits: Sequence[Portrait], held_out: float = 0.08
) -> tuple[list[Portrait], list[Portrait]]:
    """Training and held-out portraits, split by file name so that a name is never on both sides.

    A person's pictures are taken to share the part of the name before the last underscore; where
    that holds none back, because names are made otherwise, each picture stands for itself. One
    person can stand in two folders under two names.
    """
    stems = [Path(p.name).stem for p in portraits]
    people = [stem.rsplit("_", 1)[0] if stem.count("__") >= 2 else stem for stem in stems]
    held = [_is_held(person, held_out) for person in people]
    if not any(held):
        held = [_is_held(stem, held_out) for stem in stems]
    return (
        [p for p, kept in zip(portraits, held, strict=True) if not kept],
        [p for p, kept in zip(portraits, held, strict=True) if kept],
    )


def _is_held(name: str, share: float) -> bool:
    return sum(ord(c) * 31 ** (i % 7) for i, c in enumerate(name)) % 1000 < share * 1000
