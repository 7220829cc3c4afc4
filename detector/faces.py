"""Key frames -> faces -> people.

In each run of a few key frames the first is searched completely, the others only near the faces of
the frame before. Faces that cannot be judged are kept and marked.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from detector.mtcnn import CELL, Detection, load_cascade, only_apart
from detector.records import Box, Face, Image, KeyFrame, Person
from detector.workers import map_on_threads

WINDOW = 1.2  # side of MTCNN's window, in widths of the face in it
WINDOW_SHARE = 0.03  # smallest window searched, as a share of the frame's longest side
CLOSE_SIDE = 720  # longest side, in pixels, for the second search of a clip without faces
ENLARGE_LIMIT = 2.0  # small frames are enlarged at most this much for it
SMALLEST_SEARCHED = 24  # smallest window of the second search, pixels
PAD_CELLS = 30  # smallest window in a padded frame: its longest side divided by this
RUN = 4  # key frames in a run, of which the first is searched completely
NEARBY = 1.4  # margin around a face in which the next frame is searched, as a share of its box
SMALLER = 0.65  # how much smaller a face may be in the next frame
GRID = 32, 18  # cells of the coarse brightness grid by which frames are compared
NEW = 40  # change of a cell's brightness, of 255, above which a new face may have appeared
LEAST_CONFIDENCE = 0.95  # MTCNN gives other objects up to 0.91
LEAST_CONFIDENCE_TINY = 0.99  # for tiny faces, about which it is wrong more often
TINY = 40  # pixels of face width, in the full frame
PAD_SHARE = 0.35  # border added around a frame that a face may fill, as a share of its side
CROP_MARGIN = 0.5  # share of the face's box shown around it, if the checkpoint does not say
CROP_LIMIT = 512  # pixels; larger crops are reduced to this side
ALIGNED = 64  # side of the aligned face from which the descriptor is computed

SMALLEST_JUDGED = 48  # pixels of face width
LEAST_SHARPNESS = 2.2  # deviation of the Laplacian on a 112-pixel face; compressed video has 5
LARGEST_TURN = 0.62  # nose offset from the eyes' middle, in eye distances

SAME_PERSON = 0.85  # largest descriptor distance to a person's mean: same person 0.4, others 1.1
SAME_PLACE = 0.5  # largest movement between neighbouring key frames, in face widths
IN_PLACE = 0.7  # factor on the distance of a face that moved less than that
SAME_PEOPLE = 0.92  # largest mean distance of two tracks' faces: same person 0.7, others 1.1

# Eyes, nose and mouth corners of an upright face in a square of side 1 (ArcFace's template).
TEMPLATE = np.array(
    [[0.342, 0.461], [0.657, 0.460], [0.500, 0.641], [0.371, 0.825], [0.631, 0.823]], np.float32
)


def square_around(box: Box, margin: float) -> Box:
    """The square around a box's centre, its side the longer side of the box times 1 + margin."""
    left, top, right, bottom = box
    side = max(2, round(max(right - left, bottom - top) * (1 + margin)))
    x = round((left + right - side) / 2)
    y = round((top + bottom - side) / 2)
    return x, y, x + side, y + side


def resize(image: Image, width: int, height: int) -> Image:
    """Resize with area averaging when shrinking (no aliasing) and cubic when enlarging."""
    shrinks = width * height < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=method)


def cut(image: Image, region: Box, limit: int = CROP_LIMIT) -> Image:
    """Cut a region, at most `limit` pixels wide; beyond the image, edge pixels are repeated."""
    left, top, right, bottom = region
    height, width = image.shape[:2]
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    pads = max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0)
    if any(pads):
        inside = cv2.copyMakeBorder(inside, *pads, cv2.BORDER_REPLICATE)
    if inside.shape[1] > limit:
        inside = resize(inside, limit, round(limit * inside.shape[0] / inside.shape[1]))
    return np.ascontiguousarray(inside)


def align(image: Image, landmarks: np.ndarray, side: int = ALIGNED) -> Image:
    """Rotate and scale the face so that eyes and mouth lie on the template."""
    matrix, _ = cv2.estimateAffinePartial2D(
        landmarks.astype(np.float32), TEMPLATE * side, method=cv2.LMEDS
    )
    if matrix is None:
        return resize(image, side, side)
    return cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )


