"""The app: layout and wiring. The only importer of gradio; nothing is decided here."""

import html
import json
import os
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import spaces

from detector import texts
from detector.charts import (
    COLOURS,
    colour_heatmap,
    draw_boxes,
    draw_timeline,
    overlay,
    to_data_uri,
    to_png,
)
from detector.errors import UserError
from detector.explain import PAPER, TITLES, check_method, explain, explain_all
from detector.explain.regions import describe_regions
from detector.explain.trust import describe_trust
from detector.pipeline import Stage, find_face, scan, scan_in_stages
from detector.records import (
    LABEL_TEXT,
    Calibration,
    Face,
    Heatmap,
    Image,
    ModelInfo,
    Person,
    PersonVerdict,
    Scan,
    show_probability,
)
from detector.report import describe_verdict, error_json, to_html, to_json
from detector.scoring import Detector, Ensemble
from detector.settings import Settings
from detector.stress import stress
from detector.weights import find_source, load_detector, read_catalogue, read_metadata

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
KEPT_SECONDS = 3600  # how long uploads and pictures stay on disk at most
SESSIONS = 32  # visitors whose last scan is remembered
ALL_METHODS = "all four, side by side"
MAP_SECONDS = 30  # asked of a shared GPU for one face's maps

CSS = """
.gradio-container {max-width: 1180px !important; margin: 0 auto !important}
#verdict .card {border: 2px solid var(--border-color-primary); border-radius: 10px;
  padding: 16px 20px; background: var(--background-fill-primary)}
#verdict .label {font-size: 1.5rem; font-weight: 650; display: flex; gap: .6rem;
  align-items: center; margin: 0}
#verdict .manipulated {border-color: #b3261e} #verdict .no_signs {border-color: #1d6f42}
#verdict .inconclusive {border-color: #8a6100} #verdict .error {border-color: #b3261e}
#verdict .number {font-size: 1.05rem; margin: .3rem 0}
#verdict p {margin: .35rem 0; line-height: 1.5}
#verdict .meaning, #verdict .scope {color: var(--body-text-color)}
#verdict .people {display: flex; flex-wrap: wrap; gap: .6rem; margin-top: .8rem}
#verdict .person {border-left: 5px solid; padding: .3rem .7rem; flex: 1 1 210px;
  background: var(--background-fill-secondary); border-radius: 6px}
.timeline {width: 100%; height: auto; font: 12px system-ui, sans-serif}
.timeline text {fill: var(--body-text-color)} .timeline .lane-title {font-weight: 600}
.timeline .grid {stroke: var(--border-color-primary); stroke-width: 1}
.timeline .threshold {stroke: var(--body-text-color); stroke-width: 1.2; stroke-dasharray: 6 4;
  opacity: .75}
.timeline .differences {stroke: var(--body-text-color); opacity: .35}
.timeline .point {cursor: pointer; stroke: var(--background-fill-primary); stroke-width: 1.5}
.timeline .point:focus {outline: none; stroke: var(--body-text-color); stroke-width: 3}
#timeline {overflow-x: auto; contain: inline-size} .timeline {min-width: 560px}
.strip {display: grid; gap: 8px; grid-template-columns: repeat(auto-fill, minmax(120px, 1fr))}
.strip button {border: 1px solid var(--border-color-primary); border-radius: 6px; padding: 3px;
  background: var(--background-fill-primary); color: var(--body-text-color); cursor: pointer}
.strip button[aria-current] {border-color: var(--body-text-color); box-shadow: 0 0 0 2px}
.strip img, .figures img {width: 100%; border-radius: 4px; display: block}
.strip span {display: block; font-size: .8rem; padding: 2px}
.figures {display: grid; gap: 10px; grid-template-columns: repeat(auto-fill, minmax(130px, 1fr))}
.figures figure {margin: 0} .figures figcaption {font-size: .85rem; color: var(--body-text-color)}
button.selected[role=tab], a.download-link, footer button, footer a, footer div,
[data-testid=min-value], [data-testid=max-value]
  {color: var(--body-text-color) !important}
.missing, .missing li {color: var(--body-text-color-subdued); font-size: .85rem}
.missing ul {columns: 2; margin: .2rem 0 0 1rem}
.trials td, .trials th {padding: .25rem .8rem; text-align: left}
"""

