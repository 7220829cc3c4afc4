"""Clips to measure speed on, made by script from two portraits in the public domain.

The portraits, of astronaut Eileen Collins (NASA) and of Grace Hopper (US Navy), come with
scikit-image and matplotlib. A camera sways over them, with film grain. Every three seconds there is
a cut: to one person, to the other, to both, to a picture without a face.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from matplotlib.cbook import get_sample_data
from skimage import data

from detector.records import Image

RATE = 30  # frames a second
SHOT = 3  # length of a shot, seconds
SCENE = 1.12  # size of a scene relative to the frame, so that the camera can sway
PART = 10  # seconds that are drawn and encoded; longer clips repeat them


@dataclass(frozen=True)
class Footage:
    """A clip to make: its name, length in seconds, size in pixels, and people in one frame."""

    name: str
    seconds: int
    width: int
    height: int
    people: int | None = None
    """The number in every shot; None for shots of one, the other, both and nobody."""


FIVE_KINDS = (
    Footage("480p-10s", 10, 854, 480),
    Footage("720p-10s", 10, 1280, 720),
    Footage("1080p-10s", 10, 1920, 1080),
    Footage("1080p-60s", 60, 1920, 1080),
    Footage("2160p-10s", 10, 3840, 2160),
)


def make(footage: Footage, folder: Path) -> Path:
    """Make the clip unless the folder holds it; its path."""
    path = folder / f"{footage.name}.mp4"
    if path.exists():
        return path
    if footage.seconds <= PART:
        return _encode(path, footage)
    short = Footage(
        f"{footage.width}x{footage.height}-{footage.people}-part", PART, footage.width,
        footage.height, footage.people,
    )  # fmt: skip
    return _repeat(make(short, folder), path, footage.seconds // PART)


def read_officer() -> Image:
    """The portrait of Grace Hopper, 512 x 600."""
    with get_sample_data("grace_hopper.jpg") as file:
        coded = np.frombuffer(file.read(), np.uint8)
    return np.ascontiguousarray(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))[..., ::-1])


def _scenes(footage: Footage) -> list[Image]:
    """The scene of each shot, larger than the frame."""
    width, height = int(footage.width * SCENE), int(footage.height * SCENE)
    astronaut, officer = data.astronaut(), read_officer()
    coffee = cv2.resize(data.coffee(), (width, height), interpolation=cv2.INTER_CUBIC)

    def stand(people: list[Image]) -> Image:
        """People side by side in front of the coffee table, in as many rows as they need."""
        rows = 1 if len(people) <= 3 else 2 if len(people) <= 8 else 4
        columns = -(-len(people) // rows)
        scene = coffee.copy()
        side = int(min(height / rows, width / columns))
        for number, person in enumerate(people):
            row, column = divmod(number, columns)
            left = int((column + 0.5) * width / columns - side / 2)
            top = height - (rows - row) * side
            square = person[: person.shape[1]]
            scene[top : top + side, left : left + side] = cv2.resize(
                square, (side, side), interpolation=cv2.INTER_CUBIC
            )
        return scene

    if footage.people is not None:
        return [stand([(astronaut, officer)[n % 2] for n in range(footage.people)])]
    return [stand([astronaut]), stand([officer]), stand([astronaut, officer]), coffee]


def _frames(footage: Footage) -> Iterator[Image]:
    """The frames, a swaying camera's view of each scene, with grain."""
    rng = np.random.default_rng(0)
    scenes = _scenes(footage)
    room = scenes[0].shape[1] - footage.width, scenes[0].shape[0] - footage.height
    grain = rng.normal(0, 3, (footage.height + 64, footage.width + 64, 1)).astype(np.int8)
    for number in range(footage.seconds * RATE):
        scene = scenes[number // (SHOT * RATE) % len(scenes)]
        x = (0.5 + 0.45 * np.sin(number / 23)) * room[0]
        y = (0.5 + 0.45 * np.sin(number / 31 + 1)) * room[1]
        centre = x + footage.width / 2, y + footage.height / 2
        frame = cv2.getRectSubPix(scene, (footage.width, footage.height), centre)
        dx, dy = rng.integers(0, 64, 2)
        moved = grain[dy : dy + footage.height, dx : dx + footage.width]
        noisy = cv2.add(frame, np.repeat(moved, 3, axis=2).astype(np.int16), dtype=cv2.CV_8U)
        yield np.asarray(noisy)


def _encode(path: Path, footage: Footage) -> Path:
    part = path.with_name(path.name + ".part")
    with av.open(str(part), "w", format="mp4") as container:
        preset = "fast" if footage.height <= 1080 else "veryfast"  # to be made in minutes
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23", "preset": preset})
        stream.width, stream.height = footage.width, footage.height
        stream.pix_fmt = "yuv420p"
        for image in _frames(footage):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return part.replace(path)


def _repeat(short: Path, path: Path, times: int) -> Path:
    """Write a clip's packets several times, with later time stamps, without encoding anew."""
    part = path.with_name(path.name + ".part")
    with av.open(str(part), "w", format="mp4") as container:
        output = None
        for number in range(times):
            with av.open(str(short)) as source:
                stream = source.streams.video[0]
                output = output or container.add_stream_from_template(stream)
                shift = number * round(PART / stream.time_base)
                for packet in source.demux(stream):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = output
                    container.mux(packet)
    return part.replace(path)
