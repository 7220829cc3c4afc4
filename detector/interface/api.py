"""The endpoints for programs and language models."""

from pathlib import Path
from typing import Any

from detector.errors import as_user_error
from detector.explain import check_method
from detector.interface.detectors import SharedDetector, compute_maps
from detector.pipeline import find_face, scan
from detector.report import error_json, to_json
from detector.settings import Settings


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
    except Exception as error:  # noqa: BLE001  a program is told a code, not a traceback
        return error_json(Path(clip).name, as_user_error(error))


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
    except Exception as error:  # noqa: BLE001  a program is told a code, not a traceback
        return error_json(Path(clip).name, as_user_error(error))
    return {
        "schema": 1, "file": Path(clip).name, "method": method, "time": face.time,
        "person": person.person.id, "box": list(face.box), "regions": heatmap.regions,
        "trust": heatmap.trust,
    }  # fmt: skip
