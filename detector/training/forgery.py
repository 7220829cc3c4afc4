"""Forgeries made from real faces, to learn from where no deepfakes are at hand.

The idea of blending a face with an altered copy of itself is Shiohara and Yamasaki's ("Detecting
Deepfakes with Self-Blended Images", CVPR 2022). Beside it stand kin that widen what is covered:
another person's face, a face through a bottleneck, mouth or eyes alone, a whole picture re-made by
a small decoder or drawn anew by a large generator, a person whom one invented. Every pair is made
from one portrait and both halves go through the same camera and the same encoders, so that only the
forgery tells them apart. All of it follows from a seed.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from detector.faces import MARGIN, resize
from detector.masks import draw_mask, outline, part_mask
from detector.records import Image
from detector.training.decoders import Decoder
from detector.training.degradation import (
    blur,
    chance,
    deliver,
    log_uniform,
    record,
    sharpen,
    shrink_and_enlarge,
    through_lens,
    to_uint8,
)
from detector.training.portraits import CANVAS, PORTRAIT_MARGIN, Portrait, weigh
from detector.training.strangers import stand_in

KINDS = {
    "self": 0.27, "swap": 0.2, "bottleneck": 0.1, "part": 0.12, "synthetic": 0.15, "painted": 0.16,
    "invented": 0.16,
}  # fmt: skip
"""The kinds of forgery and the share of each."""
GENERATED = "synthetic", "painted", "invented"  # kinds of which a generator drew every pixel

WORKING_WIDTH = 64, 240  # pixels of face width while a forgery is made
SMALLEST_DELIVERED = 44  # pixels of face width
DONORS = 1, 3, 8, 8  # people looked at to find one who resembles the target
STRANGERS = 8  # invented people looked at to find one who resembles a portrait
INVENTED_DONORS = 0.3  # of swaps, where there are any
STAINED = 0.25  # of the other kinds
FLICKERING = 0.75  # of forged clips
UNIFORM_CHANGE = 0.6
"""How often the real half is softened, sharpened or shrunk and enlarged as a whole. Forging
softens; were real faces always sharper, softness itself would look like forgery, and so would poor
but genuine video."""
PLAIN = 5.0, 16.0  # levels between the halves, at coarse scale: unseen below, plain above


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
    """Share of the finest detail that delivery has left."""
    width: float = 100.0
    """Of the face as it was delivered, pixels."""


@dataclass(frozen=True)
class Stage:
    """A portrait brought to a working size."""

    image: Image
    landmarks: np.ndarray
    box: float
    """Longer side of the face's box, pixels; the box's centre is the picture's."""
    width: float
    """Width of the face, pixels."""
    painted: Image | None = None
    """The same portrait as a generator draws it, or whom it invented in its place."""


Forgery = Callable[[Stage, np.random.Generator], tuple[Image, np.ndarray]]
"""Makes a forged picture and the mask of what was altered."""


