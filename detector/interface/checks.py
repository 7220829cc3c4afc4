"""Carry out what the page asks for: scans, heatmaps, stress tests, comparisons, reports.

Each function returns or yields the parts of the page that change, by name.
"""

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector import texts
from detector.answers import OutdatedError, recall
from detector.assets import find_folder
from detector.cards import Answer, holds_line, paragraph, trials_table, verdict_card
from detector.charts import person_style, to_data_uri
from detector.errors import UserError, as_user_error
from detector.evidence import comparison_page, faces_page, frames_page, origin_page, telling_faces
from detector.interface.background import Moment, follow
from detector.interface.cards import (
    by_suspicion,
    error_card,
    files_table,
    progress_card,
)
from detector.interface.detectors import SharedDetector, compute_maps
from detector.interface.sessions import Entry, Visit, uploaded
from detector.lanes import clip_length, draw_lanes
from detector.page import full_json, to_page
from detector.pipeline import Stage, scan, scan_in_stages
from detector.records import KeyFrame, PersonVerdict, Scan, show_probability
from detector.settings import Progress, Settings
from detector.stress import settle, stress

EXAMPLES = find_folder("examples")
ANSWERS = EXAMPLES / "answers.json"
MOST_FILES = 20  # in one check
FRAME_SIDE = 480  # pixels of a key frame, shown if the browser cannot play the clip
LEAST_REACH, SHARE_REACH = 0.12, 0.6  # how long a box is shown: seconds, share of the frame gap
BRIGHT = 0.6  # brightness of a colour above which text on it is black
EMPTY: dict[str, Any] = {
    "faces": "", "frames": "", "origin": "", "holds": "", "sentence": "", "files": None,
    "archive": None, "second": None, "compared": "", "note": "",
}  # fmt: skip
"""The evidence parts of the page before there is a verdict."""

Shown = dict[str, Any]
"""Name of a part of the page -> its new value."""


def list_examples() -> list[str]:
    """Return the names of the example clips."""
    return sorted(p.stem for p in EXAMPLES.glob("*.mp4"))


def take_files(asked: dict[str, Any]) -> list[Entry]:
    """Return the files that the page asks to check.

    Raises:
        UserError: `missing_file` for an unknown example or a file that was not uploaded.
    """
    if "example" in asked:
        name = str(asked["example"])
        if name not in list_examples():
            raise UserError("missing_file", f"There is no example {name!r}.")
        return [Entry(EXAMPLES / f"{name}.mp4", f"{name}.mp4", example=True)]
    files = list(asked.get("files") or [])[:MOST_FILES]
    return [Entry(uploaded(f["path"]), Path(str(f["name"])).name) for f in files]


def check(visit: Visit, asked: dict[str, Any], model: str, key_frames: float) -> Iterator[Shown]:
    """Scan the dropped files one after the other, and show each stage.

    Args:
        visit: the visitor.
        asked: the page's request: `run`, `language`, and `files` or `example`.
        model: name of the detector.
        key_frames: how many frames are examined.
    """
    run = int(asked.get("run", 0))
    stopped = visit.begin(run, texts.choose_language(asked.get("language")), model)
    if stopped():
        return
    cleared = dict(EMPTY)
    try:
        visit.entries = take_files(asked)
        settings = Settings(model=model, key_frames=int(key_frames))
    except UserError as error:
        visit.open = Entry(Path(), "", error=error)
        yield {**cleared, "table": view(visit)}
        return
    for entry in visit.entries:
        visit.open = entry if visit.open is None else visit.open
        try:
            for shown in _check_one(visit, entry, settings, stopped):
                if stopped():
                    return
                yield {**cleared, **shown}
                cleared = {}
        except Exception as error:  # noqa: BLE001  visitors see a message, not a traceback
            if stopped():
                return
            entry.error = as_user_error(error)
            yield {**cleared, "table": view(visit)}
            cleared = {}
    if len(visit.entries) > 1 and not visit.picked:
        visit.open = visit.entries[by_suspicion(visit.entries)[0][0]]
        yield show_entry(visit)


