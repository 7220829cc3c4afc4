"""The API endpoints `scan` and `explain`, also offered to language models by MCP."""

import math
from pathlib import Path
from typing import Any

import gradio as gr

from detector.errors import UserError, as_user_error
from detector.heatmaps import check_method
from detector.interface.detectors import SharedDetector, compute_maps
from detector.interface.inputs import is_address
from detector.pipeline import find_face, scan
from detector.report import error_json, to_json
from detector.settings import Settings


def any_number(value: float) -> gr.Number:
    """Return a number input that gradio does not check, so that a bad value gets an error code."""
    number = gr.Number(value)
    number.preprocess = lambda payload: payload  # type: ignore[method-assign]
    return number


def api_scan(clip: str, model: str = "default", key_frames: int = 32) -> dict[str, Any]:
    """Check whether a face in a video or picture shows signs of manipulation.

    Use this when someone asks whether a file is a deepfake. Tell the user what the verdict means,
    not only the number: `manipulated` is evidence, not proof; `no_signs` does not mean that the
    file is genuine; `inconclusive` means that the detector cannot tell.

    Args:
        clip: The video or picture. By MCP as a data URI, such as data:video/mp4;base64,AAAA; URLs
            are not fetched.
        model: Name of the detector; `default` is the app's own choice.
        key_frames: How many frames are examined, 1 to 512.

    Returns:
        The verdict (manipulated, no_signs, inconclusive or no_face) with its probability, interval
        and reasons, each person's faces over time, key frames, provenance and warnings; or an
        error with a code and a message.
    """
    try:
        settings = Settings(model=_text(model, "model"), key_frames=_whole(key_frames))
        found = scan(_file(clip), settings, detector=SharedDetector.of(settings.model))
        return to_json(found)
    except Exception as error:  # noqa: BLE001  programs get an error code, not a traceback
        return error_json(_name(clip), as_user_error(error))


def api_explain(
    clip: str, method: str = "gradcam", time: float = -1.0, model: str = "default"
) -> dict[str, Any]:
    """Show where on a face the detector found its evidence, and whether the map is reliable.

    Use this after a scan to say which regions of the face are suspicious. If `trust.reliable` is
    false, do not report the regions as findings.

    Args:
        clip: The video or picture. By MCP as a data URI, such as data:video/mp4;base64,AAAA; URLs
            are not fetched.
        method: smoothgrad, gradcam, gradcam++, faster-scorecam, layercam, hirescam or scorecam.
        time: Seconds into the clip; below zero for the most suspicious face.
        model: Name of the detector; `default` is the app's own choice.

    Returns:
        The face's time and box, the share of the map on each region, and the trust figures; or an
        error with a code and a message.
    """
    try:
        check_method(_text(method, "method"))
        moment, settings = _number(time, "time"), Settings(model=_text(model, "model"))
        found = scan(_file(clip), settings, detector=SharedDetector.of(settings.model))
        person, face = find_face(found, None if moment < 0 else moment)
        heatmap = compute_maps(settings.model, person, face, method)[method]
    except Exception as error:  # noqa: BLE001  programs get an error code, not a traceback
        return error_json(_name(clip), as_user_error(error))
    return {
        "schema": 1, "file": Path(clip).name, "method": method, "time": face.time,
        "person": person.person.id, "box": list(face.box), "regions": heatmap.regions,
        "trust": heatmap.trust,
    }  # fmt: skip


def _name(clip: Any) -> str:
    return Path(clip).name if isinstance(clip, str) else ""


def _file(clip: Any) -> str:
    if not isinstance(clip, str) or not clip:
        raise UserError("missing_file", "No file was sent.")
    if is_address(clip):
        raise UserError("missing_file", "URLs are not fetched: send the file itself.")
    return clip


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise UserError("bad_setting", f"The {name} must be a name, not {value!r}.")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError("bad_setting", f"{name} must be a number, not {value!r}.")
    return float(value)


def _whole(value: Any) -> int:
    number = _number(value, "key_frames")
    if number != int(number):
        raise UserError("bad_setting", f"key_frames must be a whole number, not {value!r}.")
    return int(number)