class Forger:
    """Makes pairs of a real and a forged crop from portraits."""

    def __init__(
        self,
        portraits: Sequence[Portrait],
        *,
        side: int = 224,
        margin: float = MARGIN,
        kinds: dict[str, float] | None = None,
        decoders: Sequence[Decoder] = (),
        strangers: Sequence[Portrait] = (),
        degrade: bool = True,
        encoded: bool = True,
        jitter: bool = True,
    ) -> None:
        """`side` and `margin` are the crop's; `strangers` are people who do not exist.

        For studies, `degrade`, in it the encoding as video, and `jitter` can be off.
        """
        self.portraits = portraits
        self.side = side
        self.margin = margin
        self.decoders = decoders
        self.strangers = strangers
        self.degrade = degrade
        self.encoded = encoded
        self.jitter = jitter
        self.painted = [number for number, p in enumerate(portraits) if p.painted is not None]
        kinds = dict(KINDS if kinds is None else kinds)
        if not self.painted:
            kinds.pop("painted", None)
        if not strangers:
            kinds.pop("invented", None)
        self.kinds = list(kinds)
        self.shares = np.array([kinds[k] for k in self.kinds]) / sum(kinds.values())
        self.weights = np.cumsum(weigh(portraits))

    def choose(self, seed: tuple[int, ...]) -> int:
        """The number of a portrait drawn by the seed."""
        return int(np.searchsorted(self.weights, np.random.default_rng(seed).random()))

    def draw(self, seed: tuple[int, ...]) -> tuple[Sample, Sample]:
        """A pair from a portrait drawn by the seed."""
        return self.pair(self.choose(seed), seed)

    def clips(
        self, number: int, seed: tuple[int, ...], length: int
    ) -> tuple[list[Sample], list[Sample]]:
        """The frames of a genuine and of a forged clip of portrait `number`.

        One camera, one encoder, one forger, and a head in motion. Forgers work frame by frame: most
        forgeries flicker.
        """
        pairs = [self.pair(number, seed, frame) for frame in range(1, length + 1)]
        return [real for real, _ in pairs], [fake for _, fake in pairs]

    def training_pair(self, seed: tuple[int, ...]) -> tuple[Sample, Sample]:
        """A pair to learn from: where nothing can be seen any more, often two real halves.

        A forgery whose traces are gone teaches nothing but to suspect poor video.
        """
        real, fake = self.draw(seed)
        left = keep_share(real.detail, real.width)
        if fake.kind != "invented":  # two people always differ plainly
            left = max(left, plainness(real, fake))
        if not self.degrade or np.random.default_rng((*seed, 4)).random() < left:
            return real, fake
        mirrored = np.ascontiguousarray(real.image[:, ::-1])
        return real, replace(real, image=mirrored)

    def pair(self, number: int, seed: tuple[int, ...], frame: int = 0) -> tuple[Sample, Sample]:
        """A real and a forged crop of portrait `number`, or of another that was drawn anew.

        From the first on, a frame is one of a clip; 0 is a picture that stands alone.
        """
        number %= len(self.portraits)
        rng = np.random.default_rng((*seed, 1))
        motion = np.random.default_rng((*seed, 6, frame)) if frame else None
        kind = str(rng.choice(self.kinds, p=self.shares))
        if kind == "painted" and self.portraits[number].painted is None:
            number = self.painted[int(rng.integers(len(self.painted)))]
        portrait = self.portraits[number]
        if kind == "invented":
            portrait = stand_in(portrait, self._stranger(portrait, rng))
        elif kind != "painted":  # nothing else looks at what was drawn of it
            portrait = replace(portrait, painted=None)
        bare = self._set_stage(portrait, rng, motion)
        generated = kind in GENERATED
        seen = self._through_lens(bare, (*seed, 5))
        stage = seen
        if self.degrade:
            noisy = 0.85 if generated else 0.5
            again = deepcopy(rng)
            taken = record(seen.image, rng, noisy=noisy, encoded=self.encoded)
            drawn = seen.painted
            if drawn is not None:
                drawn = record(drawn, again, noisy=noisy, encoded=self.encoded)
            stage = replace(seen, image=taken, painted=drawn)
        # What a generator draws was never in front of a sensor.
        source = seen if generated and chance(rng, 0.6) else stage
        forged, mask = self._forge(kind, source, np.random.default_rng((*seed, 2)))
        if motion is not None and chance(np.random.default_rng((*seed, 7)), FLICKERING):
            forged = flicker(forged, mask, stage.width, motion)
        finish = (*seed, 3)
        untouched = stage.image
        if self.degrade and chance(rng, UNIFORM_CHANGE):
            untouched = change_detail(untouched, stage.width, rng)
        real = self._finish(stage, untouched, np.zeros_like(mask), finish)
        fake = self._finish(stage, forged, mask, finish)
        return (
            Sample(real[0], False, "real", real[1], *real[2:]),
            Sample(fake[0], True, kind, fake[1], *real[2:]),
        )

    def _set_stage(
        self, portrait: Portrait, rng: np.random.Generator, motion: np.random.Generator | None
    ) -> Stage:
        native = portrait.image.shape[0] / (1 + PORTRAIT_MARGIN)
        low, largest = WORKING_WIDTH
        high = float(np.clip(portrait.face_width * 1.1, low + 8, largest))
        width = log_uniform(rng, max(low, 0.55 * high), high) if self.degrade else high
        angle = rng.normal(0, 6) if self.jitter and chance(rng, 0.5) else 0.0
        scaled = native * width / portrait.face_width
        image, landmarks, box = place(portrait, scaled, angle)
        painted = portrait.painted
        if painted is not None:
            painted = place(replace(portrait, image=painted), scaled, angle)[0]
        stage = Stage(image, landmarks, box, width, painted)
        return stage if motion is None else turn(stage, motion)

    def _through_lens(self, stage: Stage, seed: tuple[int, ...]) -> Stage:
        if not self.degrade:
            return stage
        head = part_mask(stage.image.shape, stage.landmarks, "head")

        def shown(image: Image) -> Image:
            return through_lens(image, head, stage.width, np.random.default_rng(seed))

        painted = None if stage.painted is None else shown(stage.painted)
        return replace(stage, image=shown(stage.image), painted=painted)

    def _forge(self, kind: str, stage: Stage, rng: np.random.Generator) -> tuple[Image, np.ndarray]:
        makers: dict[str, Forgery] = {
            "self": blend_self,
            "swap": lambda stage, rng: swap(stage, self._donor(stage, rng), rng),
            "bottleneck": squeeze,
            "part": alter_part,
            "synthetic": lambda stage, rng: synthesise(stage, self.decoders, rng),
            "painted": paint,
            "invented": show_stranger,
        }
        forged, mask = makers[kind](stage, rng)
        if kind not in GENERATED and chance(rng, STAINED):
            return stain(forged, mask, stage.width, rng)
        return forged, mask

    def _donor(self, stage: Stage, rng: np.random.Generator) -> Portrait:
        """Of a few portraits, the one that fits best: most forgers choose too."""
        looked_at = range(int(rng.choice(DONORS)))
        if self.strangers and chance(rng, INVENTED_DONORS):
            drawn = [self.strangers[int(rng.integers(len(self.strangers)))] for _ in looked_at]
        else:
            places = [int(np.searchsorted(self.weights, rng.random())) for _ in looked_at]
            drawn = [self.portraits[place] for place in places]
        target = shape_of(stage.landmarks)
        return min(drawn, key=lambda p: float(np.abs(shape_of(p.landmarks) - target).sum()))

    def _stranger(self, portrait: Portrait, rng: np.random.Generator) -> Portrait:
        """Of a few people who do not exist, the one who looks most like the portrait."""
        drawn = [self.strangers[int(n)] for n in rng.integers(len(self.strangers), size=STRANGERS)]
        return min(drawn, key=lambda s: float(np.abs(s.appearance - portrait.appearance).sum()))

    def _finish(
        self, stage: Stage, image: Image, mask: np.ndarray, seed: tuple[int, ...]
    ) -> tuple[Image, np.ndarray, float, float]:
        """The crop as the network sees it, its mask, the detail left, the face's width."""
        rng = np.random.default_rng(seed)
        side, before = image.shape[0], image
        share, shift, mirrored = (1 + self.margin) / CANVAS, np.zeros(2), False
        if self.jitter:
            share *= float(np.clip(rng.normal(1, 0.06), 0.85, 1.2))
            shift = rng.normal(0, 0.025, 2)
            mirrored = chance(rng, 0.5)
        if self.degrade:
            image = deliver(image, stage.width, SMALLEST_DELIVERED, rng, encoded=self.encoded)
        detail = detail_left(before, image)
        width = stage.width * image.shape[1] / side
        crop = cut_middle(image, share, shift * image.shape[0] / CANVAS, self.side)
        covered = cut_middle(mask, share, shift * side / CANVAS, self.side)
        if mirrored:
            crop, covered = crop[:, ::-1], covered[:, ::-1]
        covered = np.clip(covered, 0, 1)  # cubic resizing overshoots
        return np.ascontiguousarray(crop), covered, detail, width


