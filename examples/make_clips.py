"""Makes the example clips from freely licensed pictures that packages ship.

The astronaut is a NASA portrait of Eileen Collins, the officer a US Navy portrait of Grace Hopper,
both in the public domain; the coffee cup is a CC0 photograph by Rachel Michetti. One clip is left
as it is; in one the officer's face is pasted onto the astronaut; in one the astronaut stands beside
an officer who wears the astronaut's face; one shows nobody; one shows a person who does not exist,
drawn by MobileStyleGAN (Belousov, 2021) with the weights of the package random-face (Apache-2.0).

    pip install --no-deps random-face==2021.7.21.1 openvino==2026.4.1
    PYTHONPATH=. python examples/make_clips.py
    PYTHONPATH=. python examples/make_answers.py
"""

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
FILMED = {
    "genuine": (1, (480, 360)), "manipulated": (2, (720, 720)), "two_people": (3, (840, 450)),
    "no_face": (4, (480, 360)), "generated": (5, (400, 400)),
}  # fmt: skip
"""Example -> seed of its camera, width and height of its frames."""
SECONDS, RATE = 5, 25
VARIETY = 0.8  # how far the person who does not exist is from the mean one
SAMPLED = 1024  # people of whom that one is the mean
EDGE = 0.12  # of the distance between the eyes: how softly a pasted face ends


def stranger() -> Image:
    """A person who does not exist."""
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
    picture = drawn(mean + VARIETY * (styles[0] - mean))[0][0].transpose(1, 2, 0)
    return np.clip((picture + 1) * 127.5, 0, 255).round().astype(np.uint8)


def camera(
    shape: tuple[int, ...], seed: int, size: tuple[int, int]
) -> tuple[list[np.ndarray], np.random.Generator]:
    """(the matrix that films a picture of this shape in each frame, the rest of the randomness).

    A hand-held camera: sway and a breathing zoom.
    """
    rng = np.random.default_rng(seed)
    count = SECONDS * RATE
    time = np.arange(count) / RATE
    sway = [
        sum(rng.normal(0, 2.2 / k) * np.sin(2 * np.pi * (0.13 * k * time + rng.random()))
            for k in range(1, 5))
        for _ in range(4)
    ]  # fmt: skip
    height, width = shape[:2]
    scale = max(size[0] / width, size[1] / height) * 1.08
    matrices = []
    for number in range(count):
        zoom = scale * (1 + 0.008 * sway[2][number])
        matrix = cv2.getRotationMatrix2D((width / 2, height * 0.42), 0.3 * sway[3][number], zoom)
        matrix[:, 2] += [size[0] / 2 - width / 2, size[1] * 0.45 - height * 0.42]
        matrix[:, 2] += [2.5 * sway[0][number], 2.0 * sway[1][number]]
        matrices.append(matrix)
    return matrices, rng


def film(picture: Image, name: str) -> list[Image]:
    """The frames of an example: its camera in front of a picture, drifting light, grain."""
    seed, size = FILMED[name]
    matrices, rng = camera(picture.shape, seed, size)
    frames = []
    for number, matrix in enumerate(matrices):
        frame = cv2.warpAffine(
            picture, matrix, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
        ).astype(np.float32)
        frame *= 1 + 0.02 * np.sin(2 * np.pi * number / RATE / 3.7)
        frame += rng.normal(0, 2.5, frame.shape)
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    return frames


def film_mask(mask: np.ndarray, name: str) -> list[np.ndarray]:
    """How much of each pixel was altered, in each frame of an example."""
    seed, size = FILMED[name]
    matrices, _ = camera(mask.shape, seed, size)
    return [cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_AREA) for matrix in matrices]


def find_face(picture: Image) -> Face:
    """The one face of a picture."""
    (face,) = FaceFinder(margin=PORTRAIT_MARGIN).find([KeyFrame(0, 0.0, 0.0, picture)])
    return face


def paste_face(target: Image, donor: Image) -> tuple[Image, np.ndarray]:
    """(the donor's face on the target, how much of each pixel was replaced).

    It is laid on the target's eyes, nose and mouth, and its colours are made alike.
    """
    onto, taken = find_face(target).landmarks, find_face(donor).landmarks
    matrix, _ = cv2.estimateAffinePartial2D(taken, onto)
    size = target.shape[1], target.shape[0]
    laid = cv2.warpAffine(donor, matrix, size, flags=cv2.INTER_AREA)
    mask = part_mask(target.shape[:2], onto, "face")
    width = float(np.linalg.norm(onto[1] - onto[0]))
    inner = cv2.erode(mask, np.ones((3, 3)), iterations=max(1, round(EDGE * width)))
    soft = cv2.GaussianBlur(inner, (0, 0), EDGE * width)
    return paste(target, match_colours(laid, target, soft), soft), soft


def close_up(picture: np.ndarray) -> np.ndarray:
    """The astronaut's head and shoulders."""
    return np.ascontiguousarray(picture[:300, 90:390])


def beside(picture: np.ndarray) -> np.ndarray:
    """The officer's picture, cut to stand beside the astronaut's."""
    return cv2.resize(picture, (384, 450), interpolation=cv2.INTER_AREA)[40:340, 52:332]


def forge() -> dict[str, tuple[Image, np.ndarray]]:
    """(the forged picture, how much of each pixel was altered) of the examples with a paste."""
    astronaut, officer = np.ascontiguousarray(data.astronaut()), read_officer()
    swapped, mask = paste_face(astronaut, officer)
    worn, covered = paste_face(officer, astronaut)
    left = astronaut[:300, 80:360]
    return {
        "manipulated": (close_up(swapped), close_up(mask)),
        "two_people": (
            np.hstack([left, beside(worn)]),
            np.hstack([np.zeros(left.shape[:2], np.float32), beside(covered)]),
        ),
    }


def main(folder: Path = HERE) -> None:
    """Write the clips."""
    pictures = {
        "genuine": np.ascontiguousarray(data.astronaut()),
        **{name: forged for name, (forged, _) in forge().items()},
        "no_face": np.ascontiguousarray(data.coffee()),
        "generated": stranger(),
    }
    for name, picture in pictures.items():
        content = write_clip(film(picture, name), rate=RATE, crf=24)
        (folder / f"{name}.mp4").write_bytes(content)
        print(name, len(content) // 1000, "kB")


if __name__ == "__main__":
    main()
