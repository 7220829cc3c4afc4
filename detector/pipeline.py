"""scan(): the only place that knows the order."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from detector.errors import UserError
from detector.faces import FaceFinder, group_people, resize
from detector.keyframes import choose_frames
from detector.provenance import read_provenance
from detector.records import Face, Frame, KeyFrame, Person, PersonVerdict, Scan, VideoInfo
from detector.scoring import BATCH, Scorer
from detector.settings import Progress, Settings, silent
from detector.verdict import by_suspicion, judge_clip, judge_person
from detector.video import Clip
from detector.weights import load_detector

THUMBNAIL = 480  # pixels, longest side of the key frames that a scan keeps


def scan(
    path: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    detector: Scorer | None = None,
    progress: Progress = silent,
) -> Scan:
    """Everything that can be said of a clip. `progress` may raise UserError to cancel."""
    *_, last = scan_in_stages(path, settings, detector=detector, progress=progress)
    if last.scan is None:
        raise RuntimeError("the last stage is a whole scan")
    return last.scan


@dataclass(frozen=True)
class Stage:
    """What is known so far: first the key frames, then the faces, then all of it."""

    video: VideoInfo
    key_frames: tuple[KeyFrame, ...]
    people: tuple[Person, ...] | None = None
    scan: Scan | None = None


def scan_in_stages(
    path: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    detector: Scorer | None = None,
    progress: Progress = silent,
) -> Iterator[Stage]:
    """The scan, each stage as soon as it is done."""
    settings = settings or Settings()
    timings: dict[str, float] = {}
    began = time.perf_counter()
    clip = Clip(path, settings)
    try:
        if detector is None:
            detector = load_detector(
                settings.model, weights=settings.weights, device=settings.device
            )
        with _timed(timings, "decode"):
            choice = choose_frames(_watched(clip, progress), count=settings.key_frames)
    finally:
        clip.close()
    # Of a frame that is no longer needed at full size, a thumbnail is kept.
    key_frames = tuple(_thumbnail(k) for k in choice.key_frames())
    yield Stage(clip.info, key_frames)

    finder = FaceFinder(detector.finder_device, margin=detector.margin)
    faces: list[Face] = []
    with _timed(timings, "faces"):
        for number, key_frame in enumerate(choice.key_frames()):
            progress("faces", number / len(key_frames))
            faces += finder.find([key_frame])
        people = group_people(faces)
    yield Stage(clip.info, key_frames, tuple(people))

    with _timed(timings, "scores"):
        verdicts = _score(detector, people, settings, progress)
    provenance = read_provenance(clip.file, clip.metadata)
    progress("scores", 1.0)
    timings["total"] = time.perf_counter() - began
    found = Scan(
        video=clip.info,
        key_frames=key_frames,
        curve=choice.curve,
        people=tuple(by_suspicion(verdicts)),
        verdict=judge_clip(verdicts, detector.calibration),
        model=detector.info,
        calibration=detector.calibration,
        settings=asdict(settings),
        provenance=provenance,
        timings=timings,
        warnings=tuple(clip.warnings),
    )
    yield Stage(clip.info, key_frames, tuple(people), found)


def find_face(found: Scan, time: float | None = None) -> tuple[PersonVerdict, Face]:
    """The scored face nearest to a time, or the most suspicious one of all."""
    scored = [(person, s) for person in found.people for s in person.scores]
    if not scored:
        if found.people:
            raise UserError("unfit_face", "No face in this clip can be judged or explained.")
        raise UserError("no_face_at_time", "No face was found in this clip.")
    if time is None:
        person, score = max(scored, key=lambda pair: pair[1].probability)
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
    """All people's fit faces in one go, then each person's share of the logits.

    A network that judges sequences gets one person at a time.
    """
    each = [[face for face in person.faces if face.unfit is None] for person in people]
    fit = [face for faces in each for face in faces]
    if not detector.in_sequence:
        each = [fit[start : start + BATCH] for start in range(0, len(fit), BATCH)]
    logits: list[float] = []
    for faces in each:
        progress("scores", len(logits) / max(1, len(fit)))
        logits += detector.score([f.crop for f in faces], mirror=settings.mirror).tolist()
    verdicts, at = [], 0
    for person in people:
        count = sum(face.unfit is None for face in person.faces)
        verdicts.append(judge_person(person, logits[at : at + count], detector.calibration))
        at += count
    return verdicts


def _watched(clip: Clip, progress: Progress) -> Iterator[Frame]:
    duration = min(clip.info.duration, 1e9) or 1.0
    for frame in clip:
        progress("key frames", min(1.0, frame.time / duration))
        yield frame


def _thumbnail(key_frame: KeyFrame) -> KeyFrame:
    height, width = key_frame.image.shape[:2]
    scale = min(1.0, THUMBNAIL / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return replace(key_frame, image=resize(key_frame.image, *size))


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - began