def describe(image: Image, landmarks: np.ndarray) -> np.ndarray:
    """A descriptor of the face: gradient histograms and coarse colours of the aligned face."""
    aligned = align(image, landmarks)
    grey = cv2.GaussianBlur(cv2.cvtColor(aligned, cv2.COLOR_RGB2GRAY), (0, 0), 1.5)
    grey = grey.astype(np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength, angle = cv2.cartToPolar(across, down)
    bins = (angle * (8 / (2 * np.pi))).astype(int) % 8
    histogram = np.stack(
        [
            cv2.resize(strength * (bins == b), (8, 8), interpolation=cv2.INTER_AREA)
            for b in range(8)
        ],
        axis=-1,
    ).reshape(64, 8)
    histogram /= np.linalg.norm(histogram, axis=1, keepdims=True) + 8.0
    gradients = histogram.ravel() / (np.linalg.norm(histogram) + 1e-6)
    lab = cv2.cvtColor(aligned, cv2.COLOR_RGB2LAB).astype(np.float32)
    colours = cv2.resize(lab, (4, 4), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    colours = (colours - [128, 128, 128]) / [120, 30, 30]
    return np.concatenate([gradients, colours.ravel() * 0.12]).astype(np.float32)


def judge_fitness(image: Image, box: Box, landmarks: np.ndarray) -> str | None:
    """The reason why a face cannot be judged, or None."""
    width = box[2] - box[0]
    if width < SMALLEST_JUDGED:
        return f"too small ({width} pixels wide, {SMALLEST_JUDGED} are needed)"
    left_eye, right_eye, nose = landmarks[:3]
    eyes = float(np.linalg.norm(right_eye - left_eye))
    mouth = landmarks[3:].mean(0)
    height = float(np.linalg.norm(mouth - (left_eye + right_eye) / 2))
    along = (right_eye - left_eye) / max(eyes, 1e-6)
    turn = abs(float((nose - (left_eye + right_eye) / 2) @ along)) / max(eyes, 1e-6)
    if turn > LARGEST_TURN or eyes < 0.45 * height:
        return "too turned away"
    face = cv2.cvtColor(cut(image, square_around(box, 0.0)), cv2.COLOR_RGB2GRAY)
    sharpness = float(cv2.Laplacian(cv2.resize(face, (112, 112)), cv2.CV_64F).std())
    if sharpness < LEAST_SHARPNESS:
        return "too blurred"
    return None


class Finder(Protocol):
    """What a scan needs to find faces."""

    def find(self, key_frames: Iterable[KeyFrame], *, threads: int = 1) -> list[Face]: ...  # noqa: D102


class FaceFinder:
    """Finds faces in key frames with MTCNN."""

    def __init__(self, device: str = "cpu", *, margin: float = CROP_MARGIN) -> None:
        """`margin` is the share of the box that crops show around it, as in training."""
        self.margin = margin
        self._cascade = load_cascade(device)

    def find(self, key_frames: Iterable[KeyFrame], *, threads: int = 1) -> list[Face]:
        """All faces of the key frames, in the order of the frames.

        If there are none, all frames are searched again for tiny faces and for faces that fill the
        frame; `key_frames` is then iterated twice. The number of threads does not change the
        result.
        """
        for search in (self._search_run, self._search_closely):
            runs = _in_runs(key_frames)
            faces = [face for run in map_on_threads(search, runs, threads) for face in run]
            if faces:
                break
        return faces

    def _search_run(self, key_frames: Sequence[KeyFrame]) -> list[Face]:
        """Search the first frame of a run completely, the others near the known faces."""
        faces: list[Face] = []
        known: list[Detection] = []
        before: np.ndarray | None = None
        for key_frame in key_frames:
            image, grid = key_frame.image, _coarse_grid(key_frame.image)
            found = self._follow(image, known) if _is_alike(before, grid, known, image) else []
            if not known or len(_sure(found)) != len(known):
                found = self._cascade.find(image, smallest_window(image))
            known, before = _sure(found), grid
            faces += self._make_faces(key_frame, found)
        return faces

    def _follow(self, image: Image, known: Sequence[Detection]) -> list[Detection]:
        """Search near the faces of the frame before."""
        found: list[Detection] = []
        for face in known:
            left, top, right, bottom = square_around(
                (round(face.box[0]), round(face.box[1]), round(face.box[2]), round(face.box[3])),
                NEARBY,
            )
            left, top = max(0, left), max(0, top)
            part = image[top:bottom, left:right]
            side = float(max(face.box[2] - face.box[0], face.box[3] - face.box[1]))
            if min(part.shape[:2]) < CELL:
                continue
            offset = np.array([left, top], np.float32)
            found += [
                Detection(d.box + np.tile(offset, 2), d.confidence, d.landmarks + offset)
                for d in self._cascade.find(part, SMALLER * side)
            ]
        return only_apart(found)

    def _search_closely(self, key_frames: Sequence[KeyFrame]) -> list[Face]:
        faces: list[Face] = []
        for key_frame in key_frames:
            image = key_frame.image
            longest = max(image.shape[:2])
            scale = min(CLOSE_SIDE / longest, ENLARGE_LIMIT)
            found = self._cascade.find(image, SMALLEST_SEARCHED / scale)
            if not found:
                found = self._find_padded(image)
            faces += self._make_faces(key_frame, found)
        return faces

    def _find_padded(self, image: Image) -> list[Detection]:
        """Search with a border around the image, for a face that fills the frame.

        The border is no wider than the image's shorter side: a border in proportion to the longer
        side of an image of 96 x 59720 pixels took 10 GiB.
        """
        pad = min(round(max(image.shape[:2]) * PAD_SHARE), min(image.shape[:2]))
        padded = cv2.copyMakeBorder(
            image, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(127, 127, 127)
        )
        return [
            Detection(d.box - pad, d.confidence, d.landmarks - pad)
            for d in self._cascade.find(padded, max(padded.shape[:2]) / PAD_CELLS)
        ]

    def _make_faces(self, key_frame: KeyFrame, found: Sequence[Detection]) -> list[Face]:
        made = (self._make_face(key_frame, d.box, d.confidence, d.landmarks) for d in found)
        return [face for face in made if face is not None]

    def _make_face(
        self, key_frame: KeyFrame, corners: np.ndarray, confidence: float, landmarks: np.ndarray
    ) -> Face | None:
        height, width = key_frame.image.shape[:2]
        left, top = max(0, int(corners[0])), max(0, int(corners[1]))
        right, bottom = min(width, round(corners[2])), min(height, round(corners[3]))
        if right - left < 8 or bottom - top < 8:
            return None
        needed = LEAST_CONFIDENCE_TINY if right - left < TINY else LEAST_CONFIDENCE
        if confidence < needed:
            return None
        return cut_face(key_frame, (left, top, right, bottom), confidence, landmarks, self.margin)


def cut_face(
    key_frame: KeyFrame, box: Box, confidence: float, landmarks: np.ndarray, margin: float
) -> Face:
    """The face of a box."""
    region = square_around(box, margin)
    landmarks = np.asarray(landmarks, np.float32)
    return Face(
        frame_index=key_frame.index,
        time=key_frame.time,
        box=box,
        confidence=confidence,
        landmarks=landmarks,
        crop=cut(key_frame.image, region),
        crop_box=region,
        appearance=describe(key_frame.image, landmarks),
        unfit=judge_fitness(key_frame.image, box, landmarks),
    )


def smallest_window(image: Image) -> float:
    """Side in pixels of the smallest window that is searched."""
    return max(WINDOW * SMALLEST_JUDGED, WINDOW_SHARE * max(image.shape[:2]))


def _in_runs(key_frames: Iterable[KeyFrame]) -> Iterator[list[KeyFrame]]:
    rest = iter(key_frames)
    while run := list(itertools.islice(rest, RUN)):
        yield run


def _sure(found: Sequence[Detection]) -> list[Detection]:
    return [face for face in found if face.confidence >= LEAST_CONFIDENCE]


def _coarse_grid(image: Image) -> np.ndarray:
    """The frame's brightness on a coarse grid."""
    step = max(1, min(image.shape[:2]) // 180)
    coarse = cv2.cvtColor(np.ascontiguousarray(image[::step, ::step]), cv2.COLOR_RGB2GRAY)
    return cv2.resize(coarse, GRID, interpolation=cv2.INTER_AREA).astype(np.float32)


def _is_alike(
    before: np.ndarray | None, grid: np.ndarray, known: Sequence[Detection], image: Image
) -> bool:
    """Whether the frame changed too little outside the known faces for a new face to appear."""
    if before is None:
        return False
    changed = np.abs(grid - before)
    height, width = image.shape[:2]
    for face in known:
        left, top, right, bottom = face.box * np.tile([GRID[0] / width, GRID[1] / height], 2)
        changed[max(0, int(top)) : int(bottom) + 1, max(0, int(left)) : int(right) + 1] = 0
    return float(changed.max()) < NEW


@dataclass
class _Track:
    """Faces assigned to one person so far, with their mean descriptor."""

    faces: list[Face]
    appearance: np.ndarray

    def add(self, face: Face) -> None:
        self.faces.append(face)
        self.appearance = self.appearance + (face.appearance - self.appearance) / min(
            len(self.faces), 8
        )


def group_people(faces: Sequence[Face]) -> list[Person]:
    """Group faces into people by position in neighbouring frames and by appearance.

    Faces in the same frame belong to different people. People are sorted by their number of faces.
    """
    tracks: list[_Track] = []
    for _, group in itertools.groupby(
        sorted(faces, key=lambda f: (f.time, f.frame_index)), key=lambda f: f.frame_index
    ):
        _extend_tracks(tracks, list(group))
    tracks = _merge_tracks(tracks)
    tracks.sort(key=lambda t: (-len(t.faces), t.faces[0].time, t.faces[0].box))
    return [Person(number, tuple(t.faces)) for number, t in enumerate(tracks, 1)]


def _extend_tracks(tracks: list[_Track], faces: list[Face]) -> None:
    """Assign each face of a frame to the best matching track, or start a new one."""
    if tracks:
        costs = np.array([[_misfit(track, face) for track in tracks] for face in faces])
        rows, columns = linear_sum_assignment(costs)
    else:
        costs, rows, columns = np.zeros((0, 0)), [], []
    placed = {
        int(row): tracks[int(column)]
        for row, column in zip(rows, columns, strict=True)
        if costs[row, column] < 1
    }
    for number, face in enumerate(faces):
        if number in placed:
            placed[number].add(face)
        else:
            tracks.append(_Track([face], face.appearance.copy()))


def _misfit(track: _Track, face: Face) -> float:
    """The cost of assigning a face to a track; above 1 it is not assigned."""
    looks = float(np.linalg.norm(track.appearance - face.appearance))
    last = track.faces[-1]
    last_looks = float(np.linalg.norm(last.appearance - face.appearance))
    cost = min(looks, last_looks) / SAME_PERSON
    size = np.array([last.box[2] - last.box[0], face.box[2] - face.box[0]], float)
    moved = (
        np.hypot(
            (last.box[0] + last.box[2] - face.box[0] - face.box[2]) / 2,
            (last.box[1] + last.box[3] - face.box[1] - face.box[3]) / 2,
        )
        / size.mean()
    )
    if moved < SAME_PLACE and size.max() / size.min() < 1.5:
        cost *= IN_PLACE
    return cost


def _merge_tracks(tracks: list[_Track]) -> list[_Track]:
    """Merge tracks of one person that a cut or a gap separated, the most similar first."""
    tracks = list(tracks)
    while True:
        best, pair = SAME_PEOPLE, None
        for a, b in itertools.combinations(range(len(tracks)), 2):
            frames = {f.frame_index for f in tracks[a].faces}
            if any(f.frame_index in frames for f in tracks[b].faces):
                continue
            distance = _mean_distance(tracks[a].faces, tracks[b].faces)
            if distance < best:
                best, pair = distance, (a, b)
        if pair is None:
            return tracks
        first, second = tracks[pair[0]], tracks.pop(pair[1])
        first.faces = sorted(first.faces + second.faces, key=lambda f: f.time)


def _mean_distance(first: Sequence[Face], second: Sequence[Face]) -> float:
    ours, theirs = (np.stack([f.appearance for f in faces]) for faces in (first, second))
    return float(np.linalg.norm(ours[:, None] - theirs[None], axis=-1).mean())
