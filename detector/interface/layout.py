"""Build the page and connect its events."""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from detector import texts
from detector.heatmaps import PAPER, TITLES
from detector.interface import checks
from detector.interface.api import any_number, api_explain, api_scan
from detector.interface.detectors import list_missing, list_models, read_figures
from detector.interface.inputs import unopened
from detector.interface.sessions import KEPT_SECONDS, VISITS
from detector.weights import read_catalogue

HERE = Path(__file__).parent

OPACITY_SLIDER = """
const apply = () => element.querySelectorAll('.see').forEach(slider => {
  const map = slider.closest('.plate').querySelector('.map');
  if (map) map.style.opacity = slider.value / 100;
});
element.addEventListener('input', apply);
watch('value', apply);
"""
"""JavaScript: a plate's slider sets the opacity of its heatmap."""


def read_part(name: str) -> str:
    """Read a file of the page from this folder."""
    return (HERE / name).read_text(encoding="utf-8")


def missing_models() -> str:
    """Return the models without weights as an HTML list; empty if there are none."""
    titles = list_missing()
    rows = "".join(f'<li aria-disabled="true">{html.escape(title)}</li>' for title in titles)
    return f'<div class="missing"><ul>{rows}</ul></div>' if titles else ""


def load_texts() -> gr.I18n:
    """Return the sentences for gradio, which picks the browser's language."""
    labels = texts.labels()
    figures = texts.figures_as_text(read_figures("default"))
    for code, said in labels.items():
        said["about_text"] = texts.translate(
            code, "about_text", figures=figures, minutes=KEPT_SECONDS // 60
        )
    return gr.I18n(**labels)


i18n = load_texts()


