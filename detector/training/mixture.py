"""Labelled faces of many sources and forgeries made on the fly -> pairs to learn from.

Every pair is a real and a fake face. First the kind of fake is drawn, then data set, clip and face.
The fake's partner is a real face of the same data set, if that has any, and of the same group if
possible. Both are degraded alike, so that codec, sharpness and size tell less about the source.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image

from detector.errors import UserError
from detector.faces import FaceFinder, cut, resize, square_around
from detector.records import Box, Image, KeyFrame
from detector.settings import Progress, silent
from detector.training.datasets import Row
from detector.training.degradation import chance, deliver, light
from detector.training.forgery import SMALLEST_DELIVERED, Forger
from detector.training.portraits import (
    PORTRAIT_MARGIN,
    Portrait,
    load_portraits,
    save_portraits,
)
from detector.video import read_image

REAL = "real"
SIGN_OF = {"swapped": 1, "reenacted": 1, "blended": 1, "animated": 2, "synthesised": 2}
"""Kind of fake -> its label: 1 is pasted, 2 is drawn."""
MARGINS = -0.1, 0.55  # range of crop margins in training, as a share of the face's box
DEGRADED = 0.8  # share of pairs that are degraded
OWN_PARTNER = 0.85  # share of fakes that get a real face of their own data set, if it has any
TIGHT_PARTNER = 0.15  # share of the other fakes that get an original without a box, if any
SHIFT = 0.04  # standard deviation of the crop's position, in box sides
OFF_CENTRE = 0.3  # largest distance of a found face from the labelled one, in box widths
CLIPS_MEASURED = 25  # clips measured of each kind of each left-out data set
CLIPS_COUNTED = 40  # a data set with more clips than this is not drawn more often


@dataclass(frozen=True)
class Shares:
    """What the pairs are made of: shares relative to their sum."""

    forged: float = 0.34
    """Forgeries made on the fly from real faces."""
    swapped: float = 0.22
    """Labelled swapped and re-enacted faces."""
    tight: float = 0.1
    """Labelled faces of data sets without face boxes, each with its own original."""
    animated: float = 0.24
    synthesised: float = 0.1


Clips = dict[str, list[list[Row]]]
"""Data set -> clips -> their faces."""


@dataclass
class Mixture:
    """Makes pairs from rows, each with its index's folder, and from a forger."""

    rows: Sequence[tuple[Path, Row]]
    forger: Forger
    side: int
    shares: Shares = field(default_factory=Shares)

    def __post_init__(self) -> None:
        """Sort the rows by kind, data set and clip.

        Raises:
            UserError: `one_class` if there are no real faces with a box.
        """
        self.folders = {id(row): folder for folder, row in self.rows}
        boxed = [row for _, row in self.rows if row.right]
        self.clips = {kind: _group_by_clip([r for r in boxed if r.kind == kind]) for kind in
                      (REAL, *SIGN_OF)}  # fmt: skip
        real = [row for row in boxed if row.kind == REAL]
        self.partners = _group_by_dataset_and(lambda row: row.group, real)
        bare = [row for _, row in self.rows if not row.right]
        originals = {row.group: row for row in bare if not row.fake}
        self.originals = list(originals.values())
        self.tight = [(originals[row.group], row) for row in bare
                      if row.fake and row.group in originals]  # fmt: skip
        if not self.clips[REAL]:
            raise UserError("one_class", "The indices hold no real faces with a box.")
        kinds = {"forged": self.shares.forged}
        if self.clips["swapped"] or self.clips["reenacted"]:
            kinds["swapped"] = self.shares.swapped
        if self.tight:
            kinds["tight"] = self.shares.tight
        for kind in ("animated", "synthesised"):
            if self.clips[kind]:
                kinds[kind] = getattr(self.shares, kind)
        self.kinds = list(kinds)
        self.weights = np.array(list(kinds.values())) / sum(kinds.values())
        swapped = [len(self.clips[k]) for k in ("swapped", "reenacted")]
        self.reenacted = swapped[1] / max(1, sum(swapped))

    def pair(self, seed: tuple[int, ...]) -> tuple[Image, Image, int]:
        """A real and a fake crop, side x side, and the fake's label."""
        rng = np.random.default_rng((*seed, 11))
        kind = str(rng.choice(self.kinds, p=self.weights))
        if kind == "forged":
            real, fake = self.forger.draw(seed)
            return real.image, fake.image, 1
        if kind == "tight":
            original, fake_row = self.tight[int(rng.integers(len(self.tight)))]
            return self._read_pair(original, fake_row, rng, 1)
        if kind == "swapped" and chance(rng, self.reenacted):
            kind = "reenacted"
        fake_row = _draw_face(self.clips[kind], rng)
        return self._read_pair(self._partner(fake_row, rng), fake_row, rng, SIGN_OF[kind])

    def _partner(self, fake: Row, rng: np.random.Generator) -> Row:
        """Draw the real face that a fake is paired with."""
        groups = self.partners.get(fake.dataset)
        if groups and chance(rng, OWN_PARTNER):
            rows = groups.get(fake.group) or groups[str(rng.choice(list(groups)))]
            return rows[int(rng.integers(len(rows)))]
        if self.originals and chance(rng, TIGHT_PARTNER):
            return self.originals[int(rng.integers(len(self.originals)))]
        return _draw_face(self.clips[REAL], rng)

    def _read_pair(
        self, real: Row, fake: Row, rng: np.random.Generator, label: int
    ) -> tuple[Image, Image, int]:
        """Both crops, augmented alike, and the fake's label."""
        seed = int(rng.integers(2**32))
        crops = [self._read_face(row, np.random.default_rng(seed)) for row in (real, fake)]
        return crops[0], crops[1], label

    def _read_face(self, row: Row, rng: np.random.Generator) -> Image:
        """The augmented crop of a row; equal states of `rng` give equal augmentation."""
        margin, degraded, mirrored = rng.uniform(*MARGINS), chance(rng, DEGRADED), chance(rng, 0.5)
        moved = rng.normal(0, SHIFT, 2)
        image = read_image(self.folders[id(row)] / row.crop)
        box = box_of(row, image)
        length = max(box[2] - box[0], box[3] - box[1])
        if not row.right:  # the crop ends at the face: there is nothing to show around it
            margin = min(margin, 0.0)
        x, y = np.rint(moved * length).astype(int)
        left, top, right, bottom = square_around(box, margin)
        image = cut(image, (left + x, top + y, right + x, bottom + y))
        if degraded:
            width = (box[2] - box[0]) * image.shape[1] / (right - left)
            image = deliver(light(image, rng), width, SMALLEST_DELIVERED, rng)
        image = resize(image, self.side, self.side)
        return np.ascontiguousarray(image[:, ::-1]) if mirrored else image


