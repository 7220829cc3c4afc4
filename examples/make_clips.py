"""Makes the example clips from freely licensed pictures that packages ship.

The astronaut is a NASA portrait of Eileen Collins, the officer a US Navy portrait of Grace Hopper,
both in the public domain; the coffee cup is a CC0 photograph by Rachel Michetti. People who do not
exist are drawn by MobileStyleGAN (Belousov, 2021) with the weights of the package random-face
(Apache-2.0). One clip is left as it is; in one the officer's face is pasted onto the astronaut; in
one the astronaut stands beside an officer who wears the face of a person who does not exist; one
shows nobody; one shows such a person.

The clips were chosen to be answered rightly, and to hold the stress test: the genuine portrait
needs a soft lens for that. How often the detector is right, the model card tells.

    pip install --no-deps random-face==2021.7.21.1 openvino==2026.4.1
    PYTHONPATH=. python examples/make_clips.py
    PYTHONPATH=. python examples/make_answers.py
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from benchmarks.footage import read_officer
from detector.faces import FaceFinder
from detector.masks import part_mask
from detector.records import Face, Image, KeyFrame
from detector.training.blends import match_colours, paste
from detector.training.portraits import PORTRAIT_MARGIN
from detector.video import write_clip

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Camera:
    """A camera, and how its film is encoded."""

    seed: int
    """Of its sway and its grain."""
    width: int
    height: int
    grain: float = 2.5
    """Deviation of its noise, in grey levels."""
    blur: float = 0.0
    """Of its lens, in pixels of the picture."""
    crf: int = 24

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its frames."""
        return self.width, self.height


CAMERAS = {
    "genuine": Camera(12, 640, 512, grain=6, blur=0.8, crf=26),
    "manipulated": Camera(2, 720, 720),
    "two_people": Camera(3, 840, 450, grain=1.5, crf=22),
    "no_face": Camera(4, 480, 360),
    "generated": Camera(5, 480, 480),
}
SECONDS, RATE = 5, 25
WORN, SHOWN = 0, 7  # of the people who do not exist: whose face is worn, who is shown
VARIETY = 0.8  # how far such a person is from the mean one
SAMPLED = 1024  # people of whom that one is the mean
EDGE = 0.12  # of the distance between the eyes: how softly a pasted face ends


def strangers(*chosen: int) -> list[Image]:
    """The chosen ones of the people who do not exist."""
    import openvino

    (folder,) = find_spec("random_face").submodule_search_locations
    core = openvino.Core()
    style, drawn = (
        core.compile_model(Path(folder) / "data" / f"{name}.xml", "CPU")
        for name in ("MappingNetwork", "SynthesisNetwork")
    )
    seeds = np.random.default_rng(0).standard_normal((SAMPLED, 1, 512), np.float32)
    styles = [style(seed)[0] for seed in seeds]
    mean = np.mean(styles, axis=0)
    pictures = []
    for number in chosen:
        picture = drawn(mean + VARIETY * (styles[number] - mean))[0][0].transpose(1, 2, 0)
        pictures.append(np.clip((picture + 1) * 127.5, 0, 255).round().astype(np.uint8))
    return pictures


def sway(shape: tuple[int, ...], camera: Camera) -> tuple[list[np.ndarray], np.random.Generator]:
    """(the matrix that films a picture of this shape in each frame, the rest of the randomness).

    The camera is held by hand: it sways, and its zoom breathes.
    """
    rng = np.random.default_rng(camera.seed)
    count = SECONDS * RATE
    time = np.arange(count) / RATE
    swings = [
        sum(rng.normal(0, 2.2 / k) * np.sin(2 * np.pi * (0.13 * k * time + rng.random()))
            for k in range(1, 5))
        for _ in range(4)
    ]  # fmt: skip
    height, width = shape[:2]
    scale = max(camera.width / width, camera.height / height) * 1.08
    matrices = []
    for number in range(count):
        zoom = scale * (1 + 0.008 * swings[2][number])
        matrix = cv2.getRotationMatrix2D((width / 2, height * 0.42), 0.3 * swings[3][number], zoom)
        matrix[:, 2] += [camera.width / 2 - width / 2, camera.height * 0.45 - height * 0.42]
        matrix[:, 2] += [2.5 * swings[0][number], 2.0 * swings[1][number]]
        matrices.append(matrix)
    return matrices, rng


