"""Key frames -> faces -> people.

Of each few neighbouring key frames one is searched as a whole, the others where faces just were.
Faces that cannot be judged are kept and marked, never dropped.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from detector.mtcnn import CELL, Detection, load_cascade, only_apart
from detector.records import Box, Face, Image, KeyFrame, Person
from detector.workers import spread_over_threads

WINDOW = 1.2  # a face lies in a square somewhat larger than it is wide
WINDOW_SHARE = 0.03  # of the frame's longest side: no smaller face is looked for in huge frames
CLOSE_SIDE = 720  # longest side in pixels at which a clip without faces is searched once more
ENLARGE_LIMIT = 2.0  # small frames are then enlarged at most this much
SMALLEST_SEARCHED = 24  # pixels, at that size
PAD_CELLS = 30  # the smallest face looked for in a padded frame: this part of its longest side
RUN = 4  # key frames of which one is searched as a whole
NEARBY = 1.4  # how far around a face its next place is looked for, as a share of its box
SMALLER = 0.65  # how much smaller it may have become
GRID = 32, 18  # cells of a glance at a frame
NEW = 40  # change of a cell's brightness, of 255, with which something may have appeared in it
LEAST_CONFIDENCE = 0.95  # MTCNN gives things that are no face up to 0.91
LEAST_CONFIDENCE_TINY = 0.99  # and is wrong more often about tiny ones
TINY = 40  # pixels of face width, in the full frame
PAD_SHARE = 0.35  # of the frame, added around it when a face may fill it
MARGIN = 0.5  # of the face's box, shown around it where a checkpoint does not say otherwise
CROP_LIMIT = 512  # pixels; larger crops are reduced to this side
ALIGNED = 64  # side of the aligned face that appearance is read from

SMALLEST_JUDGED = 48  # pixels of face width
LEAST_SHARPNESS = 2.2  # deviation of the Laplacian on a 112-pixel face; compressed video has 5
LARGEST_TURN = 0.62  # nose offset from the eyes' middle, in eye distances

SAME_PERSON = 0.85  # distance of a face from a person's mean: same person 0.4, others 1.1
SAME_PLACE = 0.5  # in face widths: how far a face moves between neighbouring key frames
IN_PLACE = 0.7  # a face that stayed in place may look this much less alike
SAME_PEOPLE = 0.92  # mean distance of two groups' faces: same person 0.7, others 1.1

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
    """Cut a region that may reach beyond the edges (which are repeated), at most `limit` wide."""
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
    """The face turned upright and scaled so that eyes and mouth lie on the template."""
    matrix, _ = cv2.estimateAffinePartial2D(
        landmarks.astype(np.float32), TEMPLATE * side, method=cv2.LMEDS
    )
    if matrix is None:
        return resize(image, side, side)
    return cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )


def describe(image: Image, landmarks: np.ndarray) -> np.ndarray:
    """A vector of what a face looks like: gradients on the aligned face, and its colours."""
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
    """Why a face cannot be judged, or None."""
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


class FaceFinder:
    """Key frames -> faces: always a list, never None."""

    def __init__(self, device: str = "cpu", *, margin: float = MARGIN) -> None:
        """`margin` is the share of the box that crops show around it, as the network learned."""
        self.margin = margin
        self._cascade = load_cascade(device)

    def find(self, key_frames: Iterable[KeyFrame], *, threads: int = 1) -> list[Face]:
        """All faces of the key frames, in the order of the frames; the same on many threads.

        Where no frame shows any, all are searched again, for tiny faces and such as fill the frame:
        `key_frames` is gone through twice.
        """
        for search in (self._search_run, self._search_closely):
            runs = _in_runs(key_frames)
            faces = [face for run in spread_over_threads(search, runs, threads) for face in run]
            if faces:
                break
        return faces

    def _search_run(self, key_frames: Sequence[KeyFrame]) -> list[Face]:
        """Neighbouring key frames: the first as a whole, the others where faces just were."""
        faces: list[Face] = []
        known: list[Detection] = []
        before: np.ndarray | None = None
        for key_frame in key_frames:
            image, view = key_frame.image, _glance(key_frame.image)
            found = self._follow(image, known) if _is_alike(before, view, known, image) else []
            if not known or len(_sure(found)) != len(known):
                found = self._cascade.find(image, smallest_window(image))
            known, before = _sure(found), view
            faces += self._make_faces(key_frame, found)
        return faces

    def _follow(self, image: Image, known: Sequence[Detection]) -> list[Detection]:
        """The faces near those of the frame before."""
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
        """Search with a border around the image: a face may fill the frame."""
        pad = round(max(image.shape[:2]) * PAD_SHARE)
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
        box = (left, top, right, bottom)
        region = square_around(box, self.margin)
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
    """Side in pixels of the smallest square that is searched for a face that can be judged."""
    return max(WINDOW * SMALLEST_JUDGED, WINDOW_SHARE * max(image.shape[:2]))


def _in_runs(key_frames: Iterable[KeyFrame]) -> Iterator[list[KeyFrame]]:
    rest = iter(key_frames)
    while run := list(itertools.islice(rest, RUN)):
        yield run


def _sure(found: Sequence[Detection]) -> list[Detection]:
    return [face for face in found if face.confidence >= LEAST_CONFIDENCE]


def _glance(image: Image) -> np.ndarray:
    """A frame as a coarse grid of brightness."""
    step = max(1, min(image.shape[:2]) // 180)
    coarse = cv2.cvtColor(np.ascontiguousarray(image[::step, ::step]), cv2.COLOR_RGB2GRAY)
    return cv2.resize(coarse, GRID, interpolation=cv2.INTER_AREA).astype(np.float32)


def _is_alike(
    before: np.ndarray | None, view: np.ndarray, known: Sequence[Detection], image: Image
) -> bool:
    """Whether nothing new can have appeared since the frame before, away from the known faces."""
    if before is None:
        return False
    changed = np.abs(view - before)
    height, width = image.shape[:2]
    for face in known:
        left, top, right, bottom = face.box * np.tile([GRID[0] / width, GRID[1] / height], 2)
        changed[max(0, int(top)) : int(bottom) + 1, max(0, int(left)) : int(right) + 1] = 0
    return float(changed.max()) < NEW


@dataclass
class _Track:
    """Faces so far taken for one person."""

    faces: list[Face]
    appearance: np.ndarray

    def add(self, face: Face) -> None:
        self.faces.append(face)
        self.appearance = self.appearance + (face.appearance - self.appearance) / min(
            len(self.faces), 8
        )


def group_people(faces: Sequence[Face]) -> list[Person]:
    """The faces of one person over time, by place between neighbouring frames and by appearance.

    Two people in one frame are never one person. The person seen most often comes first.
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
    """Give each face of a frame to the track it fits best, or begin one."""
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
    """How badly a face continues a track: 1 is the limit."""
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
    """Join the tracks of one person that a cut or a gap has separated, the likest first."""
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