def box_of(row: Row, image: Image) -> Box:
    """The face's box inside the crop; the whole crop if it is unknown."""
    if row.right:
        return row.left, row.top, row.right, row.bottom
    return 0, 0, image.shape[1], image.shape[0]


def centre_of(box: Box) -> np.ndarray:
    """The centre of a box, (x, y)."""
    return np.array([box[0] + box[2], box[1] + box[3]]) / 2


def crop_face(folder: Path, row: Row, margin: float) -> Image:
    """Read the face of a row, cropped with a margin."""
    image = read_image(folder / row.crop)
    return cut(image, square_around(box_of(row, image), margin))


def read_face(folder: Path, row: Row, margin: float) -> Image:
    """Read the face of a row: cropped with a margin if its box is known, else as it is."""
    return crop_face(folder, row, margin) if row.right else read_image(folder / row.crop)


def _group_by_clip(rows: Sequence[Row]) -> Clips:
    sets = _group_by_dataset_and(lambda row: row.video, rows)
    return {dataset: list(clips.values()) for dataset, clips in sets.items()}


def _group_by_dataset_and(
    key: Callable[[Row], str], rows: Sequence[Row]
) -> dict[str, dict[str, list[Row]]]:
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(row.dataset, {}).setdefault(key(row), []).append(row)
    return found


def _draw_face(clips: Clips, rng: np.random.Generator) -> Row:
    """Draw a data set, weighted by the root of its number of clips, then a clip, then a face."""
    names = list(clips)
    weights = np.sqrt([min(CLIPS_COUNTED, len(clips[name])) for name in names])
    chosen = clips[str(rng.choice(names, p=weights / weights.sum()))]
    faces = chosen[int(rng.integers(len(chosen)))]
    return faces[int(rng.integers(len(faces)))]


