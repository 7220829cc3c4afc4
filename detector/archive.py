"""Scan files and folders, write and verify reports. A bad file never stops the rest."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from detector.cards import Answer
from detector.errors import UserError, as_user_error, printable
from detector.evidence import Maps, telling_faces
from detector.page import compare_page, full_json, heatmaps_json, stress_json, write_report
from detector.pipeline import scan
from detector.records import Scan, Verdict
from detector.report import compare, compare_heatmaps, error_json, to_json
from detector.scoring import Detector, Ensemble
from detector.settings import Progress, Settings, silent
from detector.stress import Trial, stress
from detector.texts import ENGLISH
from detector.verdict import deciding_sign
from detector.video import CLIP_SUFFIXES
from detector.weights import load_detector
from detector.workers import count_cores, map_jobs

REPORT = "report.json"
FILES_PER_CORE = 4  # with fewer files, starting several processes costs more than it gains

ShowProgress = Callable[[str], AbstractContextManager[Progress]]
"""Takes a file's name; returns a context manager that gives the `Progress` of its scan."""


@dataclass(frozen=True)
class ScanJob:
    """One file to scan, or the error to report in place of a scan."""

    name: str
    """The file's name in reports, unique among the jobs."""
    clip: Path
    settings: Settings
    folder: Path | None
    show_progress: ShowProgress | None
    error: UserError | None = None


def scan_files(
    given: Sequence[str],
    settings: Settings,
    *,
    folder: Path | None = None,
    ray: bool = False,
    show_progress: ShowProgress | None = None,
) -> Iterator[dict[str, Any]]:
    """Scan files and all clips in folders; yield each report in order as soon as it is ready.

    If there are many files, each core scans its own, in a process that loads the network once.

    Args:
        given: paths of files and folders.
        settings: the options of the scans.
        folder: where reports and pictures are written; None writes none.
        ray: run on a Ray cluster.
        show_progress: shows the progress of each scan, if all run in this process.

    Raises:
        UserError: `no_permission` if the folder cannot be written to, or an error of the model.
            An error of a file is its report.
    """
    if folder is not None:
        check_writable(folder)
    _load(settings)  # raises an error of the model once, not for each file
    found = [clip for name in given for clip in find_clips(name)]
    names = shorten_names([path for path, _ in found])
    workers = count_cores() if len(found) >= FILES_PER_CORE * count_cores() else 1
    if ray or workers > 1:
        settings = replace(settings, threads=settings.threads or 1)
        show_progress = None
    yield from map_jobs(
        _scan_one,
        [
            ScanJob(name, path, settings, folder, show_progress, error)
            for name, (path, error) in zip(names, found, strict=True)
        ],
        workers=workers,
        ray=ray,
    )


