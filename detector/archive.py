"""Files and folders -> reports: one bad file never stops the rest."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from detector.errors import UserError
from detector.explain import explain
from detector.pipeline import find_face, scan
from detector.report import error_json, to_json, write_report
from detector.scoring import Detector, Ensemble
from detector.settings import Progress, Settings, silent
from detector.video import CLIP_SUFFIXES
from detector.weights import load_detector
from detector.workers import spread

Watch = Callable[[str], AbstractContextManager[Progress]]
"""A file's name -> what shows the progress of its scan."""


@dataclass(frozen=True)
class Job:
    """One file to scan, or why there is none."""

    clip: Path
    settings: Settings
    folder: Path | None
    watch: Watch | None
    error: dict[str, Any] | None = None


def scan_files(
    given: Sequence[str],
    settings: Settings,
    *,
    folder: Path | None = None,
    ray: bool = False,
    watch: Watch | None = None,
) -> Iterator[dict[str, Any]]:
    """The report of every file, in order, as soon as it is there; of folders all clips below.

    With `folder`, the reports and their pictures are written there too.
    """
    _load(settings)  # what is wrong with the model is said once, not once a file
    jobs = []
    for name in given:
        try:
            jobs += [
                Job(clip, settings, folder, None if ray else watch) for clip in find_clips(name)
            ]
        except UserError as error:
            jobs.append(Job(Path(name), settings, None, None, error_json(name, error)))
    yield from spread(_scan_one, jobs, ray=ray)


def find_clips(name: str) -> Iterator[Path]:
    """A file as it is; of a folder every video and image below it."""
    path = Path(name)
    if not path.is_dir():
        yield path
        return
    inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in CLIP_SUFFIXES)
    if not inside:
        raise UserError("no_clips", f"{path} holds no video or image.")
    yield from inside


def _load(settings: Settings) -> Detector | Ensemble:
    return _load_once(settings.model, settings.weights, settings.device)


@cache
def _load_once(model: str, weights: str | None, device: str) -> Detector | Ensemble:
    return load_detector(model, weights=weights, device=device)


def _scan_one(job: Job) -> dict[str, Any]:
    if job.error is not None:
        return job.error
    with job.watch(job.clip.name) if job.watch else nullcontext(silent) as progress:
        try:
            return _report(job, progress)
        except UserError as error:
            return error_json(job.clip.name, error)


def _report(job: Job, progress: Progress) -> dict[str, Any]:
    method, detector = job.settings.explain, _load(job.settings)
    found = scan(job.clip, job.settings, detector=detector, progress=progress)
    heatmaps = {}
    if method and any(person.scores for person in found.people):
        progress("explanation", 0.0)
        person, face = find_face(found)
        heatmaps[method] = explain(detector, face, method=method, trust=True, person=person.person)
    if job.folder is not None:
        write_report(found, job.folder / job.clip.name, heatmaps)
    return to_json(found)