CHOOSE_POINT = """
const choose = point => {
  element.querySelectorAll('.point').forEach(other => {
    other.removeAttribute('aria-current');
    if (other.tagName !== 'BUTTON') other.setAttribute('r', 5);
  });
  point.setAttribute('aria-current', 'true');
  if (point.tagName !== 'BUTTON') point.setAttribute('r', 8);
  trigger('click', {
    frame: Number(point.dataset.frame),
    person: point.dataset.person ? Number(point.dataset.person) : null});
};
element.addEventListener('click', event => {
  const point = event.target.closest('.point');
  if (point) choose(point);
});
element.addEventListener('keydown', event => {
  const point = event.target.closest('.point');
  if (!point) return;
  if (point.tagName !== 'BUTTON' && (event.key === 'Enter' || event.key === ' ')) {
    event.preventDefault(); choose(point);
  }
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (step) {
    const points = [...element.querySelectorAll('.point')];
    const next = points[points.indexOf(point) + step];
    if (next) { event.preventDefault(); next.focus(); }
  }
});
"""

THEME = gr.themes.Base(
    primary_hue="slate",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    button_primary_background_fill="#24364b",
    button_primary_background_fill_hover="#31485f",
    button_primary_text_color="#ffffff",
    button_primary_background_fill_dark="#c9d6e3",
    button_primary_background_fill_hover_dark="#e2eaf2",
    button_primary_text_color_dark="#10202f",
)


@dataclass
class Visit:
    """What is remembered of one visitor: the last scan, and whether to stop the present one."""

    scan: Scan | None = None
    model: str = "default"
    name: str = ""
    chosen: tuple[Person, Face] | None = None
    """The face that is shown, and whose it is."""
    map: Heatmap | None = None
    """What lies over it."""
    folder: Path | None = None
    """Where the files to download lie."""
    stop: threading.Event = field(default_factory=threading.Event)

    def clear(self) -> None:
        """Forget the last scan, and delete its files."""
        self.scan = self.chosen = self.map = None
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None


class Visits:
    """The visitors, the longest unseen forgotten first. Nothing of them is on disk."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Visit] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, request: gr.Request | None) -> Visit:
        """The visit that a request belongs to."""
        key = getattr(request, "session_hash", None) or "api"
        with self._lock:
            visit = self._held.setdefault(key, Visit())
            self._held.move_to_end(key)
            while len(self._held) > SESSIONS:
                self._held.popitem(last=False)[1].clear()
        return visit

    def forget(self, request: gr.Request) -> None:
        """The visitor has left."""
        with self._lock:
            visit = self._held.pop(getattr(request, "session_hash", None) or "", None)
        if visit is not None:
            visit.stop.set()
            visit.clear()


class Detectors:
    """Each network is loaded once, for all visitors."""

    def __init__(self) -> None:
        self._loaded: dict[str, Detector | Ensemble] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Detector | Ensemble:
        """The detector of a name."""
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = load_detector(name)
            return self._loaded[name]


say = gr.I18n(**texts.LABELS)
"""A key of texts.LABELS, in the language of the browser."""

VISITS = Visits()
DETECTORS = Detectors()


def list_models() -> list[tuple[str, str]]:
    """Title and name of every model that has weights, and where these come from."""
    catalogue = read_catalogue()
    return [
        (f"{entry.title} ({source})", entry.name)
        for entry in catalogue.entries.values()
        if (source := find_source(entry, catalogue))
    ]


def list_missing() -> str:
    """The models that cannot be chosen, and why."""
    catalogue = read_catalogue()
    missing = [e.title for e in catalogue.entries.values() if not find_source(e, catalogue)]
    if not missing:
        return ""
    rows = "".join(f'<li aria-disabled="true">{html.escape(title)}</li>' for title in missing)
    return f'<div class="missing"><p>{html.escape(texts.MISSING)}</p><ul>{rows}</ul></div>'


def measured() -> str:
    """The default model's own figures, from its checkpoint."""
    catalogue = read_catalogue()
    entry = catalogue.find("default")
    if entry.file is None or not (catalogue.folder / entry.file).is_file():
        return "- not measured"
    return texts.figures_as_text(read_metadata(catalogue.folder / entry.file).get("figures", {}))