def find_video_portraits(
    rows: Sequence[tuple[Path, Row]],
    cache: Path | None = None,
    progress: Progress = silent,
) -> list[Portrait]:
    """Find landmarks in real faces with a box and return them as portraits, for forgeries.

    Args:
        rows: the faces, each with its index's folder.
        cache: a file that is read if it exists, and written otherwise.
        progress: called with the fraction of faces done.
    """
    if cache is not None and cache.exists():
        return load_portraits(cache)
    finder = FaceFinder()
    found = []
    for number, (folder, row) in enumerate(rows):
        progress("faces", number / len(rows))
        image = read_image(folder / row.crop)
        centre = centre_of(box_of(row, image))
        faces = finder.find([KeyFrame(0, 0.0, 0.0, image)])
        distances = [float(np.abs(centre_of(face.box) - centre).max()) for face in faces]
        if distances and min(distances) < OFF_CENTRE * (row.right - row.left):
            nearest = faces[int(np.argmin(distances))]
            found.append(to_portrait(row, image, nearest.landmarks))
    if cache is not None and found:
        save_portraits(cache, found)
    return found


def to_portrait(row: Row, image: Image, landmarks: np.ndarray) -> Portrait:
    """Make a portrait from a row's crop and the landmarks in it."""
    square = square_around(box_of(row, image), PORTRAIT_MARGIN)
    cropped = cut(image, square)
    scale = cropped.shape[0] / (square[3] - square[1])
    points = ((landmarks - square[:2]) * scale).astype(np.float32)
    return Portrait(
        name=row.crop,
        face_width=(row.right - row.left) * scale,
        grey=False,
        image=cropped,
        landmarks=points,
    )


def check_rows(rows: Sequence[tuple[Path, Row]], left_out: Sequence[str]) -> None:
    """Check that training can use the indices.

    Args:
        rows: all rows, each with its index's folder.
        left_out: data sets that are only measured on.

    Raises:
        UserError: `no_data` names the first line that cannot be used; `bad_setting` for an unknown
            data set, or a clip that is in one left out and in another; `one_class`.
    """
    unknown = sorted(set(left_out) - {row.dataset for _, row in rows})
    if unknown:
        raise UserError("bad_setting", f"No data set is called {', '.join(unknown)}.")
    lines: Counter[Path] = Counter()
    for folder, row in rows:
        lines[folder] += 1
        fault = _find_fault(folder, row)
        if fault:  # line 1 of a file holds the columns' names
            where = f"{folder / 'index.csv'}, line {lines[folder] + 1}"
            raise UserError("no_data", f"{where}: {row.crop} {fault}.")
    learned = [row for _, row in rows if row.dataset not in left_out]
    if len({bool(row.fake) for row in learned}) < 2:
        raise UserError("one_class", "What is left to learn from holds one class only.")
    held = {row.video for _, row in rows if row.dataset in left_out}
    shared = next((row for row in learned if row.video in held), None)
    if shared is not None:
        raise UserError(
            "bad_setting",
            f"The clip {shared.video} of {shared.dataset} is also one of a data set that is left "
            "out.",
        )


def _find_fault(folder: Path, row: Row) -> str | None:
    """The reason why a row cannot be used, or None."""
    if not (folder / row.crop).is_file():
        return "does not exist"
    if row.kind != REAL and row.kind not in SIGN_OF:
        return f"has the unknown kind {row.kind!r}"
    if bool(row.fake) != (row.kind != REAL):
        return f"has the kind {row.kind}, but fake is {row.fake}"
    if row.right:
        with PIL.Image.open(folder / row.crop, formats=("JPEG", "PNG")) as picture:
            width, height = picture.size
        if not (0 <= row.left < row.right <= width and 0 <= row.top < row.bottom <= height):
            return f"has a box outside its {width} x {height} pixels"
    return None


def left_out_faces(
    rows: Sequence[tuple[Path, Row]], side: int, margin: float
) -> tuple[np.ndarray, list[Row]]:
    """(crops, rows) of one or two faces of every clip, without augmentation."""
    clips: dict[tuple[str, str, str], list[tuple[Path, Row]]] = {}
    for folder, row in rows:
        if row.right:
            clips.setdefault((row.kind, row.dataset, row.video), []).append((folder, row))
    counts: Counter[tuple[str, str]] = Counter()
    crops, kept = [], []
    for (kind, dataset, _), faces in clips.items():
        counts[kind, dataset] += 1
        if counts[kind, dataset] > CLIPS_MEASURED:
            continue
        for number in {0, len(faces) // 2}:
            folder, row = faces[number]
            crops.append(resize(crop_face(folder, row, margin), side, side))
            kept.append(row)
    return np.stack(crops), kept