def build_interface() -> gr.Blocks:
    """Build the whole page."""
    with gr.Blocks(
        title=texts.TITLE, analytics_enabled=False, delete_cache=(KEPT_SECONDS // 4, KEPT_SECONDS)
    ) as blocks:
        with gr.Row(elem_id="head"):
            gr.HTML(f"<h1>{texts.TITLE}</h1>", apply_default_css=False, min_width=0)
            gr.Markdown(i18n("tagline"))
        table = gr.HTML(
            {}, html_template=read_part("light_table.html"), js_on_load=read_part("light_table.js"),
            apply_default_css=False, elem_id="table", words=texts.script_words(),
            examples=checks.list_examples(),
        )  # fmt: skip
        parts: dict[str, Any] = {"table": table, **_evidence()}
        with gr.Accordion(i18n("settings"), open=False):
            model = gr.Radio(
                list_models(), value=read_catalogue().default, label=i18n("detector"),
                elem_id="model",
            )  # fmt: skip
            frames = gr.Slider(4, 128, 32, step=1, label=i18n("frame_count"), elem_id="frames")
            if list_missing():
                gr.Markdown(i18n("missing"))
            gr.HTML(missing_models())
        with gr.Accordion(i18n("about"), open=False):
            gr.Markdown(i18n("about_text"))
        _wire(blocks, parts, model, frames)
        _offer_endpoints()
    return blocks


def _evidence() -> dict[str, Any]:
    """Build the tabs with the evidence, which appear with the verdict."""
    plain: dict[str, Any] = {"apply_default_css": False}
    with gr.Tabs(elem_id="evidence"):
        with gr.Tab(i18n("tab_faces"), render_children=True):
            method = gr.Radio(
                [(TITLES[m], m) for m in PAPER], value="gradcam", label=i18n("method"),
                elem_id="method",
            )  # fmt: skip
            faces = gr.HTML("", js_on_load=OPACITY_SLIDER, elem_id="faces", **plain)
        with gr.Tab(i18n("tab_frames"), render_children=True):
            frames = gr.HTML("", elem_id="keyframes", **plain)
        with gr.Tab(i18n("tab_origin"), render_children=True):
            origin = gr.HTML("", elem_id="origin", **plain)
        with gr.Tab(i18n("tab_holds"), render_children=True):
            holds = gr.HTML("", elem_id="holds", **plain)
        with gr.Tab(i18n("tab_compare"), render_children=True):
            second = unopened(
                gr.File(
                    label=i18n("compare_drop"),
                    elem_id="second",
                    elem_classes="second-clip",
                    height=120,
                )
            )
            compared = gr.HTML("", elem_id="compared", **plain)
        with gr.Tab(i18n("tab_report"), render_children=True):
            sentence = gr.Textbox(
                label=i18n("sentence"), buttons=["copy"], lines=2, elem_id="sentence"
            )
            note = gr.Textbox(label=i18n("note"), lines=2, elem_id="note")
            make = gr.Button(i18n("make_report"), elem_id="make")
            gr.Markdown(i18n("report_info"), elem_id="report-info")
            several: dict[str, Any] = {
                "file_count": "multiple", "interactive": False, "visible": False,
            }  # fmt: skip
            files = gr.File(label=i18n("files"), elem_id="files", **several)
            archive = gr.File(label=i18n("archive_files"), elem_id="archive", **several)
    return {
        "method": method, "faces": faces, "frames": frames, "origin": origin, "holds": holds,
        "sentence": sentence, "note": note, "make": make, "files": files, "archive": archive,
        "second": second, "compared": compared,
    }  # fmt: skip


def _wire(blocks: gr.Blocks, parts: dict[str, Any], model: Any, frames: Any) -> None:
    """Connect the components' events to the functions in `checks`."""
    table, method, note = parts["table"], parts["method"], parts["note"]
    outputs = [parts[n] for n in ("table", *checks.EMPTY)]

    def update(shown: dict[str, Any]) -> dict[Any, Any]:
        updates = {parts[name]: value for name, value in shown.items()}
        for name in ("files", "archive"):
            if name in shown:
                value = shown[name]
                updates[parts[name]] = gr.File(value=value, visible=value is not None)
        return updates or gr.skip()

    def update_each(shown: Iterator[dict[str, Any]]) -> Iterator[dict[Any, Any]]:
        part = None
        for part in shown:
            yield update(part)
        if part is None:  # gradio empties the outputs of a generator that yields nothing
            yield gr.skip()

    def on_upload(
        model: str, frames: float, request: gr.Request, event: gr.EventData
    ) -> Iterator[dict[Any, Any]]:
        yield from update_each(checks.check(VISITS.of(request), event._data or {}, model, frames))

    def on_cancel(request: gr.Request, event: gr.EventData) -> None:
        visit = VISITS.of(request)
        visit.stopped = max(visit.stopped, int((event._data or {}).get("run", 0)))

    def on_open(request: gr.Request, event: gr.EventData) -> dict[Any, Any]:
        return update(checks.open_row(VISITS.of(request), int((event._data or {}).get("row", -1))))

    def on_choose(method: str, request: gr.Request, event: gr.EventData) -> dict[Any, Any]:
        frame, person = (int((event._data or {}).get(name, -1)) for name in ("frame", "person"))
        return update(checks.choose_face(VISITS.of(request), frame, person, method))

    def on_draw(method: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        yield from update_each(checks.draw_maps(VISITS.of(request), method))

    def on_stress(request: gr.Request) -> Iterator[dict[Any, Any]]:
        yield from update_each(checks.run_stress(VISITS.of(request)))

    def on_test(method: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        yield from update_each(checks.test_maps(VISITS.of(request), method))

    def on_files(method: str, note: str, request: gr.Request) -> dict[Any, Any]:
        return update(checks.write_files(VISITS.of(request), method, note))

    def on_compare(second: str | None, request: gr.Request) -> Iterator[dict[Any, Any]]:
        yield from update_each(checks.compare(VISITS.of(request), second))

    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    shared: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "network", **quiet}
    # A new file does not wait for the previous one.
    at_once: dict[str, Any] = {"trigger_mode": "multiple"}
    later: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "evidence", **quiet}
    faces, files = parts["faces"], [parts["files"], parts["archive"], table]

    def go_on(begun: Any) -> None:
        """After a verdict: draw the maps, run the stress test, test the maps, write the report."""
        drawn = begun.then(on_draw, method, faces, **later)
        tested = drawn.then(on_stress, None, outputs, **later)
        proved = tested.then(on_test, method, faces, **later)
        proved.then(on_files, [method, note], files, **quiet)

    go_on(table.upload(on_upload, [model, frames], outputs, **at_once, **shared))
    go_on(table.open(on_open, None, outputs, **at_once, **quiet))
    table.cancel(on_cancel, None, None, queue=False, **at_once, **quiet)
    chosen = table.choose(on_choose, method, faces, queue=False, **at_once, **quiet)
    for drawn in (
        chosen.then(on_draw, method, faces, **later),
        method.change(on_draw, method, faces, **later),
    ):
        drawn.then(on_test, method, faces, **later)
    second, compared = parts["second"], parts["compared"]
    second.upload(on_compare, second, compared, **later)
    second.clear(on_compare, second, compared, **quiet)
    parts["make"].click(on_files, [method, note], files, **quiet)
    blocks.unload(VISITS.forget)


def _offer_endpoints() -> None:
    """Add the API endpoints, which need hidden components."""
    shared: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "network"}
    with gr.Row(visible=False):
        given, said = unopened(gr.File(type="filepath", label="clip")), gr.JSON()
        asked, when = gr.Textbox("default"), any_number(-1.0)
        count, how = any_number(32), gr.Textbox("gradcam")
        gr.Button().click(api_scan, [given, asked, count], said, api_name="scan", **shared)
        gr.Button().click(
            api_explain, [given, how, when, asked], said, api_name="explain", **shared
        )
