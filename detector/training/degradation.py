"""Simulated cameras, editors, encoders and platforms, for real and forged faces alike.

`through_lens` and `record` are applied before a forgery is made, `deliver` after it. Both classes
go through them with the same probabilities: neither blur nor compression tells them apart.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from detector.faces import resize
from detector.records import Image
from detector.video import Recoder

H264_SHARE, JPEG_SHARE = 0.7, 0.15  # of delivered pictures; the rest is not encoded
OLD_CODEC_SHARE = 0.15  # share of older codecs among video encodings
FINEST_CRF = 16  # lowest CRF, visually lossless
COARSEST_CRF = 29, 34, 40, 43  # highest CRF for faces 50, 100, 200 and 300 pixels wide
LARGEST_ENCODED = 560  # largest side of an enlarged picture, pixels, to limit the cost
JPEG_QUALITY = 30, 96  # range


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with this probability."""
    return bool(rng.random() < probability)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number whose logarithm is uniform between log(low) and log(high)."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def to_uint8(image: np.ndarray) -> Image:
    """Rounded and clipped to 0..255."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; sigma in pixels."""
    return cv2.GaussianBlur(image, (0, 0), max(sigma, 0.05))


def sharpen(image: Image, sigma: float, strength: float) -> Image:
    """Unsharp masking: amplify detail finer than `sigma` pixels."""
    return to_uint8(image + (image - blur(image, sigma).astype(np.float32)) * strength)


def light(image: Image, rng: np.random.Generator) -> Image:
    """Random colour grading and lighting."""
    if chance(rng, 0.45):
        image = grade(image, rng)
    if chance(rng, 0.3):
        image = relight(image, rng)
    return image


def through_lens(image: Image, head: np.ndarray, width: float, rng: np.random.Generator) -> Image:
    """Lighting, depth of field, defocus, motion blur, make-up, at random.

    Args:
        image: the picture.
        head: a soft mask of the head.
        width: the face's width, pixels.
        rng: the source of chance.
    """
    image = light(image, rng)
    if chance(rng, 0.3):
        image = blur_background(image, head, width, rng)
    if chance(rng, 0.25):
        image = blur(image, width * log_uniform(rng, 0.004, 0.02))
    if chance(rng, 0.12):
        image = blur_motion(image, width, rng)
    if chance(rng, 0.1):
        image = smooth_skin(image, head, rng)
    return image


def record(
    image: Image, rng: np.random.Generator, *, noisy: float = 0.4, encoded: bool = True
) -> Image:
    """Sensor noise, the camera's denoising, broadcast artefacts and a first encoding, at random.

    Args:
        image: the picture.
        rng: the source of chance.
        noisy: probability of noise.
        encoded: whether video encoders may be used.
    """
    if chance(rng, noisy):
        image = add_noise(image, rng)
        if chance(rng, 0.5):
            image = denoise(image, rng)
    if chance(rng, 0.12):
        image = televise(image, rng)
    if chance(rng, 0.25):
        image = encode_jpeg(image, int(rng.integers(45, 97)))
    elif chance(rng, 0.15) and encoded:
        image = encode_video([image], int(rng.integers(16, 30)), rng)[0]
    return image


def grade(image: Image, rng: np.random.Generator) -> Image:
    """Random colour grading: tone curve, tint, saturation."""
    gamma = np.exp(rng.normal(0, 0.22)) * np.exp(rng.normal(0, 0.06, 3))
    black, white = rng.uniform(-18, 25), rng.uniform(225, 275)
    levels = np.linspace(0, 1, 256)[:, None] ** gamma
    table = to_uint8(black + levels * (white - black))
    image = np.stack([cv2.LUT(image[..., c], table[:, c]) for c in range(3)], axis=-1)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    saturation = 0.0 if chance(rng, 0.03) else rng.uniform(0.4, 1.5)
    return to_uint8(grey + (image - grey) * saturation)


