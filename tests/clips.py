"""Synthetic clips, faces and rows of an index, with known answers."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from skimage.data import astronaut

from benchmarks.footage import read_officer
from detector.records import Box, Face, Frame, Image
from detector.settings import Settings
from detector.training.datasets import Row
from detector.video import Clip


@cache
def portrait() -> Image:
    """A NASA portrait in the public domain, 512 x 512."""
    return np.ascontiguousarray(astronaut())


@cache
def other_portrait() -> Image:
    """A US Navy portrait in the public domain that matplotlib ships, 512 x 600."""
    return read_officer()


def texture(seed: int, width: int = 160, height: int = 120) -> Image:
    """A random picture with structure at every scale."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for size in (2, 5, 12, 30):
        noise = rng.uniform(0, 255, (size, size, 3)).astype(np.float32)
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / 4
    return np.clip(picture, 0, 255).astype(np.uint8)


def drift(picture: Image, count: int, width: int, height: int, speed: float = 1.0) -> list[Image]:
    """A camera that moves slowly over a picture."""
    frames = []
    room = picture.shape[1] - width, picture.shape[0] - height
    for number in range(count):
        x = int(min(room[0], number * speed)) if room[0] > 0 else 0
        y = int(min(room[1], number * speed / 2)) if room[1] > 0 else 0
        frames.append(picture[y : y + height, x : x + width])
    return frames


def write_clip(
    path: Path,
    frames: Iterable[Image],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: Fraction | int = 25,
    times: list[int] | None = None,
    options: dict[str, str] | None = None,
    with_sound: bool = False,
) -> Path:
    """Encode frames. `times` are presentation times in units of 1/1000 s, for variable rates."""
    frames = list(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = frames[0].shape[1], frames[0].shape[0]
        stream.pix_fmt = pixels
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if with_sound:
            add_silence(container, len(frames) / float(rate))
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def add_silence(container: av.container.OutputContainer, seconds: float) -> None:
    """A silent sound track."""
    sound = container.add_stream("aac", rate=48000)
    for number in range(int(seconds * 48000 / 1024)):
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 48000, number * 1024
        container.mux(sound.encode(frame))
    container.mux(sound.encode())


def write_sound(path: Path) -> Path:
    """A file with sound alone."""
    with av.open(str(path), "w") as container:
        add_silence(container, 1.0)
    return path


def rotate_by_metadata(path: Path, degrees: int) -> None:
    """Set the display matrix of an mp4's first track, as a phone does, without re-encoding."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    version = data[at]
    matrix = at + (4 + (32 if version else 20)) + 16
    one = 1 << 16
    turns = {
        0: (one, 0, 0, one), 90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)
    }  # fmt: skip
    a, b, c, d = turns[degrees]
    for offset, value in zip((0, 4, 12, 16), (a, b, c, d), strict=True):
        data[matrix + offset : matrix + offset + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(bytes(data))


def make_face(
    index: int,
    box: tuple[int, int, int, int] = (40, 40, 120, 140),
    *,
    appearance: np.ndarray | None = None,
    unfit: str | None = None,
    crop: Image | None = None,
) -> Face:
    """A face record, its landmarks where a face would have them."""
    left, top, right, bottom = box
    share = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    landmarks = np.array([left, top]) + share * [right - left, bottom - top]
    side = round(max(right - left, bottom - top) * 1.5)
    x, y = (left + right - side) // 2, (top + bottom - side) // 2
    return Face(
        frame_index=index,
        time=index / 25,
        box=box,
        confidence=0.999,
        landmarks=landmarks.astype(np.float32),
        crop=texture(index, side, side) if crop is None else crop,
        crop_box=(x, y, x + side, y + side),
        appearance=np.zeros(4, np.float32) if appearance is None else appearance,
        unfit=unfit,
    )


def make_row(crop: str = "", *, box: Box = (0, 0, 0, 0), **columns: Any) -> Row:
    """A row of an index, of a real face in the training split unless the columns say otherwise."""
    defaults = {
        "fake": 0, "video": "video", "group": "group", "dataset": "set", "method": "method",
        "split": "train", "frame": 0, "time": 0.0, "width": 90,
    }  # fmt: skip
    left, top, right, bottom = box
    return Row(crop, **{**defaults, **columns}, left=left, top=top, right=right, bottom=bottom)


def read_frames(path: Path, settings: Settings | None = None) -> Iterator[Frame]:
    """The frames of a clip or a still image: all of them, without other settings."""
    yield from Clip(path, settings or Settings(frames="all"))


def face_clip(count: int = 40) -> list[Image]:
    """The portrait seen by a moving camera, 400 x 300."""
    wide = cv2.copyMakeBorder(portrait(), 0, 0, 0, 100, cv2.BORDER_REPLICATE)
    return drift(wide, count, 400, 300, speed=1.2)
