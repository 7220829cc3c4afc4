"""A folder of pictures of real faces -> portraits with landmarks, cached in one file."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from detector.errors import UserError
from detector.faces import FaceFinder, cut, resize
from detector.records import Image, KeyFrame
from detector.settings import Progress, silent
from detector.video import IMAGE_SUFFIXES, read_image

PORTRAIT_MARGIN = 1.4  # of the face's box: room for shifts, rotations and wider crops
CANVAS = 1.8  # side of a scaled portrait, in face boxes: room for the widest crop
PORTRAIT_LIMIT = 680  # largest side of a portrait, pixels
GREY_SHARE = 0.3  # how often a black-and-white portrait is drawn, relative to one in colour
SMALLEST_FACE = 56  # pixels of width; smaller faces hold too little to learn from


@dataclass(frozen=True)
class Portrait:
    """A picture of a real face, with room around it."""

    name: str
    """The file's path below the folder."""
    face_width: float
    """Pixels, in `image`."""
    grey: bool
    image: Image = field(repr=False, compare=False)
    landmarks: np.ndarray = field(repr=False, compare=False)
    """(5, 2) float, in `image`."""


@dataclass(frozen=True)
class ScaledPortrait:
    """A portrait at the size at which a forgery is made of it."""

    image: Image
    landmarks: np.ndarray
    box: float
    """Longer side of the face's box in pixels; the box is centred in the picture."""
    width: float
    """Width of the face, pixels."""


def find_portraits(
    folder: Path, cache: Path | None = None, progress: Progress = silent
) -> list[Portrait]:
    """Find the largest face of every image below a folder.

    Images that do not decode or show no face are left out.

    Args:
        folder: the images.
        cache: a file that is read if it exists, and written otherwise.
        progress: called with the fraction of images done.

    Raises:
        UserError: `no_data` if there are no images, or no faces in them.
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
    """The portrait of the largest face of an image; None if there is none, or it is too small."""
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
    )


def save_portraits(path: Path, portraits: Sequence[Portrait]) -> None:
    """Write portraits to an .npz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        names=np.array([p.name for p in portraits]),
        widths=np.array([p.face_width for p in portraits]),
        grey=np.array([p.grey for p in portraits]),
        landmarks=np.stack([p.landmarks for p in portraits]),
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
        )
        for i, (name, side) in enumerate(zip(kept["names"], kept["sides"].tolist(), strict=True))
    ]


def sampling_weights(portraits: Sequence[Portrait]) -> np.ndarray:
    """Sampling probability of each portrait: higher for large faces and pictures in colour."""
    weights = np.array(
        [(GREY_SHARE if p.grey else 1.0) * min(1.5, p.face_width / 100) for p in portraits]
    )
    return weights / weights.sum()


def split_portraits(
    portraits: Sequence[Portrait], held_out: float = 0.08
) -> tuple[list[Portrait], list[Portrait]]:
    """(training, held-out) portraits, split by the hash of a person's name.

    A person's pictures are assumed to share the part of the file name before the last underscore.
    If no portrait is held out that way, the split is by picture. A person who appears in two
    folders under two names can be on both sides.
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
    """Whether the hash of a name falls into the held-out share. Another hash changes all splits."""
    return sum(ord(c) * 31 ** (i % 7) for i, c in enumerate(name)) % 1000 < share * 1000


def scale_portrait(portrait: Portrait, width: float, angle: float) -> ScaledPortrait:
    """Scale a portrait to a face `width` pixels wide, rotate it by `angle` degrees, and crop it.

    The result is CANVAS face boxes wide.
    """
    box = portrait.image.shape[0] / (1 + PORTRAIT_MARGIN) * width / portrait.face_width
    scale = box * (1 + PORTRAIT_MARGIN) / portrait.image.shape[0]
    side = max(32, round(box * CANVAS / 2) * 2)
    size = max(side, round(portrait.image.shape[0] * scale))
    scale = size / portrait.image.shape[0]
    image = resize(portrait.image, size, size)
    landmarks = portrait.landmarks * scale
    if angle:
        image, landmarks = rotate(image, landmarks, angle)
    start = (size - side) // 2
    image = np.ascontiguousarray(image[start : start + side, start : start + side])
    return ScaledPortrait(image, landmarks - start, side / CANVAS, width)


def rotate(
    image: Image, landmarks: np.ndarray, angle: float, scale: float = 1.0
) -> tuple[Image, np.ndarray]:
    """Rotate about the centre by `angle` degrees and enlarge; the picture keeps its size."""
    height, width = image.shape[:2]
    matrix: np.ndarray = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    turned = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return turned, landmarks @ matrix[:, :2].T + matrix[:, 2]


def move_head(face: ScaledPortrait, rng: np.random.Generator) -> ScaledPortrait:
    """Rotate the head a little and bring it nearer or farther: one frame of a clip."""
    angle, scale = rng.normal(0, 2.5), float(np.exp(rng.normal(0, 0.025)))
    image, landmarks = rotate(face.image, face.landmarks, angle, scale)
    return replace(face, image=image, landmarks=landmarks)