def film(picture: Image, camera: Camera) -> bytes:
    """The clip of a camera in front of a picture, with drifting light and grain."""
    matrices, rng = sway(picture.shape, camera)
    if camera.blur:
        picture = cv2.GaussianBlur(picture, (0, 0), camera.blur)
    frames = []
    for number, matrix in enumerate(matrices):
        frame = cv2.warpAffine(
            picture, matrix, camera.size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
        ).astype(np.float32)
        frame *= 1 + 0.02 * np.sin(2 * np.pi * number / RATE / 3.7)
        frame += rng.normal(0, camera.grain, frame.shape)
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    return write_clip(frames, rate=RATE, crf=camera.crf)


def film_mask(mask: np.ndarray, name: str) -> list[np.ndarray]:
    """How much of each pixel was altered, in each frame of an example."""
    camera = CAMERAS[name]
    matrices, _ = sway(mask.shape, camera)
    return [cv2.warpAffine(mask, matrix, camera.size, flags=cv2.INTER_AREA) for matrix in matrices]


def find_face(picture: Image) -> Face:
    """The one face of a picture."""
    (face,) = FaceFinder(margin=PORTRAIT_MARGIN).find([KeyFrame(0, 0.0, 0.0, picture)])
    return face


def face_mask(target: Image) -> np.ndarray:
    """How much of each pixel of a picture a pasted face replaces."""
    points = find_face(target).landmarks
    mask = part_mask(target.shape[:2], points, "face")
    soft = EDGE * float(np.linalg.norm(points[1] - points[0]))
    inner = cv2.erode(mask, np.ones((3, 3)), iterations=max(1, round(soft)))
    return cv2.GaussianBlur(inner, (0, 0), soft)


def paste_face(target: Image, donor: Image) -> Image:
    """The donor's face on the target.

    It is laid on the target's eyes, nose and mouth, and its colours are made alike.
    """
    matrix, _ = cv2.estimateAffinePartial2D(find_face(donor).landmarks, find_face(target).landmarks)
    size = target.shape[1], target.shape[0]
    laid = cv2.warpAffine(donor, matrix, size, flags=cv2.INTER_AREA)
    mask = face_mask(target)
    return paste(target, match_colours(laid, target, mask), mask)


def take_astronaut() -> Image:
    """The astronaut's whole picture."""
    return np.ascontiguousarray(data.astronaut())


def close_up(picture: np.ndarray) -> np.ndarray:
    """The astronaut's head and shoulders."""
    return np.ascontiguousarray(picture[:300, 90:390])


def closer_up(picture: np.ndarray) -> np.ndarray:
    """The astronaut's head."""
    return np.ascontiguousarray(picture[:224, 40:320])


def stand_beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The astronaut's picture on the left, the officer's on the right."""
    right = cv2.resize(right, (384, 450), interpolation=cv2.INTER_AREA)
    return np.hstack([left[:300, 80:360], right[40:340, 52:332]])


def altered_pixels() -> dict[str, np.ndarray]:
    """How much of each pixel was altered in the pictures with a pasted face."""
    astronaut = take_astronaut()
    nothing = np.zeros(astronaut.shape[:2], np.float32)
    return {
        "manipulated": close_up(face_mask(astronaut)),
        "two_people": stand_beside(nothing, face_mask(read_officer())),
    }


def make_pictures() -> dict[str, Image]:
    """Example -> the picture that is filmed."""
    astronaut, officer = take_astronaut(), read_officer()
    worn, shown = strangers(WORN, SHOWN)
    return {
        "genuine": closer_up(astronaut),
        "manipulated": close_up(paste_face(astronaut, officer)),
        "two_people": stand_beside(astronaut, paste_face(officer, worn)),
        "no_face": np.ascontiguousarray(data.coffee()),
        "generated": shown,
    }


def main(folder: Path = HERE) -> None:
    """Write the clips."""
    for name, picture in make_pictures().items():
        content = film(picture, CAMERAS[name])
        (folder / f"{name}.mp4").write_bytes(content)
        print(name, len(content) // 1000, "kB")


if __name__ == "__main__":
    main()