def place(portrait: Portrait, box: float, angle: float) -> tuple[Image, np.ndarray, float]:
    """The portrait scaled so that its face box is `box` pixels long, turned, in a canvas."""
    scale = box * (1 + PORTRAIT_MARGIN) / portrait.image.shape[0]
    side = max(32, round(box * CANVAS / 2) * 2)
    whole = max(side, round(portrait.image.shape[0] * scale))
    scale = whole / portrait.image.shape[0]
    image = resize(portrait.image, whole, whole)
    landmarks = portrait.landmarks * scale
    if angle:
        image, landmarks = rotate(image, landmarks, angle)
    start = (whole - side) // 2
    image = np.ascontiguousarray(image[start : start + side, start : start + side])
    return image, landmarks - start, side / CANVAS


def rotate(
    image: Image, landmarks: np.ndarray, angle: float, scale: float = 1.0
) -> tuple[Image, np.ndarray]:
    """Turned about the middle, and enlarged; the picture keeps its size."""
    height, width = image.shape[:2]
    matrix: np.ndarray = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    turned = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return turned, landmarks @ matrix[:, :2].T + matrix[:, 2]


def turn(stage: Stage, rng: np.random.Generator) -> Stage:
    """The same with the head a little turned and nearer or farther."""
    angle, scale = rng.normal(0, 2.5), float(np.exp(rng.normal(0, 0.025)))
    image, landmarks = rotate(stage.image, stage.landmarks, angle, scale)
    painted = stage.painted
    if painted is not None:
        painted, _ = rotate(painted, stage.landmarks, angle, scale)
    return replace(stage, image=image, landmarks=landmarks, painted=painted)


