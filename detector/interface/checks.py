"""What the page asks for: a scan, a face with its map, a stress test."""

import html
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from detector import texts
from detector.charts import colour_heatmap, draw_boxes, draw_timeline, overlay
from detector.errors import UserError, as_user_error
from detector.explain import TITLES
from detector.explain.regions import describe_regions
from detector.explain.trust import describe_trust
from detector.interface.cards import card, error_card, figures, strip, strip_of, verdict_card
from detector.interface.detectors import SharedDetector, compute_maps
from detector.interface.sessions import VISITS, Visit, temporary_folder
from detector.pipeline import Stage, find_face, scan_in_stages
from detector.records import LABEL_TEXT, Face, Heatmap, Image, Person, Scan, show_probability
from detector.report import draw_pictures, to_html, to_json
from detector.settings import Settings
from detector.stress import stress


def check(
    clip: str | None,
    picture: str | None,
    model: str,
    key_frames: float,
    request: gr.Request,
    bar: gr.Progress = gr.Progress(),  # noqa: B008  how gradio passes it
) -> Iterator[dict[Any, Any]]:
    """Scan what was dropped, and show each stage as it comes."""
    path = clip or picture
    visit = VISITS.of(request)
    visit.stop.set()  # what runs for this visitor stops
    visit.stop = stop = threading.Event()
    visit.clear()
    yield {
        "verdict": card("empty", f"<p>{texts.EMPTY if path is None else 'Looking…'}</p>"),
        "results": False,
    }
    if path is None:
        return

    began: dict[str, float] = {}

    def progress(stage: str, fraction: float) -> None:
        if stop.is_set():
            raise UserError("cancelled", "The check was cancelled.")
        spent = time.monotonic() - began.setdefault(stage, time.monotonic())
        bar(min(1.0, fraction), desc=texts.working(stage, spent, fraction))

    try:
        settings = Settings(model=model, key_frames=int(key_frames))
        shared = SharedDetector.of(model)
        for stage in scan_in_stages(path, settings, detector=shared, progress=progress):
            progress("scores", 1.0)
            if stage.scan is None:
                yield _show_stage(stage)
            else:
                visit.scan, visit.model, visit.name = stage.scan, model, Path(path).name
                yield _show_scan(stage.scan, visit)
    except Exception as error:  # noqa: BLE001  a visitor is shown a sentence, not a traceback
        yield {"verdict": error_card(as_user_error(error)), "results": False}


def _show_stage(stage: Stage) -> dict[str, Any]:
    frames = [(k.index, k.image, f"{k.time:.1f} s") for k in stage.key_frames]
    if stage.people is None:
        said = f"{len(frames)} key frames. Looking for faces…"
    else:
        faces = sum(len(p.faces) for p in stage.people)
        said = f"{len(frames)} key frames, {faces} faces of {len(stage.people)} people. Scoring…"
    return {"verdict": card("working", f"<p>{said}</p>"), "gallery": strip(frames), "results": True}


def _show_scan(found: Scan, visit: Visit) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "verdict": verdict_card(found, visit.name),
        "gallery": strip_of(found),
        "timeline": draw_timeline(found) if found.people else "",
        "sentence": texts.sentence(found, visit.name),
        "results": True,
        "files": write_downloads(visit, found),
    }
    return shown


def write_downloads(visit: Visit, found: Scan) -> list[str]:
    """The report, as JSON and as a page, and the captions; deleted when the visitor leaves."""
    visit.folder = folder = Path(tempfile.mkdtemp(dir=temporary_folder()))
    stem = Path(visit.name).stem[:60] or "clip"
    report = to_json(found)
    contents = {
        f"{stem}.json": json.dumps(report, indent=1, ensure_ascii=False),
        f"{stem}.html": to_html(report, draw_pictures(found)),
        f"{stem}.vtt": texts.captions(found),
    }
    for file, content in contents.items():
        (folder / file).write_text(content, encoding="utf-8")
    return [str(folder / file) for file in contents]