def _check_one(
    visit: Visit, entry: Entry, settings: Settings, stopped: Callable[[], bool]
) -> Iterator[Shown]:
    """Scan one file; its stages are shown only if it is the open one."""
    leads = entry is visit.open
    known = recall(ANSWERS, entry.path.stem, entry.path, settings) if entry.example else None
    stage: Stage | None = None
    moment: Moment | None = None
    yield {"table": view(visit, progress=progress_card(entry, None, [], visit.language))}

    def work(progress: Progress) -> Iterator[Stage]:
        nonlocal known
        if known is not None:
            try:
                yield from scan_in_stages(
                    entry.path, settings, detector=known, finder=known, progress=progress
                )
                return
            except OutdatedError:
                known = None
        shared = SharedDetector.of(settings.model)
        yield from scan_in_stages(entry.path, settings, detector=shared, progress=progress)

    for part in follow(work, stopped):
        fresh = isinstance(part, Stage)
        if isinstance(part, Moment):
            moment = part
        else:
            stage = part
        if stage is not None and stage.scan is not None:
            if known is not None:
                entry.known, entry.trials = True, known.trials
                entry.tested = settle(stage.scan.verdict, known.trials)
            entry.scan = stage.scan
            yield show_entry(visit) if leads else {"table": view(visit)}
            return
        if leads:
            card = progress_card(entry, moment, seen_so_far(stage, visit.language), visit.language)
            yield {"table": view(visit, progress=card, stage=stage if fresh else None)}


def seen_so_far(stage: Stage | None, language: str) -> list[str]:
    """Return the counts that are known before the verdict, in words."""
    if stage is None:
        return []
    still = stage.video.rate == 0
    told = [
        texts.translate(language, "seen_picture") if still
        else texts.translate(language, "seen_frames", count=len(stage.key_frames))
    ]  # fmt: skip
    if stage.people is not None:
        told.append(
            texts.translate_count(language, "faces", sum(len(p.faces) for p in stage.people))
        )
        told.append(texts.translate_count(language, "people", len(stage.people)))
    return told


def view(
    visit: Visit, *, progress: str = "", stage: Stage | None = None, frames: bool = False
) -> dict[str, Any]:
    """Return the state that the page's JavaScript shows.

    Args:
        visit: the visitor.
        progress: HTML of the progress card.
        stage: the latest stage, if it has not been sent yet.
        frames: also send the key frames' pictures.
    """
    entry, language = visit.open, visit.language
    if entry is None:
        return {"run": visit.run, "state": "empty"}
    told: dict[str, Any] = {
        "run": visit.run, "state": "working", "card": progress,
        "file": entry.name if entry.example else str(entry.path),
        "desk": files_table(visit.entries, entry, language),
    }  # fmt: skip
    if entry.example:
        told["address"] = f"gradio_api/file={entry.path}"
    if entry.error is not None:
        return {**told, "state": "error", "card": error_card(entry, entry.error, language)}
    answer = entry.answer
    if answer is None:
        if stage is not None:
            told["clip"] = {
                "still": stage.video.rate == 0, "width": stage.video.width,
                "height": stage.video.height, "length": max(stage.video.duration, 0.04),
                "reach": LEAST_REACH,
            }  # fmt: skip
            told["frames"] = list_frames(stage.key_frames)
        return told
    found = answer.found
    if frames:
        told["frames"] = list_frames(found.key_frames)
    card = verdict_card(answer, language)
    return {
        **told, "state": "done", "card": card, "lanes": draw_lanes(found, language),
        "people": [describe_person(found, p, rank) for rank, p in enumerate(found.people)],
        "clip": {
            "still": texts.is_still(found), "width": found.video.width,
            "height": found.video.height, "length": clip_length(found), "reach": reach_of(found),
        },
    }  # fmt: skip


def list_frames(key_frames: tuple[KeyFrame, ...]) -> list[list[Any]]:
    """Return index, time and picture of each key frame."""
    return [[k.index, round(k.time, 3), to_data_uri(k.image, FRAME_SIDE)] for k in key_frames]


def reach_of(found: Scan) -> float:
    """Return the seconds for which a box is shown before and after its frame."""
    times = [k.time for k in found.key_frames]
    gap = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    return max(LEAST_REACH, SHARE_REACH * gap)


def describe_person(found: Scan, person: PersonVerdict, rank: int) -> dict[str, Any]:
    """Return a person's boxes and scores over time.

    `runs` numbers the stretches of consecutive key frames in which the face was found.
    """
    scores = {id(s.face): s.probability for s in person.scores}
    order = {k.index: place for place, k in enumerate(found.key_frames)}
    runs: list[int] = []
    for before, face in zip((None, *person.person.faces), person.person.faces, strict=False):
        follows = before and order[face.frame_index] - order[before.frame_index] == 1
        runs.append((runs[-1] if runs else 0) + (0 if follows else 1))
    colour, dash = person_style(rank)
    red, green, blue = bytes.fromhex(colour[1:])
    bright = (0.299 * red + 0.587 * green + 0.114 * blue) / 255
    return {
        "id": person.person.id, "colour": colour, "dash": dash, "runs": runs,
        "ink": "#000" if bright > BRIGHT else "#fff",
        "symbol": texts.SYMBOLS[person.verdict.label],
        "times": [round(f.time, 3) for f in person.person.faces],
        "boxes": [list(f.box) for f in person.person.faces],
        "scores": [
            show_probability(scores[id(f)]) if id(f) in scores else ""
            for f in person.person.faces
        ],
    }  # fmt: skip