def cut_middle(image: np.ndarray, share: float, shift: np.ndarray, side: int) -> np.ndarray:
    """The middle square of a square picture, `share` of its side long, moved by `shift`."""
    whole = image.shape[0]
    length = min(whole, round(whole * share))
    start = np.clip(np.rint((whole - length) / 2 + shift), 0, whole - length).astype(int)
    middle = image[start[1] : start[1] + length, start[0] : start[0] + length]
    return resize(middle, side, side)


def detail_left(before: Image, after: Image) -> float:
    """Correlation of two pictures' fine detail: what of it is still the same."""
    fine = []
    for image in (before, after):
        grey = cv2.cvtColor(resize(image, 224, 224), cv2.COLOR_RGB2GRAY).astype(np.float32)
        fine.append((grey - blur(grey, 1.5)).ravel())
    if min(f.std() for f in fine) < 1e-3:
        return 1.0
    return max(0.0, float(np.corrcoef(fine[0], fine[1])[0, 1]))


def keep_share(detail: float, width: float) -> float:
    """How often a forgery is kept of which this share of detail is left, in a face this wide."""
    sharp, large = (detail - 0.5) / 0.4, (width - 30) / 60
    return float(np.clip(sharp, 0.15, 1.0) * np.clip(large, 0.25, 1.0))


def plainness(real: Sample, fake: Sample) -> float:
    """How plainly the halves differ in what no encoder washes out: 0 not at all, 1 clearly."""
    coarse = [
        cv2.resize(half.image, (48, 48), interpolation=cv2.INTER_AREA).astype(np.float32)
        for half in (real, fake)
    ]
    cover = cv2.resize(fake.mask, (48, 48), interpolation=cv2.INTER_AREA)[..., None]
    square = cover * (coarse[0] - coarse[1]) ** 2
    depth = float(np.sqrt(square.sum() / (3 * cover.sum() + 1.0)))
    return float(np.clip((depth - PLAIN[0]) / (PLAIN[1] - PLAIN[0]), 0.0, 1.0))


def shape_of(landmarks: np.ndarray) -> np.ndarray:
    """The landmarks without place and size."""
    centred = landmarks - landmarks.mean(0)
    return centred / np.linalg.norm(centred)