def card(label: str, body: str) -> str:
    """The verdict card."""
    return f'<div class="card {label}" role="status" aria-live="polite">{body}</div>'


def error_card(error: UserError) -> str:
    """What stands there when a file cannot be scanned."""
    return card(
        "error",
        f'<p class="label"><span aria-hidden="true">✕</span> This could not be checked</p>'
        f"<p>{html.escape(error.message)}</p>",
    )


def verdict_card(found: Scan, name: str) -> str:
    """The answer, readable in one glance."""
    label = found.verdict.label
    number = ""
    if found.verdict.probability is not None and found.verdict.interval is not None:
        numbers = (found.verdict.probability, *found.verdict.interval)
        shown, low, high = map(show_probability, numbers)
        number = (
            f'<p class="number">Probability of manipulation {shown} '
            f"(95 % interval {low} to {high})</p>"
        )
    lines = [
        texts.natural_frequency(found), *found.verdict.reasons, texts.summary(found),
        texts.remedy(found), *found.warnings,
    ]  # fmt: skip
    told = "".join(f"<p>{html.escape(line)}</p>" for line in lines if line)
    people = "".join(_person_card(p) for p in found.people) if len(found.people) > 1 else ""
    return card(
        str(label),
        f'<p class="label"><span aria-hidden="true">{texts.SYMBOLS[label]}</span> '
        f"{html.escape(LABEL_TEXT[label])}</p>{number}{told}"
        f'<p class="meaning"><strong>{html.escape(texts.MEANING[label])}</strong></p>'
        f'<p class="scope">{html.escape(texts.scope(found))}</p>'
        f'<div class="people">{people}</div>',
    )


def _person_card(person: PersonVerdict) -> str:
    times = [f.time for f in person.person.faces]
    colour = COLOURS[(person.person.id - 1) % len(COLOURS)]
    verdict = person.verdict
    told = describe_verdict(str(verdict.label), verdict.probability, verdict.interval)
    return (
        f'<div class="person" style="border-color:{colour}"><strong>'
        f"{texts.SYMBOLS[verdict.label]} Person {person.person.id}</strong>, "
        f"{min(times):.1f} to {max(times):.1f} s, {len(times)} faces<br>{html.escape(told)}</div>"
    )


def strip(frames: list[tuple[int, Any, str]]) -> str:
    """Key frames as buttons: index, picture, caption."""
    return (
        '<div class="strip">'
        + "".join(
            f'<button type="button" class="point" data-frame="{index}">'
            f'<img alt="" src="{to_data_uri(image, 200)}">'
            f"<span>{html.escape(caption)}</span></button>"
            for index, image, caption in frames
        )
        + "</div>"
    )


def figures(pictures: list[tuple[Any, str]]) -> str:
    """Pictures with their captions, side by side."""
    return (
        '<div class="figures">'
        + "".join(
            f'<figure><img alt="{html.escape(caption)}" src="{to_data_uri(image, 320)}">'
            f'<figcaption aria-hidden="true">{html.escape(caption)}</figcaption></figure>'
            for image, caption in pictures
        )
        + "</div>"
    )


def strip_of(found: Scan) -> str:
    """The key frames with their boxes, times and highest probabilities."""
    best: dict[int, float] = {}
    for person in found.people:
        for score in person.scores:
            index = score.face.frame_index
            best[index] = max(best.get(index, 0.0), score.probability)
    return strip(
        [
            (
                k.index,
                draw_boxes(found, k),
                f"{k.time:.1f} s, "
                + (show_probability(best[k.index], ".2f") if k.index in best else "no face"),
            )
            for k in found.key_frames
        ]
    )


def seconds_to_score(model: str, crops: Sequence[Image], mirror: bool) -> int:
    """What is asked of a shared GPU: no more than is needed."""
    return 5 + len(crops) // 10


@spaces.GPU(duration=seconds_to_score)
def compute_scores(model: str, crops: Sequence[Image], mirror: bool) -> np.ndarray:
    """The network's part of a scan, and all of it that holds a shared GPU."""
    return DETECTORS.get(model).score(crops, mirror=mirror)


