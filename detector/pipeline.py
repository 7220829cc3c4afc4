"""scan(): runs the steps in order, from the file to the verdict."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

import numpy as np

from detector.errors import UserError
from detector.faces import FaceFinder, Finder, group_people
from detector.fence import RemoteClip, open_clip
from detector.records import Face, KeyFrame, Person, PersonVerdict, Scan, VideoInfo
from detector.scoring import Scorer
from detector.settings import Progress, Settings, silent
from detector.verdict import by_suspicion, judge_clip, judge_people
from detector.weights import load_detector
from detector.workers import count_cores, map_on_threads


def scan(
    path: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    detector: Scorer | None = None,
    progress: Progress = silent,
) -> Scan:
    """Scan one video or image and return its verdict, people, key frames and provenance.

    Args:
        path: the file.
        settings: the options; the defaults if None.
        detector: a loaded detector; None loads the one that the settings name.
        progress: called with a stage and its fraction; may raise UserError to cancel.

    Raises:
        UserError: the file cannot be scanned or the detector cannot be loaded; see its `code`.
    """
    *_, last = scan_in_stages(path, settings, detector=detector, progress=progress)
    if last.scan is None:
        raise RuntimeError("the last stage must hold the scan")
    return last.scan


@dataclass(frozen=True)
class Stage:
    """An intermediate result: first the key frames, then also the people, then also the scan."""

    video: VideoInfo
    key_frames: tuple[KeyFrame, ...]
    people: tuple[Person, ...] | None = None
    scan: Scan | None = None


def scan_in_stages(
    path: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    detector: Scorer | None = None,
    finder: Finder | None = None,
    progress: Progress = silent,
) -> Iterator[Stage]:
    """Scan as `scan` does, and yield each stage as soon as it is complete.

    `finder` stands in for the face finder.
    """
    settings = settings or Settings()
    timings: dict[str, float] = {}
    began = time.perf_counter()
    with ExitStack() as opened:
        with _timed(timings, "decode"):
            progress("key frames", 0.0)
            seen = opened.enter_context(open_clip(path, settings, progress))
            key_frames = tuple(seen.thumbnails())
        if detector is None:
            detector = load_detector(
                settings.model, weights=settings.weights, device=settings.device
            )
        yield Stage(seen.video, key_frames)

        finder = finder or FaceFinder(detector.finder_device, margin=detector.margin)
        with _timed(timings, "faces"):
            shown = _WithProgress(seen, progress)
            faces = finder.find(shown, threads=settings.threads or count_cores())
            people = group_people(faces)
        provenance = seen.provenance()
    yield Stage(seen.video, key_frames, tuple(people))

    with _timed(timings, "scores"):
        verdicts = _score(detector, people, settings, progress)
    progress("scores", 1.0)
    timings["total"] = time.perf_counter() - began
    found = Scan(
        video=seen.video,
        key_frames=key_frames,
        curve=seen.curve,
        people=tuple(by_suspicion(verdicts)),
        verdict=judge_clip(verdicts, detector.calibration),
        model=detector.info,
        calibration=detector.calibration,
        settings=asdict(settings),
        provenance=provenance,
        timings=timings,
        warnings=seen.warnings,
    )
    yield Stage(seen.video, key_frames, tuple(people), found)


def find_face(found: Scan, time: float | None = None) -> tuple[PersonVerdict, Face]:
    """The scored face nearest to a time; without a time, the deciding person's most suspicious one.

    Raises:
        UserError: `no_face_at_time` or `unfit_face`.
    """
    scored = [(person, s) for person in found.people for s in person.scores]
    if not scored:
        if found.people:
            raise UserError("unfit_face", "No face in this clip can be judged or explained.")
        raise UserError("no_face_at_time", "No face was found in this clip.")
    if time is None:
        deciding = [pair for pair in scored if pair[0].person.id == found.verdict.person]
        person, score = max(deciding or scored, key=lambda pair: pair[1].probability)
        return person, score.face
    person, score = min(scored, key=lambda pair: abs(pair[1].face.time - time))
    gaps = [b.time - a.time for a, b in zip(found.key_frames, found.key_frames[1:], strict=False)]
    if abs(score.face.time - time) > max([1.0, *gaps]):
        raise UserError(
            "no_face_at_time",
            f"There is no face near {time:.1f} s; the nearest is at {score.face.time:.1f} s.",
        )
    return person, score.face


def _score(
    detector: Scorer, people: list[Person], settings: Settings, progress: Progress
) -> list[PersonVerdict]:
    """Score all fit faces in batches, then judge each person by their logits.

    A recurrent network gets one person's faces at a time.
    """
    batches = [[face for face in person.faces if face.unfit is None] for person in people]
    fit = [face for faces in batches for face in faces]
    if not detector.in_sequence:
        batches = [fit[at : at + detector.batch] for at in range(0, len(fit), detector.batch)]

    def score(faces: list[Face]) -> np.ndarray:
        return detector.score_signs([f.crop for f in faces], mirror=settings.mirror)

    logits: list[np.ndarray] = []
    for made in map_on_threads(score, batches, settings.threads or count_cores()):
        logits += list(made)
        progress("scores", len(logits) / max(1, len(fit)))
    by_person, start = [], 0
    for person in people:
        end = start + sum(face.unfit is None for face in person.faces)
        by_person.append(np.array(logits[start:end]))
        start = end
    return judge_people(people, by_person, detector.calibration)


@dataclass(frozen=True)
class _WithProgress:
    """A clip's key frames as an iterable that reports progress; it can be iterated repeatedly."""

    seen: RemoteClip
    progress: Progress

    def __iter__(self) -> Iterator[KeyFrame]:
        for number, key_frame in enumerate(self.seen.key_frames()):
            self.progress("faces", number / len(self.seen.frames))
            yield key_frame


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - began