def blend_mask(
    stage: Stage, rng: np.random.Generator, parts: Sequence[str] = (), hard: float = 0.1
) -> np.ndarray:
    """A deformed, softened mask. `hard` is the chance of an edge that was left sharp."""
    parts = parts or ("face", "face", "face", "head", "inner", "lower", "square")
    polygon = outline(stage.landmarks, str(rng.choice(parts)))
    middle = polygon.mean(0)
    polygon = middle + (polygon - middle) * rng.uniform(0.85, 1.12, 2)
    polygon = polygon + rng.normal(0, 0.025 * stage.width, polygon.shape)
    mask = draw_mask(stage.image.shape, polygon)
    if chance(rng, 0.5):
        mask = deform(mask, stage.width * rng.uniform(0.01, 0.04), stage.width * 0.25, rng)
    mask = np.clip(mask, 0, 1)
    if not chance(rng, hard):
        mask = blur(mask, stage.width * log_uniform(rng, 0.012, 0.09))
        if chance(rng, 0.5):  # softened inwards alone, as blending tools do
            mask = np.clip(mask * 2 - 1, 0, 1)
            mask = mask / max(float(mask.max()), 1e-6)
    return mask


def deform(
    image: np.ndarray, strength: float, reach: float, rng: np.random.Generator
) -> np.ndarray:
    """Moved by a smooth random field: `strength` is its deviation in pixels, `reach` its scale."""
    height, width = image.shape[:2]
    size = max(2, round(width / max(reach, 1.0))), max(2, round(height / max(reach, 1.0)))
    coarse = rng.normal(0, strength, (size[1], size[0], 2)).astype(np.float32)
    return move(image, cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def move(image: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Each pixel taken from where `moves`, height x width x 2 in pixels, points."""
    height, width = image.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return cv2.remap(
        image, x + moves[..., 0], y + moves[..., 1], cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def paste(below: Image, above: Image, mask: np.ndarray) -> Image:
    """`above` where the mask is 1, `below` where it is 0."""
    alpha = mask[..., None]
    return to_uint8(below * (1 - alpha) + above * alpha)


def shift_colours(image: Image, rng: np.random.Generator, strength: float = 1.0) -> Image:
    """Channels, hue, saturation, brightness and contrast a little off."""
    moved = image + rng.normal(0, 8 * strength, 3)
    hsv = cv2.cvtColor(to_uint8(moved), cv2.COLOR_RGB2HSV).astype(np.int16)
    hsv[..., 0] = (hsv[..., 0] + int(rng.normal(0, 3 * strength))) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * np.exp(rng.normal(0, 0.15 * strength)), 0, 255)
    moved = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32)
    contrast = np.exp(rng.normal(0, 0.1 * strength))
    return to_uint8((moved - 128) * contrast + 128 + rng.normal(0, 8 * strength))


def change_detail(image: Image, width: float, rng: np.random.Generator) -> Image:
    """Sharper, softer, coarser or cleaner than it was."""
    kind = int(rng.choice(4, p=[0.3, 0.35, 0.25, 0.1]))
    if kind == 0:
        return sharpen(image, rng.uniform(0.6, 2.0), rng.uniform(0.3, 1.5))
    if kind == 1:
        factor = log_uniform(rng, 1.4, 4.0)
        return shrink_and_enlarge(image, max(8, round(image.shape[1] / factor)), rng)
    if kind == 2:
        return blur(image, width * log_uniform(rng, 0.005, 0.025))
    return cv2.bilateralFilter(image, 5, rng.uniform(20, 60), 4)


def blend_self(stage: Stage, rng: np.random.Generator) -> tuple[Image, np.ndarray]:
    """The face blended with an altered copy of itself."""
    altered = stage.image
    if chance(rng, 0.85):
        altered = shift_colours(altered, rng, rng.uniform(0.4, 1.4))
    if chance(rng, 0.8):
        altered = change_detail(altered, stage.width, rng)
    inside, around = (altered, stage.image) if chance(rng, 0.6) else (stage.image, altered)
    matrix: np.ndarray = cv2.getRotationMatrix2D(
        (inside.shape[1] / 2, inside.shape[0] / 2), rng.normal(0, 1.2), rng.normal(1, 0.025)
    )
    matrix[:, 2] += rng.normal(0, 0.02, 2) * stage.width
    size = inside.shape[1], inside.shape[0]
    inside = cv2.warpAffine(
        inside, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if chance(rng, 0.4):
        inside = deform(inside, stage.width * rng.uniform(0.004, 0.015), stage.width * 0.3, rng)
    mask = blend_mask(stage, rng) * rng.choice([0.3, 0.5, 0.75, 1.0, 1.0, 1.0])
    return paste(around, inside, mask), mask


def match_colours(source: Image, target: Image, where: np.ndarray) -> Image:
    """The source's colours brought to the target's mean and spread inside a mask."""
    inside = where > 0.5
    if int(inside.sum()) < 16:
        return source
    lab, goal = (cv2.cvtColor(i, cv2.COLOR_RGB2LAB).astype(np.float32) for i in (source, target))
    have, want = lab[inside], goal[inside]
    scale = np.clip(want.std(0) / (have.std(0) + 1e-3), 0.5, 2.0)
    lab = (lab - have.mean(0)) * scale + want.mean(0)
    return cv2.cvtColor(to_uint8(lab), cv2.COLOR_LAB2RGB)


def swap(stage: Stage, donor: Portrait, rng: np.random.Generator) -> tuple[Image, np.ndarray]:
    """Another person's face, brought into place, its colours matched, blended in."""
    size = stage.image.shape[1], stage.image.shape[0]
    scale = stage.width / donor.face_width
    source = donor.image
    if donor.painted is not None and chance(rng, 0.4):  # a swap that a restorer went over
        source = donor.painted
    if scale < 1:
        side = max(16, round(source.shape[0] * scale))
        source, scale = resize(source, side, side), side / donor.image.shape[0]
    else:
        scale = 1.0
    points = donor.landmarks * scale
    if chance(rng, 0.35):  # landmarks found badly: features in the wrong place, or twice
        points = points + rng.normal(0, 0.03, points.shape) * stage.width
    points = points.astype(np.float32)
    estimate = cv2.estimateAffinePartial2D if chance(rng, 0.4) else cv2.estimateAffine2D
    matrix, _ = estimate(points, stage.landmarks.astype(np.float32), method=cv2.LMEDS)
    if matrix is None:
        return blend_self(stage, rng)
    source = cv2.warpAffine(
        source, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    if chance(rng, 0.5):  # what a swapping network's bottleneck leaves of it
        side = log_uniform(rng, 48, 128) * stage.image.shape[1] / stage.box
        source = shrink_and_enlarge(source, max(16, min(round(side), size[0])), rng)
    mask = blend_mask(stage, rng, ("face", "face", "inner", "head"), hard=0.2)
    if chance(rng, 0.15):  # the face below shows through
        mask = mask * rng.uniform(0.5, 0.9)
    if chance(rng, 0.7):
        source = match_colours(source, stage.image, mask)
    if chance(rng, 0.3):
        source = shift_colours(source, rng, 0.6)
    if chance(rng, 0.15):
        forged = clone(stage.image, source, mask)
        if forged is not None:
            return forged, mask
    return paste(stage.image, source, mask), mask


def clone(target: Image, source: Image, mask: np.ndarray) -> Image | None:
    """Poisson blending, where the mask allows it."""
    region = (mask > 0.5).astype(np.uint8) * 255
    region[:2], region[-2:], region[:, :2], region[:, -2:] = 0, 0, 0, 0
    x, y, width, height = cv2.boundingRect(region)
    if width < 8 or height < 8:
        return None
    return cv2.seamlessClone(
        source, target, region, (x + width // 2, y + height // 2), cv2.NORMAL_CLONE
    )


def stain(
    image: Image, mask: np.ndarray, width: float, rng: np.random.Generator
) -> tuple[Image, np.ndarray]:
    """Blotches of a wrong colour in the forged face or along its edge, and the mask with them."""
    height, across = image.shape[:2]
    reach = width * log_uniform(rng, 0.06, 0.3)
    size = max(2, round(across / reach)), max(2, round(height / reach))
    coarse = rng.standard_normal(size[::-1], np.float32)
    field = cv2.resize(coarse, (across, height), interpolation=cv2.INTER_CUBIC)
    near = blur(mask, width * rng.uniform(0.02, 0.06))
    if chance(rng, 0.4):
        near = 4 * near * (1 - near)
    inside = near > 0.3
    if not inside.any():
        return image, mask
    least = np.quantile(field[inside], rng.uniform(0.6, 0.95))
    spots = near * (0.5 + 0.5 * np.tanh((field - least) / log_uniform(rng, 0.1, 0.6)))
    tint = rng.normal(0, 1, 3) * rng.uniform(0, 0.7) + rng.choice([-1, 1])
    tint *= log_uniform(rng, 10, 60) / np.abs(tint).mean()
    return to_uint8(image + spots[..., None] * tint), np.maximum(mask, np.clip(spots, 0, 1))


def flicker(image: Image, mask: np.ndarray, width: float, rng: np.random.Generator) -> Image:
    """A frame whose forged part is off in place and tone, otherwise than its neighbours'."""
    moves = np.broadcast_to(rng.normal(0, 0.006 * width, 2), (*image.shape[:2], 2))
    moved = shift_colours(move(image, moves.astype(np.float32)), rng, 0.3)
    return paste(image, moved, mask)


def squeeze(stage: Stage, rng: np.random.Generator) -> tuple[Image, np.ndarray]:
    """The face through a low-resolution bottleneck, as early swapping networks leave it."""
    side = log_uniform(rng, 28, max(32.0, min(96.0, stage.width * 0.7)))
    side *= stage.image.shape[1] / stage.box
    made = shrink_and_enlarge(stage.image, max(12, round(side)), rng)
    if chance(rng, 0.5):
        made = shift_colours(made, rng, 0.5)
    if chance(rng, 0.5):
        made = sharpen(made, rng.uniform(0.8, 2.0), rng.uniform(0.3, 1.5))
    if chance(rng, 0.5):
        made = deform(made, stage.width * rng.uniform(0.003, 0.012), stage.width * 0.25, rng)
    mask = blend_mask(stage, rng)
    return paste(stage.image, made, mask), mask


def alter_part(stage: Stage, rng: np.random.Generator) -> tuple[Image, np.ndarray]:
    """Mouth, eyes or the lower face alone: re-enactment and lip synchronisation."""
    part = str(rng.choice(["mouth", "mouth", "lower", "lower", "eyes"]))
    made = stage.image
    if chance(rng, 0.7):
        made = move_part(made, stage, "eyes" if part == "eyes" else "mouth", rng)
    if chance(rng, 0.7):
        side = log_uniform(rng, 32, max(40.0, min(110.0, stage.width * 0.8)))
        side *= stage.image.shape[1] / stage.box
        made = shrink_and_enlarge(made, max(12, round(side)), rng)
    else:
        made = change_detail(made, stage.width, rng)
    if chance(rng, 0.5):
        made = shift_colours(made, rng, 0.5)
    mask = blend_mask(stage, rng, (part,), hard=0.15)
    return paste(stage.image, made, mask), mask


def move_part(image: Image, stage: Stage, part: str, rng: np.random.Generator) -> Image:
    """The mouth or the eyes opened, closed, widened by a smooth local stretch."""
    points = stage.landmarks[3:5] if part == "mouth" else stage.landmarks[:2]
    centre = points.mean(0)
    height, width = image.shape[:2]
    x, y = np.meshgrid(np.arange(width) - centre[0], np.arange(height) - centre[1])
    reach = stage.width * rng.uniform(0.12, 0.25)
    fall = np.exp(-(x**2 + (y * 1.3) ** 2) / (2 * reach**2))
    stretch = rng.normal(0, (0.12, 0.25))
    shift = rng.normal(0, 0.02, 2) * stage.width
    moves = np.stack([(x * stretch[0] + shift[0]) * fall, (y * stretch[1] + shift[1]) * fall], -1)
    return move(image, moves.astype(np.float32))


def synthesise(
    stage: Stage, decoders: Sequence[Decoder], rng: np.random.Generator
) -> tuple[Image, np.ndarray]:
    """The picture or a part of it re-made by a small decoder: animation, neural re-enactment."""
    image = stage.image
    if chance(rng, 0.5):
        image = move_part(image, stage, str(rng.choice(["mouth", "eyes"])), rng)
    if chance(rng, 0.4):
        image = deform(image, stage.width * rng.uniform(0.004, 0.015), stage.width * 0.4, rng)
    if decoders and chance(rng, 0.75):
        made = decoders[int(rng.integers(len(decoders)))].remake(image)
        if chance(rng, 0.7):  # large generators get tones right where small ones do not
            made = match_tones(made, image, stage.width, rng)
    else:
        made = upsample_unevenly(image, rng)
    return put_back(stage, made, rng)


def paint(stage: Stage, rng: np.random.Generator) -> tuple[Image, np.ndarray]:
    """The picture or a part of it as a large generator draws it."""
    made = drawn_on(stage, rng)
    if chance(rng, 0.7):
        made = match_tones(made, stage.image, stage.width, rng)
    return put_back(stage, made, rng)


def show_stranger(stage: Stage, rng: np.random.Generator) -> tuple[Image, np.ndarray]:
    """A person who does not exist, in place of the one in the picture."""
    return drawn_on(stage, rng), np.ones(stage.image.shape[:2], np.float32)


def drawn_on(stage: Stage, rng: np.random.Generator) -> Image:
    """What a generator drew for this stage, now and then worked on."""
    if stage.painted is None:
        raise ValueError("nothing was drawn of this portrait")
    if chance(rng, 0.3):
        return change_detail(stage.painted, stage.width, rng)
    return stage.painted


def match_tones(made: Image, image: Image, width: float, rng: np.random.Generator) -> Image:
    """What was made, its tones at coarse scale those of the picture."""
    reach = width * log_uniform(rng, 0.03, 0.15)
    return to_uint8(made + blur(image.astype(np.float32), reach) - blur(made, reach))


def put_back(stage: Stage, made: Image, rng: np.random.Generator) -> tuple[Image, np.ndarray]:
    """What was made in place of the picture, or of the head, the face or the mouth in it."""
    if chance(rng, 0.3):
        made = shift_colours(made, rng, 0.4)
    if chance(rng, 0.5):
        mask = blend_mask(stage, rng, ("head", "square", "face", "inner", "lower", "mouth"))
    else:
        mask = np.ones(made.shape[:2], np.float32)
    return paste(stage.image, made, mask), mask


def upsample_unevenly(image: Image, rng: np.random.Generator) -> Image:
    """Through half or quarter resolution and up by transposed convolution with an uneven kernel.

    Such layers treat odd and even pixels differently, which leaves a faint grid.
    """
    height, width = image.shape[:2]
    factor = int(rng.choice([2, 2, 2, 2, 4]))
    made: np.ndarray = resize(image, max(8, width // factor), max(8, height // factor))
    for _ in range(factor // 2):
        wide = np.zeros((made.shape[0] * 2, made.shape[1] * 2, 3), np.float32)
        wide[::2, ::2] = made
        taps = np.array([1, 3, 3, 1], np.float32) / 4
        kernel = np.outer(taps, taps) * np.exp(rng.normal(0, log_uniform(rng, 0.005, 0.08), (4, 4)))
        kernel *= 4 / kernel.sum()
        made = cv2.filter2D(wide, -1, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT)
    soft = blur(made, 1.2)
    made = made + (made - soft) * rng.uniform(0.0, 1.2)
    return resize(to_uint8(made), width, height)