def show_entry(visit: Visit) -> Shown:
    """Show the open file and its evidence."""
    entry, language = visit.open, visit.language
    answer = entry.answer if entry else None
    if entry is None or answer is None:
        return {"table": view(visit)}
    return {
        "table": view(visit, frames=True),
        "faces": faces_page(answer.found, {}, language, entry.chosen),
        "frames": frames_page(answer, language),
        "origin": origin_page(answer, language),
        **show_tested(answer, language),
    }


def show_tested(answer: Answer, language: str) -> Shown:
    """Show the results of the stress test."""
    return {
        "holds": trials_table(answer, language),
        "sentence": texts.article(language, answer.found, answer.name, answer.label),
    }


def open_row(visit: Visit, row: int) -> Shown:
    """Show the file of a row of the table."""
    if not 0 <= row < len(visit.entries):
        return {}
    visit.open, visit.picked = visit.entries[row], True
    return {"files": None, "note": visit.open.note, **show_entry(visit)}


def run_stress(visit: Visit) -> Iterator[Shown]:
    """Run the stress test of the open file, then of the others, and show each result.

    A verdict that does not hold becomes inconclusive.
    """
    first, entries = visit.open, visit.entries
    for entry in sorted(entries, key=lambda each: each is not first):
        if visit.halted or visit.entries is not entries:
            return
        if entry.scan is None:
            continue
        put_to_test(visit, entry)
        if visit.halted or visit.entries is not entries:
            return
        shown: Shown = {"table": view(visit)}
        if entry is visit.open and entry.answer is not None:
            shown |= show_tested(entry.answer, visit.language)
        yield shown


def put_to_test(visit: Visit, entry: Entry) -> None:
    """Run a file's stress test unless it has run; if it is running, wait for it."""
    with entry.testing:
        if entry.scan is not None and entry.trials is None:
            trials, entry.tested = stress(entry.scan, SharedDetector.of(visit.model))
            entry.trials = tuple(trials)


def draw_maps(visit: Visit, method: str) -> Iterator[Shown]:
    """Draw the heatmaps of the shown faces, without trust figures, which take longer."""
    entry = visit.open
    if entry is None or entry.scan is None:
        return
    for person, face in telling_faces(entry.scan, entry.chosen):
        key = face.frame_index, person.person.id
        if method not in entry.maps.get(key, {}):
            made = compute_maps(visit.model, person, face, method, False)
            entry.maps[key] = {**made, **entry.maps.get(key, {})}
    if visit.open is entry and not visit.halted:
        yield {"faces": faces_of(entry, method, visit.language)}


def test_maps(visit: Visit, method: str) -> Iterator[Shown]:
    """Compute the trust figures of the same heatmaps, one face after the other.

    A face that is picked meanwhile is the next.
    """
    entry = visit.open
    while entry is not None and _test_next_map(visit, entry, method, entry.chosen):
        if visit.open is not entry or visit.halted:
            return
        yield {"faces": faces_of(entry, method, visit.language)}


def _test_next_map(
    visit: Visit, entry: Entry, method: str, chosen: tuple[int, int] | None = None
) -> bool:
    """Test the first heatmap without trust figures; return False if there is none."""
    if entry.scan is None:
        return False
    for person, face in telling_faces(entry.scan, chosen):
        key = face.frame_index, person.person.id
        known = entry.maps.get(key, {}).get(method)
        if known is None or not known.trust:
            entry.maps[key] = compute_maps(visit.model, person, face, method)
            return True
    return False


def faces_of(entry: Entry, method: str, language: str) -> str:
    """Return the plates of a file's faces with the heatmaps of a method that exist."""
    maps = {key: made[method] for key, made in entry.maps.items() if method in made}
    return "" if entry.scan is None else faces_page(entry.scan, maps, language, entry.chosen)


def choose_face(visit: Visit, frame: int, person: int, method: str) -> Shown:
    """Show the face that the user picked on the time line; its heatmap may come later."""
    entry = visit.open
    if entry is None or entry.scan is None:
        return {}
    entry.chosen = frame, person
    return {"faces": faces_of(entry, method, visit.language)}