def check_writable(folder: Path) -> None:
    """Raise UserError `no_permission` if the folder cannot be written to, before work begins."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            "no_permission", f"Nothing can be written to {folder}: {error.strerror}."
        ) from error


def find_clips(name: str) -> Iterator[tuple[Path, UserError | None]]:
    """Find a file, or all videos and images in a folder and its subfolders.

    Yields:
        The path of each, with the error to report in place of a scan, if it has one: an empty
        name, a folder without videos and images, a subfolder that may not be read.
    """
    path = Path(name)
    if not name or not os.path.isdir(name):
        yield path, None if name else UserError("missing_file", "The name of the file is empty.")
        return
    refused: list[OSError] = []
    inside = sorted(
        Path(folder) / file
        for folder, _, files in os.walk(path, onerror=refused.append)
        for file in files
        if Path(file).suffix.lower() in CLIP_SUFFIXES
    )
    if not inside and not refused:
        yield path, UserError("no_clips", f"{path} holds no video or image.")
    for clip in inside:
        yield clip, None
    for error in refused:
        folder = Path(error.filename or path)
        yield folder, UserError("no_permission", f"{folder} may not be read: {error.strerror}.")


def shorten_names(paths: Sequence[Path]) -> list[str]:
    """The shortest ending of each path, in whole folder names, that no other path has.

    Upper and lower case count as the same: reports must not overwrite each other on any system.
    """
    whole = [Path(os.path.abspath(path)).parts[1:] if path.name else (str(path),) for path in paths]
    length = dict.fromkeys(whole, 1)  # of each path's ending, in parts

    def ending(parts: tuple[str, ...]) -> str:
        return "/".join(parts[-length[parts] :])

    while True:
        count = Counter(ending(parts).casefold() for parts in length)
        alike = [
            parts
            for parts, taken in length.items()
            if count[ending(parts).casefold()] > 1 and taken < len(parts)
        ]
        if not alike:
            return [printable(ending(parts)) for parts in whole]
        for parts in alike:
            length[parts] += 1


def _load(settings: Settings) -> Detector | Ensemble:
    return _load_once(settings.model, settings.weights, settings.device)


@cache
def _load_once(model: str, weights: str | None, device: str) -> Detector | Ensemble:
    return load_detector(model, weights=weights, device=device)


def _scan_one(job: ScanJob) -> dict[str, Any]:
    with job.show_progress(job.name) if job.show_progress else nullcontext(silent) as progress:
        try:
            if job.error is not None:
                raise job.error
            return _report(job, progress)
        except Exception as error:  # noqa: BLE001  nothing that a file does may stop the others
            return error_json(job.name, as_user_error(error))


def _report(job: ScanJob, progress: Progress) -> dict[str, Any]:
    method, detector = job.settings.explain, _load(job.settings)
    found = scan(job.clip, job.settings, detector=detector, progress=progress)
    if job.folder is None:
        return to_json(found, name=job.name)
    answer = Answer(found, job.name, *_run_stress_test(found, detector, progress))
    maps = explain_telling_faces(found, detector, method, progress)
    report = full_json(answer, language=ENGLISH, file=REPORT, maps=maps)
    write_report(found, report, job.folder / job.name, maps)
    return report


def verify(
    report: Mapping[str, Any],
    clip: Path,
    settings: Settings,
    page: str | None = None,
    progress: Progress = silent,
) -> list[str]:
    """Compare a report with a fresh scan.

    Args:
        report: the report, as JSON.
        clip: the file to scan.
        settings: the options of the scan.
        page: the report's HTML, compared too unless the JSON differs already.
        progress: called with a stage and the fraction of it done.

    Returns:
        A sentence for each difference.
    """
    detector = _load(settings)
    found = scan(clip, settings, detector=detector, progress=progress)
    fresh = to_json(found)
    if "stress" in report:
        answer = Answer(found, "", *_run_stress_test(found, detector, progress))
        fresh["stress"] = stress_json(answer)
    if differences := compare(report, fresh):
        return differences
    maps = explain_telling_faces(found, detector, report.get("made", {}).get("maps"), progress)
    if differences := compare_heatmaps(report, heatmaps_json(found, maps)):
        return differences
    return [] if page is None else compare_page(page, found, report, maps)


def _run_stress_test(
    found: Scan, detector: Detector | Ensemble, progress: Progress
) -> tuple[tuple[Trial, ...], Verdict]:
    trials, verdict = stress(found, detector, progress)
    return tuple(trials), verdict


def explain_telling_faces(
    found: Scan, detector: Detector | Ensemble, method: str | None, progress: Progress = silent
) -> Maps:
    """Draw and test the heatmaps of the faces that a report shows; none without a method."""
    if method is None:
        return {}
    from detector.heatmaps import explain  # slow to import

    maps, telling = {}, telling_faces(found)
    for number, (person, face) in enumerate(telling):
        progress("explanation", number / len(telling))
        maps[face.frame_index, person.person.id] = explain(
            detector, face, method=method, trust=True, person=person.person,
            sign=deciding_sign(person),
        )  # fmt: skip
    return maps
