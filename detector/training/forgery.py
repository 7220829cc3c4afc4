"""Forgeries made from real faces, to learn from where no deepfakes are at hand.

The idea of blending a face with an altered copy of itself is Shiohara and Yamasaki's ("Detecting
Deepfakes with Self-Blended Images", CVPR 2022). The other kinds imitate other forgeries: another
person's face, a face through a bottleneck, mouth or eyes alone, a picture redrawn by a small
decoder.

Every pair is made from one portrait, and both halves go through the same simulated camera and
encoders, so that only the forgery tells them apart. Everything follows from a seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from detector.faces import CROP_MARGIN, resize
from detector.masks import part_mask
from detector.records import Image
from detector.training.blends import (
    alter_part,
    blend_self,
    change_detail,
    flicker,
    squeeze,
    stain,
    swap,
    synthesise,
)
from detector.training.decoders import Decoder
from detector.training.degradation import (
    blur,
    chance,
    deliver,
    log_uniform,
    record,
    through_lens,
)
from detector.training.portraits import (
    CANVAS,
    Portrait,
    ScaledPortrait,
    move_head,
    sampling_weights,
    scale_portrait,
)

KINDS = {"self": 0.32, "swap": 0.24, "bottleneck": 0.12, "part": 0.14, "synthetic": 0.18}
"""The kinds of forgery and the share of each."""

WORKING_WIDTH = 64, 240  # face width in pixels while a forgery is made
SMALLEST_DELIVERED = 44  # face width in pixels after degradation
DONORS = 1, 3, 8, 8  # number of candidates among which the most similar donor of a swap is chosen
STAINED = 0.25  # share of forgeries with blotches, the synthetic kind excepted
FLICKERING = 0.75  # share of forged clips that flicker
UNIFORM_CHANGE = 0.6
"""How often the whole real half is softened, sharpened or rescaled. Forging softens: were real
faces always sharper, softness itself would look like forgery, and so would poor genuine video."""
VISIBLE_DIFFERENCE = 5.0, 16.0  # of the halves at coarse scale, grey levels: invisible, obvious


@dataclass(frozen=True)
class Sample:
    """A crop to learn from."""

    image: Image
    """Square, as the network sees it."""
    fake: bool
    kind: str
    mask: np.ndarray = field(repr=False, compare=False)
    """Float32, same size: how much of each pixel was replaced."""
    detail: float = 1.0
    """Share of the finest detail that is left after degradation."""
    width: float = 100.0
    """Width of the face after degradation, pixels."""


Alteration = Callable[[ScaledPortrait, np.random.Generator], tuple[Image, np.ndarray]]
"""Makes a forged picture and the mask of what was altered."""


class Forger:
    """Makes pairs of a real and a forged crop from portraits."""

    def __init__(
        self,
        portraits: Sequence[Portrait],
        *,
        side: int = 224,
        margin: float = CROP_MARGIN,
        kinds: dict[str, float] | None = None,
        decoders: Sequence[Decoder] = (),
        degrade: bool = True,
        encoded: bool = True,
        jitter: bool = True,
    ) -> None:
        """Prepare to forge.

        Args:
            portraits: the real faces.
            side: side of the crops, pixels.
            margin: share of the face's box that crops show around it.
            kinds: kind of forgery -> its share.
            decoders: small networks that redraw pictures, for the synthetic kind.
            degrade: simulate cameras, editors and encoders.
            encoded: use video encoders in that.
            jitter: vary position, scale, rotation and mirroring of the crops.
        """
        self.portraits = portraits
        self.side = side
        self.margin = margin
        self.decoders = decoders
        self.degrade = degrade
        self.encoded = encoded
        self.jitter = jitter
        kinds = dict(KINDS if kinds is None else kinds)
        self.kinds = list(kinds)
        self.shares = np.array([kinds[k] for k in self.kinds]) / sum(kinds.values())
        self.weights = np.cumsum(sampling_weights(portraits))

    def choose(self, seed: tuple[int, ...]) -> int:
        """The number of a random portrait."""
        return int(np.searchsorted(self.weights, np.random.default_rng(seed).random()))

    def draw(self, seed: tuple[int, ...]) -> tuple[Sample, Sample]:
        """A pair from a random portrait."""
        return self.pair(self.choose(seed), seed)

    def clip_pair(
        self, number: int, seed: tuple[int, ...], length: int
    ) -> tuple[list[Sample], list[Sample]]:
        """The frames of a genuine and of a forged clip of a portrait.

        Camera, encoder and forgery are the same in all frames; the head moves. Most forged clips
        flicker, because forgers work frame by frame.

        Args:
            number: the portrait's number.
            seed: of everything random.
            length: frames of a clip.
        """
        pairs = [self.pair(number, seed, frame) for frame in range(1, length + 1)]
        return [real for real, _ in pairs], [fake for _, fake in pairs]

    def training_pair(self, seed: tuple[int, ...]) -> tuple[Sample, Sample]:
        """A pair to learn from; two real halves if degradation has removed the forgery's traces.

        A forgery without visible traces would only teach that poor video is suspicious.
        """
        real, fake = self.draw(seed)
        kept = max(keep_probability(real.detail, real.width), visibility(real, fake))
        if not self.degrade or np.random.default_rng((*seed, 4)).random() < kept:
            return real, fake
        mirrored = np.ascontiguousarray(real.image[:, ::-1])
        return real, replace(real, image=mirrored)

    def pair(self, number: int, seed: tuple[int, ...], frame: int = 0) -> tuple[Sample, Sample]:
        """A real and a forged crop of a portrait.

        Args:
            number: the portrait's number, modulo how many there are.
            seed: of everything random.
            frame: 1, 2, … for the frames of a clip, 0 for a single picture.
        """
        number %= len(self.portraits)
        rng = np.random.default_rng((*seed, 1))
        motion = np.random.default_rng((*seed, 6, frame)) if frame else None
        kind = str(rng.choice(self.kinds, p=self.shares))
        bare = self._scale(self.portraits[number], rng, motion)
        generated = kind == "synthetic"
        seen = self._through_lens(bare, (*seed, 5))
        taken = seen
        if self.degrade:
            noisy = 0.85 if generated else 0.5
            taken = replace(seen, image=record(seen.image, rng, noisy=noisy, encoded=self.encoded))
        # A picture that a generator draws never went through a sensor.
        source = seen if generated and chance(rng, 0.6) else taken
        forged, mask = self._forge(kind, source, np.random.default_rng((*seed, 2)))
        if motion is not None and chance(np.random.default_rng((*seed, 7)), FLICKERING):
            forged = flicker(forged, mask, taken.width, motion)
        finish = (*seed, 3)
        untouched = taken.image
        if self.degrade and chance(rng, UNIFORM_CHANGE):
            untouched = change_detail(untouched, taken.width, rng)
        real = self._finish(taken, untouched, np.zeros_like(mask), finish)
        fake = self._finish(taken, forged, mask, finish)
        return (
            Sample(real[0], False, "real", real[1], *real[2:]),
            Sample(fake[0], True, kind, fake[1], *real[2:]),
        )

    def _scale(
        self, portrait: Portrait, rng: np.random.Generator, motion: np.random.Generator | None
    ) -> ScaledPortrait:
        low, largest = WORKING_WIDTH
        high = float(np.clip(portrait.face_width * 1.1, low + 8, largest))
        width = log_uniform(rng, max(low, 0.55 * high), high) if self.degrade else high
        angle = rng.normal(0, 6) if self.jitter and chance(rng, 0.5) else 0.0
        face = scale_portrait(portrait, width, angle)
        return face if motion is None else move_head(face, motion)

    def _through_lens(self, face: ScaledPortrait, seed: tuple[int, ...]) -> ScaledPortrait:
        if not self.degrade:
            return face
        head = part_mask(face.image.shape, face.landmarks, "head")
        image = through_lens(face.image, head, face.width, np.random.default_rng(seed))
        return replace(face, image=image)

    def _forge(
        self, kind: str, face: ScaledPortrait, rng: np.random.Generator
    ) -> tuple[Image, np.ndarray]:
        """The forged picture, and the mask of what was altered."""
        alterations: dict[str, Alteration] = {
            "self": blend_self,
            "swap": lambda face, rng: swap(face, self._donor(face, rng), rng),
            "bottleneck": squeeze,
            "part": alter_part,
            "synthetic": lambda face, rng: synthesise(face, self.decoders, rng),
        }
        forged, mask = alterations[kind](face, rng)
        if kind != "synthetic" and chance(rng, STAINED):
            return stain(forged, mask, face.width, rng)
        return forged, mask

    def _donor(self, face: ScaledPortrait, rng: np.random.Generator) -> Portrait:
        """Of a few random portraits, the one whose landmarks fit best."""
        numbers = np.searchsorted(self.weights, rng.random(int(rng.choice(DONORS))))
        candidates = [self.portraits[number] for number in numbers]
        target = shape_of(face.landmarks)
        return min(candidates, key=lambda p: float(np.abs(shape_of(p.landmarks) - target).sum()))

    def _finish(
        self, face: ScaledPortrait, image: Image, mask: np.ndarray, seed: tuple[int, ...]
    ) -> tuple[Image, np.ndarray, float, float]:
        """Degrade and crop; (crop, mask, share of detail left, width of the face)."""
        rng = np.random.default_rng(seed)
        side, before = image.shape[0], image
        part, shift, mirrored = (1 + self.margin) / CANVAS, np.zeros(2), False
        if self.jitter:
            part *= float(np.clip(rng.normal(1, 0.06), 0.85, 1.2))
            shift = rng.normal(0, 0.025, 2)
            mirrored = chance(rng, 0.5)
        if self.degrade:
            image = deliver(image, face.width, SMALLEST_DELIVERED, rng, encoded=self.encoded)
        detail = detail_left(before, image)
        width = face.width * image.shape[1] / side
        crop = cut_middle(image, part, shift * image.shape[0] / CANVAS, self.side)
        cropped_mask = cut_middle(mask, part, shift * side / CANVAS, self.side)
        if mirrored:
            crop, cropped_mask = crop[:, ::-1], cropped_mask[:, ::-1]
        cropped_mask = np.clip(cropped_mask, 0, 1)  # cubic resizing overshoots
        return np.ascontiguousarray(crop), cropped_mask, detail, width


def cut_middle(image: np.ndarray, part: float, shift: np.ndarray, side: int) -> np.ndarray:
    """Cut a square from the middle of a square picture.

    Args:
        image: the picture.
        part: side of the square, as a fraction of the picture's.
        shift: (x, y), offset from the middle in pixels.
        side: of the result, pixels.
    """
    size = image.shape[0]
    length = min(size, round(size * part))
    start = np.clip(np.rint((size - length) / 2 + shift), 0, size - length).astype(int)
    middle = image[start[1] : start[1] + length, start[0] : start[0] + length]
    return resize(middle, side, side)


def detail_left(before: Image, after: Image) -> float:
    """Correlation of the fine detail of two pictures, at least 0."""
    fine = []
    for image in (before, after):
        grey = cv2.cvtColor(resize(image, 224, 224), cv2.COLOR_RGB2GRAY).astype(np.float32)
        fine.append((grey - blur(grey, 1.5)).ravel())
    if min(f.std() for f in fine) < 1e-3:
        return 1.0
    return max(0.0, float(np.corrcoef(fine[0], fine[1])[0, 1]))


def keep_probability(detail: float, width: float) -> float:
    """Probability of keeping a forgery with this share of detail left and this face width."""
    sharp, large = (detail - 0.5) / 0.4, (width - 30) / 60
    return float(np.clip(sharp, 0.15, 1.0) * np.clip(large, 0.25, 1.0))


def visibility(real: Sample, fake: Sample) -> float:
    """How visible the forgery is at coarse scale, which encoders keep: 0 not at all, 1 obvious."""
    coarse = [
        cv2.resize(half.image, (48, 48), interpolation=cv2.INTER_AREA).astype(np.float32)
        for half in (real, fake)
    ]
    mask = cv2.resize(fake.mask, (48, 48), interpolation=cv2.INTER_AREA)[..., None]
    squares = mask * (coarse[0] - coarse[1]) ** 2
    difference = float(np.sqrt(squares.sum() / (3 * mask.sum() + 1.0)))
    return float(np.interp(difference, VISIBLE_DIFFERENCE, (0.0, 1.0)))


def shape_of(landmarks: np.ndarray) -> np.ndarray:
    """The landmarks, centred and scaled to unit norm."""
    centred = landmarks - landmarks.mean(0)
    return centred / np.linalg.norm(centred)
