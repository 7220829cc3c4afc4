"""A scan held against the straightforward pipeline of the field, on the same clips in one run.

    python -m benchmarks.straightforward [--key-frames N] [--only NAME...] [CLIP ...]

The straightforward pipeline is fairly written, of the same parts: cv2.VideoCapture reads every
frame at full size, differences are taken of full-size LUV frames and smoothed, their strongest
maxima are the key frames; facenet-pytorch's MTCNN searches each full-size key frame by itself; the
same network scores each face by itself in fp32; the same rules make the verdict. Without clips,
those of `benchmarks.profile` are made. Faces are compared on the scan's own key frames.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from facenet_pytorch import MTCNN

from benchmarks.footage import FIVE_KINDS, make
from benchmarks.profile import FOLDER, decode
from benchmarks.tables import print_head, print_row
from detector.faces import (
    LEAST_CONFIDENCE,
    SMALLEST_JUDGED,
    cut,
    describe,
    group_people,
    judge_fitness,
    square_around,
)
from detector.pipeline import scan
from detector.records import Face, Image, Scan, Verdict
from detector.scoring import Detector
from detector.settings import Settings
from detector.verdict import judge_clip, judge_people
from detector.weights import load_detector, load_network, resolve_weights

SMOOTHING = 7  # frames
ALIKE = 0.5  # overlap of two boxes, as a share of both together


@dataclass
class Straightforward:
    """The pipeline, its networks loaded."""

    detector: Detector
    count: int

    def __post_init__(self) -> None:
        self.finder = MTCNN(keep_all=True, device="cpu")
        self.network = load_network(resolve_weights())  # as it was trained

    def run(self, path: Path) -> Verdict:
        """From file to verdict."""
        times, images = self.choose(path)
        faces = [
            face
            for number, image in enumerate(images)
            for face in self.find(number, times[number], image)
        ]
        people = group_people(faces)
        answers = []
        for person in people:
            fit = [face for face in person.faces if face.unfit is None]
            made = [self.score(face.crop) for face in fit]
            signs = len(self.detector.calibration.signs)
            answers.append(np.concatenate(made) if made else np.zeros((0, signs)))
        calibration = self.detector.calibration
        return judge_clip(judge_people(people, answers, calibration), calibration)

    def choose(self, path: Path) -> tuple[list[float], list[Image]]:
        """The key frames' times and images; the clip does not fit in memory and is read twice."""
        differences, before = [0.0], None
        capture = cv2.VideoCapture(str(path))
        rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
        while True:
            there, frame = capture.read()
            if not there:
                break
            luv = cv2.cvtColor(frame, cv2.COLOR_BGR2LUV)
            if before is not None:
                differences.append(float(cv2.absdiff(luv, before).mean()))
            before = luv
        capture.release()
        smooth = np.convolve(differences, np.hanning(SMOOTHING + 2)[1:-1], "same")
        maxima = 1 + np.flatnonzero((smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:]))
        strongest = maxima[np.argsort(-smooth[maxima])][: self.count]
        even = np.linspace(0, len(differences) - 1, self.count).round().astype(int)
        chosen = sorted({*strongest.tolist(), *even[: self.count - len(strongest)].tolist()})
        return [n / rate for n in chosen], read_exactly(path, chosen)

    def find(self, number: int, at: float, image: Image) -> list[Face]:
        """The faces of a key frame, at full size."""
        with torch.inference_mode():
            boxes, confidences, points = self.finder.detect(image, landmarks=True)
        faces = []
        for corners, confidence, landmarks in (
            [] if boxes is None else zip(boxes, confidences, points, strict=True)
        ):
            left, top, right, bottom = (round(float(v)) for v in corners)
            box = (left, top, right, bottom)
            if confidence < LEAST_CONFIDENCE or min(right - left, bottom - top) < 2:
                continue
            region = square_around(box, self.detector.margin)
            landmarks = landmarks.astype(np.float32)
            faces.append(
                Face(
                    number, at, box, float(confidence), landmarks, cut(image, region), region,
                    describe(image, landmarks), judge_fitness(image, box, landmarks),
                )
            )  # fmt: skip
        return faces

    def score(self, crop: Image) -> np.ndarray:
        """One face's logits, (1, signs)."""
        with torch.inference_mode():
            return self.network.logits(self.detector.prepare([crop])).numpy()


def read_exactly(path: Path, indices: Sequence[int]) -> list[Image]:
    """Frames of a clip by their numbers, read from the start."""
    wanted, images = set(indices), []
    capture = cv2.VideoCapture(str(path))
    for index in range(max(wanted) + 1):
        if not capture.grab():
            break
        if index in wanted:
            _, frame = capture.retrieve()
            images.append(np.ascontiguousarray(frame[..., ::-1]))
    capture.release()
    return images


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Of two boxes, as a share of both together."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def count_alike(found: Scan, path: Path, plain: Straightforward) -> tuple[int, int]:
    """Of the large enough faces that MTCNN finds in the scan's key frames, how many it found."""
    ours: dict[int, list[Face]] = {}
    for person in found.people:
        for face in person.person.faces:
            ours.setdefault(face.frame_index, []).append(face)
    indices = [key_frame.index for key_frame in found.key_frames]
    there = alike = 0
    for index, image in zip(indices, read_exactly(path, indices), strict=False):
        for face in plain.find(index, 0.0, image):
            if face.box[2] - face.box[0] >= SMALLEST_JUDGED:
                there += 1
                alike += any(overlap(face.box, o.box) >= ALIKE for o in ours.get(index, []))
    return alike, there


def main() -> None:
    """Print one line a clip."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--only", nargs="*", default=[f.name for f in FIVE_KINDS])
    parser.add_argument("--key-frames", type=int, default=32)
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    clips = options.clips or [make(f, FOLDER) for f in FIVE_KINDS if f.name in options.only]
    detector = load_detector(device="cpu")
    if not isinstance(detector, Detector):
        raise SystemExit("The default detector is an ensemble: compare its members.")
    plain = Straightforward(detector, options.key_frames)
    settings = Settings(key_frames=options.key_frames, device="cpu")
    scan(clips[0], replace(settings, key_frames=4), detector=detector)  # warm up
    print_head(
        "clip", "bare decoding s", "straightforward s", "scan s", "times as fast", "faces alike",
        "probabilities",
    )  # fmt: skip
    for clip in clips:
        bare = decode(clip)
        began = time.perf_counter()
        verdict = plain.run(clip)
        slow = time.perf_counter() - began
        began = time.perf_counter()
        found = scan(clip, settings, detector=detector)
        fast = time.perf_counter() - began
        alike, there = count_alike(found, clip, plain)
        shown = " and ".join(
            "none" if p is None else f"{p:.3f}"
            for p in (verdict.probability, found.verdict.probability)
        )
        print_row(
            clip.stem, f"{bare:.2f}", f"{slow:.1f}", f"{fast:.2f}", f"{slow / fast:.1f}",
            f"{alike} of {there}", shown,
        )  # fmt: skip


if __name__ == "__main__":
    main()