def relight(image: Image, rng: np.random.Generator) -> Image:
    """Random lighting: from one side, by coloured lamps, or the edge of a shadow."""
    height, width = image.shape[:2]
    kind = int(rng.choice(3, p=[0.5, 0.25, 0.25]))
    if kind == 0:
        light = np.exp(linear_ramp(height, width, rng) * rng.uniform(0.1, 0.6))[..., None]
    elif kind == 1:
        lamps = rng.normal(0, log_uniform(rng, 0.05, 0.3), (*rng.integers(2, 5, 2), 3))
        lamps -= lamps.mean((0, 1)) * 0.5
        light = np.exp(
            cv2.resize(lamps.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        )
    else:
        edge = linear_ramp(height, width, rng) - rng.uniform(-0.7, 0.7)
        lit = 0.5 + 0.5 * np.tanh(edge / log_uniform(rng, 0.04, 0.8))
        light = 1 - lit[..., None] * rng.uniform(0.1, 0.6) * rng.uniform(0.7, 1.0, 3)
    return to_uint8(image * (light * rng.normal(1, 0.03, 3)))


def linear_ramp(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A linear ramp in a random direction, from about -1 to 1."""
    angle = rng.uniform(0, 2 * np.pi)
    right = np.linspace(-1, 1, width, dtype=np.float32)[None] * np.float32(np.cos(angle))
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    return right + down


def blur_background(
    image: Image, head: np.ndarray, width: float, rng: np.random.Generator
) -> Image:
    """Blur the background, as a shallow depth of field does."""
    behind = blur(image, width * log_uniform(rng, 0.02, 0.15)).astype(np.float32)
    soft = blur(head, width * rng.uniform(0.03, 0.12))[..., None]
    return to_uint8(image * soft + behind * (1 - soft))


def blur_motion(image: Image, width: float, rng: np.random.Generator) -> Image:
    """Motion blur in a random direction."""
    length = max(2, round(width * log_uniform(rng, 0.015, 0.07)))
    kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
    angle = rng.uniform(0, np.pi)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    start, end = np.rint(length - reach).astype(int), np.rint(length + reach).astype(int)
    cv2.line(kernel, tuple(map(int, start)), tuple(map(int, end)), 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def smooth_skin(image: Image, head: np.ndarray, rng: np.random.Generator) -> Image:
    """Smooth the skin, as make-up, beauty filters or denoising do on real faces too."""
    smooth = cv2.bilateralFilter(image, 5, rng.uniform(10, 40), 5).astype(np.float32)
    alpha = rng.uniform(0.3, 1.0) * (head[..., None] if chance(rng, 0.5) else 1.0)
    return to_uint8(image * (1 - alpha) + smooth * alpha)


def add_noise(image: Image, rng: np.random.Generator) -> Image:
    """Sensor noise or film grain: stronger in shadows, sometimes coarse, sometimes coloured."""
    shape = image.shape if chance(rng, 0.5) else (*image.shape[:2], 1)
    noise = rng.standard_normal(shape, np.float32)
    if chance(rng, 0.5):
        noise = blur(noise, rng.uniform(0.4, 1.0)).reshape(shape)
        noise /= noise.std() + 1e-6
    strength = log_uniform(rng, 0.8, 12) * (1.15 - image.mean(axis=2, keepdims=True) / 300)
    return to_uint8(image + noise * strength)


def denoise(image: Image, rng: np.random.Generator) -> Image:
    """Denoise strongly, as webcams and phones do, and sometimes sharpen afterwards."""
    kind = int(rng.choice(3, p=[0.45, 0.35, 0.2]))
    if kind == 0:
        strength = float(log_uniform(rng, 3, 14))
        image = cv2.fastNlMeansDenoisingColored(image, None, strength, strength * 1.5, 5, 11)
    elif kind == 1:
        reach, strength = rng.uniform(2, 5), log_uniform(rng, 15, 70)
        for _ in range(int(rng.integers(1, 4))):
            image = cv2.bilateralFilter(image, 7, strength, reach)
    else:
        image = cv2.medianBlur(image, int(rng.choice([3, 3, 5])))
    if chance(rng, 0.5):
        image = sharpen(image, rng.uniform(0.7, 2.0), rng.uniform(0.3, 1.8))
    return image


def televise(image: Image, rng: np.random.Generator) -> Image:
    """Artefacts of broadcast, tape or cheap cameras: coarse colour, ringing, sometimes interlacing.

    They run along the lines of the picture, not across them.
    """
    height, width = image.shape[:2]
    luma, *chroma = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    few = max(4, round(width / rng.uniform(2, 6)))
    chroma = [resize(resize(c, few, height), width, height) for c in chroma]
    fine = luma.astype(np.float32)
    soft = cv2.GaussianBlur(fine, (0, 0), rng.uniform(0.7, 2.0), sigmaY=0.01)
    fine += (fine - soft) * rng.uniform(0.2, 1.5)
    if chance(rng, 0.3):  # a single field, its lines doubled
        fine[1::2] = fine[: 2 * (height // 2) : 2]
    elif chance(rng, 0.2):  # two fields of a face in motion
        fine[1::2] = np.roll(fine[1::2], int(rng.integers(1, 3)), axis=1)
    return cv2.cvtColor(cv2.merge([to_uint8(fine), *chroma]), cv2.COLOR_YCrCb2RGB)


def encode_jpeg(image: Image, quality: int) -> Image:
    """Encode and decode as JPEG."""
    _, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1])


def encode_video(images: Sequence[Image], crf: int, rng: np.random.Generator) -> list[Image]:
    """Encode pictures as later frames of a moving clip, in h264 or sometimes an older codec."""
    codec = "libx264"
    if chance(rng, OLD_CODEC_SHARE):
        codec = str(rng.choice(["mpeg4", "mpeg2video"]))
    before = int(rng.integers(0, 3))
    steps = rng.integers(-2, 3, (before, 2))
    coded = []
    for image in images:
        moved = [
            cv2.warpAffine(
                image,
                np.array([[1, 0, x], [0, 1, y]], np.float32),
                (image.shape[1], image.shape[0]),
                borderMode=cv2.BORDER_REPLICATE,
            )
            for x, y in steps
        ]
        coded.append(
            Recoder(crf, "superfast" if before else "veryfast", codec).run([*moved, image])[-1]
        )
    return coded


def deliver(
    image: Image, width: float, smallest: float, rng: np.random.Generator, *, encoded: bool = True
) -> Image:
    """Resize, add grain and titles, and encode once or twice, as on the way to a viewer.

    Portraits are often smaller than faces in video, so some are enlarged before encoding, which
    gives compression artefacts of the right size.

    Args:
        image: the picture.
        width: the face's width, pixels.
        smallest: width below which the face is not reduced, pixels.
        rng: the source of chance.
        encoded: whether video encoders may be used.
    """
    size = rng.random()
    factor = 1.0
    if size < 0.4:
        factor = min(log_uniform(rng, 1.15, 2.2), LARGEST_ENCODED / image.shape[1])
    elif size < 0.75 and width > smallest:
        factor = log_uniform(rng, smallest / width, 1.0)
    if factor != 1.0:
        side = max(16, round(image.shape[1] * factor))
        down = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(3))]
        up = (cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4)[int(rng.integers(3))]
        image = cv2.resize(image, (side, side), interpolation=down if factor < 1 else up)
    if chance(rng, 0.15):
        image = blur(image, log_uniform(rng, 0.3, 1.2))
    if chance(rng, 0.1):
        image = sharpen(image, rng.uniform(0.7, 1.6), rng.uniform(0.2, 1.0))
    if chance(rng, 0.12):
        image = add_noise(image, rng)
    if chance(rng, 0.05):
        image = draw_title(image, rng)
    kind = rng.random()
    if kind < H264_SHARE and encoded:
        coarsest = np.interp(np.log2(width * factor), np.log2([50, 100, 200, 300]), COARSEST_CRF)
        crf = int(rng.integers(FINEST_CRF, round(float(coarsest)) + 1))
        image = encode_video([image], crf, rng)[0]
        if chance(rng, 0.15):
            image = encode_video([image], int(rng.integers(18, 30)), rng)[0]
    elif H264_SHARE <= kind < H264_SHARE + JPEG_SHARE:
        image = encode_jpeg(image, int(rng.integers(*JPEG_QUALITY)))
    if chance(rng, 0.2):
        image = grade(image, rng)
    return image


def draw_title(image: Image, rng: np.random.Generator) -> Image:
    """Draw random text, like a station's logo or a subtitle."""
    image = image.copy()
    height, width = image.shape[:2]
    text = "".join(chr(c) for c in rng.integers(65, 91, int(rng.integers(3, 16))))
    start = int(rng.integers(0, width // 2)), int(rng.integers(height // 8, height))
    colour = tuple(int(v) for v in rng.integers(0, 256, 3))
    scale = width / 300 * rng.uniform(0.4, 1.4)
    cv2.putText(image, text, start, int(rng.integers(0, 5)), scale, colour, 1, cv2.LINE_AA)
    return image


def shrink_and_enlarge(image: Image, side: int, rng: np.random.Generator) -> Image:
    """Downscale to `side` pixels of width and upscale again, with a random kernel."""
    height, width = image.shape[:2]
    small = resize(image, side, max(1, round(side * height / width)))
    method = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
    chosen = method[int(rng.choice(4, p=[0.08, 0.4, 0.37, 0.15]))]
    return cv2.resize(small, (width, height), interpolation=chosen)
