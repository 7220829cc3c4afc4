"""The alterations that forgeries are made of: masks, warps, colour shifts, blending.

`blend_self`, `swap`, `squeeze`, `alter_part` and `synthesise` take a portrait at working size and a
random generator; they return a forged picture and the mask of what was altered.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from detector.faces import resize
from detector.masks import draw_mask, outline
from detector.records import Image
from detector.training.decoders import Decoder
from detector.training.degradation import (
    blur,
    chance,
    log_uniform,
    sharpen,
    shrink_and_enlarge,
    to_uint8,
)
from detector.training.portraits import Portrait, ScaledPortrait


def blend_mask(
    face: ScaledPortrait, rng: np.random.Generator, parts: Sequence[str] = (), hard: float = 0.1
) -> np.ndarray:
    """A random mask of a part of the face: deformed, and softened except with chance `hard`."""
    parts = parts or ("face", "face", "face", "head", "inner", "lower", "square")
    polygon = outline(face.landmarks, str(rng.choice(parts)))
    middle = polygon.mean(0)
    polygon = middle + (polygon - middle) * rng.uniform(0.85, 1.12, 2)
    polygon = polygon + rng.normal(0, 0.025 * face.width, polygon.shape)
    mask = draw_mask(face.image.shape, polygon)
    if chance(rng, 0.5):
        mask = deform(mask, face.width * rng.uniform(0.01, 0.04), face.width * 0.25, rng)
    mask = np.clip(mask, 0, 1)
    if not chance(rng, hard):
        mask = blur(mask, face.width * log_uniform(rng, 0.012, 0.09))
        if chance(rng, 0.5):  # soften inwards only, as blending tools do
            mask = np.clip(mask * 2 - 1, 0, 1)
            mask = mask / max(float(mask.max()), 1e-6)
    return mask


def deform(
    image: np.ndarray, strength: float, reach: float, rng: np.random.Generator
) -> np.ndarray:
    """Warp by a smooth random field with deviation `strength` and scale `reach`, in pixels."""
    height, width = image.shape[:2]
    size = max(2, round(width / max(reach, 1.0))), max(2, round(height / max(reach, 1.0)))
    coarse = rng.normal(0, strength, (size[1], size[0], 2)).astype(np.float32)
    return move(image, cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def move(image: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Take each pixel from the offset that `moves`, (height, width, 2) in pixels, gives."""
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
    """Shift channels, hue, saturation, brightness and contrast at random."""
    moved = image + rng.normal(0, 8 * strength, 3)
    hsv = cv2.cvtColor(to_uint8(moved), cv2.COLOR_RGB2HSV).astype(np.int16)
    hsv[..., 0] = (hsv[..., 0] + int(rng.normal(0, 3 * strength))) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * np.exp(rng.normal(0, 0.15 * strength)), 0, 255)
    moved = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB).astype(np.float32)
    contrast = np.exp(rng.normal(0, 0.1 * strength))
    return to_uint8((moved - 128) * contrast + 128 + rng.normal(0, 8 * strength))


def change_detail(image: Image, width: float, rng: np.random.Generator) -> Image:
    """Sharpen, downscale and upscale, blur or smooth the picture, at random."""
    kind = int(rng.choice(4, p=[0.3, 0.35, 0.25, 0.1]))
    if kind == 0:
        return sharpen(image, rng.uniform(0.6, 2.0), rng.uniform(0.3, 1.5))
    if kind == 1:
        factor = log_uniform(rng, 1.4, 4.0)
        return shrink_and_enlarge(image, max(8, round(image.shape[1] / factor)), rng)
    if kind == 2:
        return blur(image, width * log_uniform(rng, 0.005, 0.025))
    return cv2.bilateralFilter(image, 5, rng.uniform(20, 60), 4)