@dataclass(frozen=True)
class SharedDetector:
    """A detector of which only the network runs on the shared GPU, and the rest on the CPU."""

    name: str
    info: ModelInfo
    calibration: Calibration
    margin: float
    finder_device: str
    in_sequence: bool

    @classmethod
    def of(cls, name: str) -> "SharedDetector":
        """The one of a name."""
        whole = DETECTORS.get(name)
        where = "cpu" if "SPACES_ZERO_GPU" in os.environ else whole.finder_device
        return cls(name, whole.info, whole.calibration, whole.margin, where, whole.in_sequence)

    def score(self, crops: Sequence[Image], *, mirror: bool = True) -> np.ndarray:
        """The logits."""
        return compute_scores(self.name, list(crops), mirror)


@spaces.GPU(duration=MAP_SECONDS)
def compute_maps(model: str, person: Person, face: Face, method: str) -> dict[str, Any]:
    """The heatmaps that a choice of method asks for, with their trust figures."""
    detector = DETECTORS.get(model)
    if method == ALL_METHODS:
        return dict(explain_all(detector, face, person=person))
    return {method: explain(detector, face, method=method, trust=True, person=person)}


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
    except UserError as error:
        yield {"verdict": error_card(error), "results": False}


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
    pictures = {f"{k.time:.2f} s": to_png(draw_boxes(found, k)) for k in found.key_frames}
    contents = {
        f"{stem}.json": json.dumps(report, indent=1, ensure_ascii=False),
        f"{stem}.html": to_html(report, pictures),
        f"{stem}.vtt": texts.captions(found),
    }
    for file, content in contents.items():
        (folder / file).write_text(content)
    return [str(folder / file) for file in contents]


def temporary_folder() -> str:
    """Where gradio keeps and cleans its files."""
    folder = os.environ.get("GRADIO_TEMP_DIR") or str(Path(tempfile.gettempdir()) / "gradio")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


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
    except UserError as error:
        return {"words": error.message}
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


def api_scan(clip: str, model: str = "default", key_frames: int = 32) -> dict[str, Any]:
    """Check whether a face in a video or picture shows signs of manipulation.

    Args:
        clip: The video or picture file.
        model: Name of the detector; `default` is the app's own choice.
        key_frames: How many frames are looked at, 1 to 512.

    Returns:
        The verdict (manipulated, no_signs, inconclusive or no_face) with its probability, interval
        and reasons, each person's faces over time, key frames, provenance and warnings; or an
        error with a code and a message.
    """
    try:
        settings = Settings(model=model, key_frames=int(key_frames))
        return to_json(scan(clip, settings, detector=SharedDetector.of(model)))
    except UserError as error:
        return error_json(Path(clip).name, error)


def api_explain(
    clip: str, method: str = "gradcam", time: float = -1.0, model: str = "default"
) -> dict[str, Any]:
    """Show where on a face the detector found its evidence, and how far that can be trusted.

    Args:
        clip: The video or picture file.
        method: smoothgrad, gradcam, gradcam++ or faster-scorecam.
        time: Seconds into the clip; below zero for the most suspicious face.
        model: Name of the detector; `default` is the app's own choice.

    Returns:
        The face's time and box, the share of the map on each region, and the trust figures; or an
        error with a code and a message.
    """
    try:
        found = scan(clip, Settings(model=model), detector=SharedDetector.of(model))
        person, face = find_face(found, None if time < 0 else time)
        check_method(method)
        heatmap = compute_maps(model, person.person, face, method)[method]
    except UserError as error:
        return error_json(Path(clip).name, error)
    return {
        "schema": 1, "file": Path(clip).name, "method": method, "time": face.time,
        "person": person.person.id, "box": list(face.box), "regions": heatmap.regions,
        "trust": heatmap.trust,
    }  # fmt: skip