def cancel(request: gr.Request) -> str:
    """Stop this visitor's check."""
    VISITS.of(request).stop.set()
    return card("empty", "<p>Cancelled.</p>")


def show_face(
    visit: Visit, frame: int | None, person: int | None, method: str, opacity: float
) -> dict[str, Any]:
    """A key frame, its face, and the heatmap of the chosen method."""
    found = visit.scan
    if found is None:
        return {}
    try:
        visit.chosen = _face_at(found, frame, person)
    except UserError as error:
        return {"words": error.message}
    face = visit.chosen[1]
    shown = next(k for k in found.key_frames if k.index == face.frame_index)
    return {
        "frame": draw_boxes(found, shown),
        "timeline": draw_timeline(found, marked=face.frame_index),
        "player": face.time,
        **show_map(visit, method, opacity),
    }


def _face_at(found: Scan, frame: int | None, person: int | None) -> tuple[Person, Face]:
    if frame is None:
        owner, face = find_face(found)
        return owner.person, face
    for candidate in found.people:
        for score in candidate.scores:
            if score.face.frame_index == frame and person in (None, candidate.person.id):
                return candidate.person, score.face
    raise UserError("no_face_at_time", "There is no face in this frame that could be explained.")


def before_and_after(heatmap: Heatmap, opacity: float) -> tuple[Image, Image]:
    """The face as it is, and with the map over it."""
    crop = heatmap.face.crop
    return crop, overlay(crop, heatmap.values, opacity=opacity)


def show_map(visit: Visit, method: str, opacity: float) -> dict[str, Any]:
    """The heatmap of the face that is shown."""
    if visit.chosen is None:
        return {}
    person, face = visit.chosen
    try:
        maps = compute_maps(visit.model, person, face, method)
    except Exception as error:  # noqa: BLE001
        return {"words": as_user_error(error).message}
    visit.map = first = next(iter(maps.values()))
    words = []
    for name, heatmap in maps.items():
        trust = heatmap.trust
        words.append(
            f"**{TITLES[name]}.** {describe_regions(heatmap.regions)} {describe_trust(trust)}  \n"
            f"Deletion {trust['deletion']:.2f} (random {trust['deletion_random']:.2f}), "
            f"insertion {trust['insertion']:.2f} (random {trust['insertion_random']:.2f}), "
            f"agreement {trust['agreement']:.2f}, stability {trust['stability']:.2f}."
        )
    return {
        "slider": before_and_after(first, opacity),
        "maps": figures(
            [
                (
                    overlay(face.crop, m.values),
                    TITLES[n] + ("" if m.trust["reliable"] else ": not reliable here"),
                )
                for n, m in maps.items()
            ]
            + [(colour_heatmap(first.values), f"{TITLES[first.method]}, the map alone")]
        ),
        "words": "\n\n".join(words),
    }  # fmt: skip


def run_stress(request: gr.Request) -> str:
    """The stress test of the clip that was checked."""
    visit = VISITS.of(request)
    if visit.scan is None or not visit.scan.people:
        return "<p>Check a clip first.</p>"
    trials, verdict = stress(visit.scan, SharedDetector.of(visit.model))
    rows = "".join(
        f"<tr><td>{html.escape(t.name)}</td><td>{show_probability(t.probability)}</td>"
        f"<td>{texts.SYMBOLS[t.label]} {html.escape(LABEL_TEXT[t.label])}</td></tr>"
        for t in trials
    )
    held = verdict.label is visit.scan.verdict.label
    said = (
        "The answer holds." if held else f"{verdict.reasons[0]} It should be read as inconclusive."
    )
    return (
        f'<p><strong>{html.escape(said)}</strong></p><table class="trials"><tr><th>The clip</th>'
        f"<th>Probability</th><th>Verdict</th></tr>{rows}</table>"
    )