def blend_self(face: ScaledPortrait, rng: np.random.Generator) -> tuple[Image, np.ndarray]:
    """Blend the face with an altered copy of itself."""
    altered = face.image
    if chance(rng, 0.85):
        altered = shift_colours(altered, rng, rng.uniform(0.4, 1.4))
    if chance(rng, 0.8):
        altered = change_detail(altered, face.width, rng)
    inside, around = (altered, face.image) if chance(rng, 0.6) else (face.image, altered)
    matrix: np.ndarray = cv2.getRotationMatrix2D(
        (inside.shape[1] / 2, inside.shape[0] / 2), rng.normal(0, 1.2), rng.normal(1, 0.025)
    )
    matrix[:, 2] += rng.normal(0, 0.02, 2) * face.width
    size = inside.shape[1], inside.shape[0]
    inside = cv2.warpAffine(
        inside, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if chance(rng, 0.4):
        inside = deform(inside, face.width * rng.uniform(0.004, 0.015), face.width * 0.3, rng)
    mask = blend_mask(face, rng) * rng.choice([0.3, 0.5, 0.75, 1.0, 1.0, 1.0])
    return paste(around, inside, mask), mask


def match_colours(source: Image, target: Image, where: np.ndarray) -> Image:
    """Give the source the target's colour mean and deviation inside a mask."""
    inside = where > 0.5
    if int(inside.sum()) < 16:
        return source
    lab, goal = (cv2.cvtColor(i, cv2.COLOR_RGB2LAB).astype(np.float32) for i in (source, target))
    have, want = lab[inside], goal[inside]
    scale = np.clip(want.std(0) / (have.std(0) + 1e-3), 0.5, 2.0)
    lab = (lab - have.mean(0)) * scale + want.mean(0)
    return cv2.cvtColor(to_uint8(lab), cv2.COLOR_LAB2RGB)


def swap(
    face: ScaledPortrait, donor: Portrait, rng: np.random.Generator
) -> tuple[Image, np.ndarray]:
    """Align another person's face to this one, match its colours, blend it in."""
    size = face.image.shape[1], face.image.shape[0]
    scale = face.width / donor.face_width
    source = donor.image
    if scale < 1:
        side = max(16, round(source.shape[0] * scale))
        source, scale = resize(source, side, side), side / donor.image.shape[0]
    else:
        scale = 1.0
    points = donor.landmarks * scale
    if chance(rng, 0.35):  # badly detected landmarks: features misplaced or doubled
        points = points + rng.normal(0, 0.03, points.shape) * face.width
    points = points.astype(np.float32)
    estimate = cv2.estimateAffinePartial2D if chance(rng, 0.4) else cv2.estimateAffine2D
    matrix, _ = estimate(points, face.landmarks.astype(np.float32), method=cv2.LMEDS)
    if matrix is None:
        return blend_self(face, rng)
    source = cv2.warpAffine(
        source, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    if chance(rng, 0.5):  # the low resolution of a swapping network's bottleneck
        side = log_uniform(rng, 48, 128) * face.image.shape[1] / face.box
        source = shrink_and_enlarge(source, max(16, min(round(side), size[0])), rng)
    mask = blend_mask(face, rng, ("face", "face", "inner", "head"), hard=0.2)
    if chance(rng, 0.15):  # the original face shows through
        mask = mask * rng.uniform(0.5, 0.9)
    if chance(rng, 0.7):
        source = match_colours(source, face.image, mask)
    if chance(rng, 0.3):
        source = shift_colours(source, rng, 0.6)
    if chance(rng, 0.15):
        forged = clone(face.image, source, mask)
        if forged is not None:
            return forged, mask
    return paste(face.image, source, mask), mask


def clone(target: Image, source: Image, mask: np.ndarray) -> Image | None:
    """Poisson blending; None if the mask is too small."""
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
    """Add blotches of colour to the forged face or along its edge; the mask includes them."""
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
    """Shift the forged part in position and tone, differently in every frame."""
    moves = np.broadcast_to(rng.normal(0, 0.006 * width, 2), (*image.shape[:2], 2))
    moved = shift_colours(move(image, moves.astype(np.float32)), rng, 0.3)
    return paste(image, moved, mask)


def squeeze(face: ScaledPortrait, rng: np.random.Generator) -> tuple[Image, np.ndarray]:
    """Pass the face through a low-resolution bottleneck, as early swapping networks did."""
    side = log_uniform(rng, 28, max(32.0, min(96.0, face.width * 0.7)))
    side *= face.image.shape[1] / face.box
    made = shrink_and_enlarge(face.image, max(12, round(side)), rng)
    if chance(rng, 0.5):
        made = shift_colours(made, rng, 0.5)
    if chance(rng, 0.5):
        made = sharpen(made, rng.uniform(0.8, 2.0), rng.uniform(0.3, 1.5))
    if chance(rng, 0.5):
        made = deform(made, face.width * rng.uniform(0.003, 0.012), face.width * 0.25, rng)
    mask = blend_mask(face, rng)
    return paste(face.image, made, mask), mask


def alter_part(face: ScaledPortrait, rng: np.random.Generator) -> tuple[Image, np.ndarray]:
    """Alter the mouth, the eyes or the lower face only, as re-enactment and lip-sync do."""
    part = str(rng.choice(["mouth", "mouth", "lower", "lower", "eyes"]))
    made = face.image
    if chance(rng, 0.7):
        made = move_part(made, face, "eyes" if part == "eyes" else "mouth", rng)
    if chance(rng, 0.7):
        side = log_uniform(rng, 32, max(40.0, min(110.0, face.width * 0.8)))
        side *= face.image.shape[1] / face.box
        made = shrink_and_enlarge(made, max(12, round(side)), rng)
    else:
        made = change_detail(made, face.width, rng)
    if chance(rng, 0.5):
        made = shift_colours(made, rng, 0.5)
    mask = blend_mask(face, rng, (part,), hard=0.15)
    return paste(face.image, made, mask), mask


def move_part(image: Image, face: ScaledPortrait, part: str, rng: np.random.Generator) -> Image:
    """Open, close or widen the mouth or the eyes by a smooth local stretch."""
    points = face.landmarks[3:5] if part == "mouth" else face.landmarks[:2]
    centre = points.mean(0)
    height, width = image.shape[:2]
    x, y = np.meshgrid(np.arange(width) - centre[0], np.arange(height) - centre[1])
    reach = face.width * rng.uniform(0.12, 0.25)
    fall = np.exp(-(x**2 + (y * 1.3) ** 2) / (2 * reach**2))
    stretch = rng.normal(0, (0.12, 0.25))
    shift = rng.normal(0, 0.02, 2) * face.width
    moves = np.stack([(x * stretch[0] + shift[0]) * fall, (y * stretch[1] + shift[1]) * fall], -1)
    return move(image, moves.astype(np.float32))


def synthesise(
    face: ScaledPortrait, decoders: Sequence[Decoder], rng: np.random.Generator
) -> tuple[Image, np.ndarray]:
    """Redraw the picture or a part of it with a small decoder, as neural re-enactment does."""
    image = face.image
    if chance(rng, 0.5):
        image = move_part(image, face, str(rng.choice(["mouth", "eyes"])), rng)
    if chance(rng, 0.4):
        image = deform(image, face.width * rng.uniform(0.004, 0.015), face.width * 0.4, rng)
    if decoders and chance(rng, 0.75):
        made = decoders[int(rng.integers(len(decoders)))].redraw(image)
        if chance(rng, 0.7):  # large generators reproduce tones better than these small decoders
            made = match_tones(made, image, face.width, rng)
    else:
        made = upsample_unevenly(image, rng)
    return put_back(face, made, rng)


def match_tones(made: Image, image: Image, width: float, rng: np.random.Generator) -> Image:
    """Replace the coarse tones of `made` by those of the original picture."""
    reach = width * log_uniform(rng, 0.03, 0.15)
    return to_uint8(made + blur(image.astype(np.float32), reach) - blur(made, reach))


def put_back(
    face: ScaledPortrait, made: Image, rng: np.random.Generator
) -> tuple[Image, np.ndarray]:
    """Blend the redrawn picture into the original: all of it, the head, the face or the mouth."""
    if chance(rng, 0.3):
        made = shift_colours(made, rng, 0.4)
    if chance(rng, 0.5):
        mask = blend_mask(face, rng, ("head", "square", "face", "inner", "lower", "mouth"))
    else:
        mask = np.ones(made.shape[:2], np.float32)
    return paste(face.image, made, mask), mask


def upsample_unevenly(image: Image, rng: np.random.Generator) -> Image:
    """Downscale, then upscale by transposed convolutions with an uneven kernel.

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