def compare(visit: Visit, second: str | None) -> Iterator[Shown]:
    """Compare the open file with a second one, such as the suspected original."""
    entry, language = visit.open, visit.language
    if second is None:
        yield {"compared": ""}
        return
    if entry is None or entry.answer is None:
        yield {"compared": _message(texts.translate(language, "compare_wait"))}
        return
    yield {"compared": _message(texts.translate(language, "compare_working"))}
    frames = int(entry.answer.found.settings["key_frames"])
    settings = Settings(model=visit.model, key_frames=frames)
    try:
        other = scan(second, settings, detector=SharedDetector.of(visit.model))
        yield {"compared": comparison_page(entry.answer, other, language)}
    except Exception as error:  # noqa: BLE001  visitors see a message, not a traceback
        yield {"compared": _message(texts.translate_error(language, as_user_error(error)))}


def _message(text: str) -> str:
    return f'<div class="evidence">{paragraph(text)}</div>'


def write_files(visit: Visit, method: str, note: str) -> Shown:
    """Write the open file's report and captions, and an archive if there are several files.

    What has not been put to the test yet is tested first. Nothing is shown if meanwhile another
    file was opened or dropped.
    """
    entry, entries = visit.open, visit.entries

    def is_open() -> bool:
        return visit.open is entry and visit.entries is entries and not visit.halted

    if entry is None or entry.scan is None:
        return {"files": None, "archive": None}
    for each in entries:
        put_to_test(visit, each)
        if not is_open():
            return {}
    while _test_next_map(visit, entry, method):
        if not is_open():
            return {}
    entry.note, folder = note, visit.make_folder()
    try:
        shown: Shown = {"files": _write_entry(entry, folder, visit.language, method)}
        if len(entries) > 1:
            shown["archive"] = _write_archive(entries, folder, visit.language, method)
    except FileNotFoundError:  # a new check has deleted the folder
        if is_open():
            raise
    return shown if is_open() else {}


def _write_entry(entry: Entry, folder: Path, language: str, method: str) -> list[str]:
    """Write the report and the captions of a file, with heatmaps if all of them exist."""
    answer = entry.answer
    if answer is None:
        return []
    stem = _stem(entry)
    telling = [(face.frame_index, who.person.id) for who, face in telling_faces(answer.found)]
    known = {key: entry.maps[key].get(method) for key in telling if key in entry.maps}
    maps = {key: made for key, made in known.items() if made is not None and made.trust}
    whole = bool(telling) and len(maps) == len(telling)
    file = f"{stem} report.json"
    report = full_json(
        answer, language=language, file=file, maps=maps if whole else None, note=entry.note
    )
    contents = {
        f"{stem} report.html": to_page(answer.found, report, maps if whole else {}),
        file: json.dumps(report, indent=1, ensure_ascii=False),
        f"{stem}.vtt": texts.captions(answer.found),
    }
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [str(folder / name) for name in contents]


def _stem(entry: Entry) -> str:
    return Path(entry.name).stem[:60] or "clip"


def _write_archive(entries: Sequence[Entry], folder: Path, language: str, method: str) -> list[str]:
    """Write the table of all files as CSV, and all reports into one zip file."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["file", "verdict", "probability", "low", "high", "why", "sha256"])
    packed = folder / "reports.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, entry in by_suspicion(entries):
            writer.writerow([_plain(str(cell)) for cell in _row_of(entry, language)])
            if entry.scan is not None:
                inside = folder / f"{number + 1:02d} {_stem(entry)}"
                inside.mkdir(exist_ok=True)
                for file in _write_entry(entry, inside, language, method):
                    archive.write(file, f"{inside.name}/{Path(file).name}")
    sheet = folder / "table.csv"
    # With a byte order mark, without which spreadsheets misread accents.
    sheet.write_text(table.getvalue(), encoding="utf-8-sig", newline="")
    return [str(sheet), str(packed)]


def _row_of(entry: Entry, language: str) -> list[Any]:
    """Return a file's row of the CSV."""
    if entry.answer is None:
        error = entry.error or UserError("cancelled", "The check was cancelled.")
        return [entry.name, "error", "", "", "", texts.translate_error(language, error), ""]
    verdict, found = entry.answer.found.verdict, entry.answer.found
    low, high = verdict.interval or ("", "")
    shown = "" if verdict.probability is None else verdict.probability
    figures = [round(v, 4) if isinstance(v, float) else v for v in (shown, low, high)]
    changed = entry.answer.label is not verdict.label
    held = [holds_line(entry.answer, language)] if changed else []
    why = " ".join([*held, *texts.why(language, found)])
    return [entry.name, entry.answer.label, *figures, why, found.provenance.sha256]


def _plain(text: str) -> str:
    """Escape a CSV cell that a spreadsheet would run as a formula."""
    return f"'{text}" if text[:1] in "=+-@" else text
