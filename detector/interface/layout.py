"""The page: layout and wiring."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from detector import texts
from detector.explain import PAPER, TITLES
from detector.interface.api import api_explain, api_scan
from detector.interface.cards import card
from detector.interface.checks import (
    before_and_after,
    cancel,
    check,
    run_stress,
    show_face,
    show_map,
)
from detector.interface.detectors import ALL_METHODS, list_missing, list_models, measured
from detector.interface.inputs import unopened
from detector.interface.sessions import KEPT_SECONDS, VISITS
from detector.weights import read_catalogue

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples"
CHOOSE_POINT = (HERE / "timeline.js").read_text(encoding="utf-8")

say = gr.I18n(**texts.LABELS)
"""A key of texts.LABELS, in the language of the browser."""


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
                        unopened(picture)
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
            given, said = unopened(gr.File(type="filepath", label="clip")), gr.JSON()
            asked, when = gr.Textbox("default"), gr.Number(-1.0)
            count, how = gr.Number(32), gr.Textbox("gradcam")
            gr.Button().click(api_scan, [given, asked, count], said, api_name="scan", **shared)
            gr.Button().click(
                api_explain, [given, how, when, asked], said, api_name="explain", **shared
            )
    return blocks