def build_interface() -> gr.Blocks:
    """The whole app."""
    with gr.Blocks(
        title=texts.TITLE, analytics_enabled=False, delete_cache=(KEPT_SECONDS // 4, KEPT_SECONDS)
    ) as blocks:
        gr.Markdown(f"# {texts.TITLE}")
        gr.Markdown(say("tagline"))
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                with gr.Tabs():
                    with gr.Tab(say("clip")):
                        clip = gr.Video(
                            label=say("drop"), sources=["upload", "webcam"], elem_id="clip"
                        )
                    with gr.Tab(say("picture")):
                        picture = gr.Image(
                            label=say("drop_picture"), type="filepath", sources=["upload"],
                            elem_id="picture",
                        )  # fmt: skip
                with gr.Row():
                    start = gr.Button(say("check"), variant="primary", elem_id="check")
                    stop = gr.Button(say("cancel"), elem_id="cancel")
                with gr.Accordion(say("settings"), open=False):
                    model = gr.Dropdown(
                        list_models(), value=read_catalogue().default, label=say("detector"),
                        elem_id="model",
                    )  # fmt: skip
                    frames = gr.Slider(4, 128, 32, step=1, label=say("frame_count"))
                    gr.HTML(list_missing())
                samples = sorted(EXAMPLES.glob("*.mp4"))
                if samples:
                    gr.Examples(
                        [[str(p)] for p in samples], [clip], label=say("examples"),
                        example_labels=[p.stem.replace("_", " ") for p in samples],
                        api_visibility="private",
                    )  # fmt: skip
            with gr.Column(scale=7, min_width=320):
                verdict = gr.HTML(card("empty", f"<p>{texts.EMPTY}</p>"), elem_id="verdict")
        with gr.Column(visible=False) as results:
            gr.Markdown(say("over_time"))
            timeline = gr.HTML("", js_on_load=CHOOSE_POINT, elem_id="timeline")
            with gr.Row(equal_height=False):
                with gr.Column(min_width=300):
                    frame = gr.Image(
                        label=say("key_frame"),
                        interactive=False,
                        format="png",
                        buttons=["fullscreen", "download"],
                        alt_text="The chosen key frame, with a box around each face",
                        elem_id="frame",
                    )
                    words = gr.Markdown(elem_id="words")
                with gr.Column(min_width=300):
                    method = gr.Radio(
                        [(TITLES[m], m) for m in PAPER] + [(ALL_METHODS, ALL_METHODS)],
                        value="gradcam", label=say("looked"), elem_id="method",
                    )  # fmt: skip
                    slider = gr.ImageSlider(
                        label=say("face_and_map"),  # type: ignore[arg-type]
                        format="png",
                        interactive=False,
                        elem_id="slider",
                    )
                    opacity = gr.Slider(
                        0.1, 1.0, 0.85, step=0.05, label=say("opacity"), elem_id="opacity"
                    )
                    maps = gr.HTML(elem_id="maps")
            gr.Markdown(say("key_frames"))
            gallery = gr.HTML("", js_on_load=CHOOSE_POINT, elem_id="gallery")
            gr.Markdown(say("holds"))
            stressed = gr.HTML(elem_id="stressed")
            test = gr.Button(say("stress"), elem_id="stress")
            gr.Markdown(say("take_away"))
            sentence = gr.Textbox(
                label=say("sentence"), buttons=["copy"], lines=3, elem_id="sentence"
            )
            files = gr.File(
                label=say("files"), file_count="multiple",
                interactive=False, elem_id="files",
            )  # fmt: skip
        with gr.Accordion(say("about"), open=False):
            gr.Markdown(
                texts.ABOUT.format(figures=measured(), hours=f"{KEPT_SECONDS // 60} minutes")
            )

        parts = {
            "verdict": verdict, "gallery": gallery, "timeline": timeline, "sentence": sentence,
            "results": results, "files": files, "frame": frame, "slider": slider, "maps": maps,
            "words": words, "player": clip, "stressed": stressed,
        }  # fmt: skip

        def place(shown: dict[str, Any]) -> dict[Any, Any]:
            """Named values to components."""
            placed = {}
            for name, value in shown.items():
                if name == "results":
                    value = gr.Column(visible=value)
                elif name == "player":
                    value = gr.Video(playback_position=value)
                placed[parts[name]] = value
            return placed

        def on_check(
            clip: str | None, picture: str | None, model: str, frames: float,
            request: gr.Request, bar: gr.Progress = gr.Progress(),  # noqa: B008
        ) -> Iterator[dict[Any, Any]]:  # fmt: skip
            for shown in check(clip, picture, model, frames, request, bar):
                yield place({"stressed": "", **shown})

        def on_first_face(
            clip: str | None, method: str, opacity: float, request: gr.Request
        ) -> dict[Any, Any]:
            visit = VISITS.of(request)
            if visit.scan is None or not any(p.scores for p in visit.scan.people):
                return place({"frame": None, "slider": None, "maps": "", "words": ""})
            shown = show_face(visit, None, None, method, opacity)
            shown.pop("player", None)
            return place(shown)

        def on_choice(
            clip: str | None, method: str, opacity: float, request: gr.Request,
            event: gr.EventData,
        ) -> dict[Any, Any]:  # fmt: skip
            """A point of the chart, which names a person, or a key frame, which does not."""
            chosen = event._data or {}
            if "frame" not in chosen:
                return {}
            person = chosen["person"]
            shown = show_face(VISITS.of(request), chosen["frame"], person, method, opacity)
            if person is not None:
                shown.pop("timeline", None)  # the page has marked the point; the focus stays
            if clip is None:
                shown.pop("player", None)
            return place(shown)

        def on_method(method: str, opacity: float, request: gr.Request) -> dict[Any, Any]:
            return place(show_map(VISITS.of(request), method, opacity))

        def on_opacity(opacity: float, request: gr.Request) -> Any:
            drawn = VISITS.of(request).map
            return gr.skip() if drawn is None else before_and_after(drawn, opacity)

        face_parts = [frame, slider, maps, words, timeline, clip]
        hidden: dict[str, Any] = {"api_visibility": "private"}
        shared: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "network"}
        run = start.click(
            on_check, [clip, picture, model, frames],
            [verdict, gallery, timeline, sentence, results, files, stressed],
            show_progress_on=verdict, **hidden, **shared,
        )  # fmt: skip
        of_face = [clip, method, opacity]
        run.success(on_first_face, of_face, face_parts, **hidden, **shared)
        stop.click(cancel, None, verdict, queue=False, cancels=[run], **hidden)
        quietly: dict[str, Any] = {"show_progress": "minimal", **hidden, **shared}
        timeline.click(on_choice, of_face, face_parts, **quietly)
        gallery.click(on_choice, of_face, face_parts, **quietly)
        method.change(on_method, [method, opacity], [slider, maps, words], **hidden, **shared)
        opacity.release(on_opacity, opacity, slider, show_progress="hidden", **hidden)
        test.click(run_stress, None, stressed, **hidden, **shared)
        blocks.unload(VISITS.forget)

        with gr.Row(visible=False):
            given, said = gr.File(type="filepath", label="clip"), gr.JSON()
            asked, when = gr.Textbox("default"), gr.Number(-1.0)
            count, how = gr.Number(32), gr.Textbox("gradcam")
            gr.Button().click(api_scan, [given, asked, count], said, api_name="scan", **shared)
            gr.Button().click(
                api_explain, [given, how, when, asked], said, api_name="explain", **shared
            )
    return blocks


def launch(
    *, port: int | None = None, share: bool = False, open_browser: bool = True, block: bool = True
) -> gr.Blocks:
    """Serve the app: on a Space to everyone, on the desktop to this machine alone."""
    on_space = "SPACE_ID" in os.environ
    temporary_folder()
    blocks = build_interface().queue(max_size=32, default_concurrency_limit=4)
    blocks.launch(
        server_name=None if on_space else "127.0.0.1",
        server_port=port,
        share=share,
        inbrowser=open_browser and not on_space,
        theme=THEME,
        css=CSS,
        run_history=False,
        i18n=say,
        mcp_server=has_mcp(),
        max_file_size="2gb",
        show_error=True,
        prevent_thread_lock=not block,
        quiet=not block,
    )
    return blocks


def has_mcp() -> bool:
    """Whether gradio's MCP extra is installed; without it gradio says nothing and serves none."""
    from importlib.util import find_spec

    return find_spec("mcp") is not None
