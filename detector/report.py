"""A scan <-> JSON, and -> a page to read. Imports records only: no torch, no decoder."""

import base64
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detector.charts import draw_boxes, overlay, to_png
from detector.errors import UserError
from detector.records import (
    LABEL_TEXT,
    Heatmap,
    Label,
    PersonVerdict,
    Scan,
    show_probability,
)

SCHEMA = 1
TOLERANCE = 0.01  # probability: what another processor's rounding may change


def to_json(scan: Scan) -> dict[str, Any]:
    """The scan as the command line, the app and the API give it."""
    video = scan.video
    return {
        "schema": SCHEMA,
        "file": Path(video.path).name,
        "sha256": scan.provenance.sha256,
        "verdict": str(scan.verdict.label),
        "probability": _round(scan.verdict.probability),
        "interval": _interval(scan.verdict.interval),
        "reasons": list(scan.verdict.reasons),
        "people": [_person(p) for p in scan.people],
        "key_frames": [
            {"index": k.index, "time": _round(k.time), "difference": _round(k.difference)}
            for k in scan.key_frames
        ],
        "video": {
            "width": video.width,
            "height": video.height,
            "fps": _round(float(video.rate)),
            "duration": _round(video.duration),
            "frames": video.frames,
            "codec": video.codec,
            "rotation": video.rotation,
        },
        "model": {
            "name": scan.model.name,
            "source": scan.model.source,
            "sha256": scan.model.sha256,
            "calibrated": scan.model.calibrated,
            "thresholds": {
                "lower": _round(scan.calibration.lower),
                "upper": _round(scan.calibration.upper),
            },
        },
        "provenance": {
            "content_credentials": scan.provenance.content_credentials,
            "signer": scan.provenance.signer,
            "container": dict(scan.provenance.container),
        },
        "settings": dict(scan.settings),
        "timings": {name: _round(seconds, 3) for name, seconds in scan.timings.items()},
        "warnings": list(scan.warnings),
    }


def error_json(file: str, error: UserError) -> dict[str, Any]:
    """What stands in the place of a scan that failed."""
    return {
        "schema": SCHEMA,
        "file": file,
        "error": {"code": error.code, "message": error.message},
    }


def _round(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(float(value), digits)


def _interval(interval: tuple[float, float] | None) -> list[float | None] | None:
    return None if interval is None else [_round(v) for v in interval]


def _person(person: PersonVerdict) -> dict[str, Any]:
    scored = {id(s.face): s.probability for s in person.scores}
    return {
        "id": person.person.id,
        "verdict": str(person.verdict.label),
        "probability": _round(person.verdict.probability),
        "interval": _interval(person.verdict.interval),
        "reasons": list(person.verdict.reasons),
        "faces": [
            {
                "index": face.frame_index,
                "time": _round(face.time),
                "box": list(face.box),
                "probability": _round(scored.get(id(face))),
                **({"unfit": face.unfit} if face.unfit else {}),
            }
            for face in person.person.faces
        ],
    }


def read_report(path: Path) -> dict[str, Any]:
    """A report that this program wrote."""
    try:
        report = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError("missing_file", f"There is no report {path}.") from None
    except (OSError, ValueError) as error:
        raise UserError("bad_report", f"{path} is no report: {error}.") from error
    needed = {"schema", "sha256", "verdict", "probability", "model", "settings"}
    if not isinstance(report, dict) or not needed <= set(report) or report["schema"] != SCHEMA:
        raise UserError(
            "bad_report", f"{path} is no report of this program, or of another version."
        )
    return report


def compare(report: Mapping[str, Any], fresh: Mapping[str, Any]) -> list[str]:
    """How a fresh scan differs from a report; empty when it bears the report out."""
    differences = []
    for name, title in (("sha256", "the clip's content"), ("verdict", "the verdict")):
        if report[name] != fresh[name]:
            differences.append(f"{title}: {report[name]} then, {fresh[name]} now")
    if report["model"]["sha256"] != fresh["model"]["sha256"]:
        differences.append("the network's weights are others")
    then, now = report["probability"], fresh["probability"]
    if (then is None) != (now is None) or (
        then is not None and now is not None and abs(then - now) > TOLERANCE
    ):
        differences.append(f"the probability: {then} then, {now} now")
    if [k["index"] for k in report.get("key_frames", [])] != [
        k["index"] for k in fresh["key_frames"]
    ]:
        differences.append("other key frames were looked at")
    return differences


def describe_verdict(label: str, probability: float | None, interval: Any) -> str:
    """One line for a person to read."""
    text = LABEL_TEXT[Label(label)]
    if probability is None:
        return text
    shown, low, high = (show_probability(value, ".2f") for value in (probability, *interval))
    return f"{text} (probability {shown}, between {low} and {high})"


def to_text(report: Mapping[str, Any]) -> str:
    """The scan as the command line prints it."""
    if "error" in report:
        return f"{report['file']}\n  {report['error']['message']} [{report['error']['code']}]"
    verdict = describe_verdict(report["verdict"], report["probability"], report["interval"])
    lines = [report["file"], f"  {verdict}"]
    lines += [f"  {reason}" for reason in report["reasons"]]
    if len(report["people"]) > 1:
        for person in report["people"]:
            times = [face["time"] for face in person["faces"]]
            answer = describe_verdict(person["verdict"], person["probability"], person["interval"])
            lines.append(
                f"  person {person['id']}, {len(times)} faces from {min(times):.1f} s "
                f"to {max(times):.1f} s: {answer}"
            )
    lines += [f"  Note: {warning}" for warning in report["warnings"]]
    return "\n".join(lines)


def to_html(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The scan as one page that needs nothing beside it. `pictures` are PNG files by caption."""
    rows = "".join(
        f"<tr><td>{person['id']}</td><td>{html.escape(LABEL_TEXT[Label(person['verdict'])])}</td>"
        f"<td>{'' if person['probability'] is None else format(person['probability'], '.2f')}</td>"
        f"<td>{len(person['faces'])}</td></tr>"
        for person in report["people"]
    )
    shown = "".join(
        f'<figure><img alt="{html.escape(caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, content in pictures.items()
    )
    paragraphs = "".join(
        f"<p>{html.escape(text)}</p>" for text in [*report["reasons"], *report["warnings"]]
    )
    verdict = describe_verdict(report["verdict"], report["probability"], report["interval"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(report["file"])}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
figure{{display:inline-block;margin:.5rem}}img{{max-width:14rem}}td,th{{padding:.2rem .8rem}}
pre{{overflow:auto;background:#f4f4f4;padding:1rem}}</style></head><body>
<h1>{html.escape(report["file"])}</h1>
<h2>{html.escape(verdict)}</h2>
{paragraphs}
<p>The answer is a statistical one about faces alone. Voice, lip movement, scene and context were
not checked.</p>
<table><tr><th>Person</th><th>Verdict</th><th>Probability</th><th>Faces</th></tr>{rows}</table>
{shown}
<h2>For the record</h2><pre>{html.escape(json.dumps(report, indent=1, ensure_ascii=False))}</pre>
</body></html>
"""


def write_report(found: Scan, folder: Path, heatmaps: Mapping[str, Heatmap] | None = None) -> Path:
    """report.json, report.html and the pictures they need; the path of the JSON."""
    report = to_json(found)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        f"{k.time:.2f} s": to_png(draw_boxes(found, k))
        for k in found.key_frames
        if any(f.frame_index == k.index for p in found.people for f in p.person.faces)
    }
    for caption, content in pictures.items():
        (folder / f"key frame {caption.replace(' ', '')}.png").write_bytes(content)
    for name, heatmap in (heatmaps or {}).items():
        laid = to_png(overlay(heatmap.face.crop, heatmap.values))
        caption = f"{name} at {heatmap.face.time:.2f} s"
        pictures[caption] = laid
        (folder / f"{name}.png").write_bytes(laid)
        np.save(folder / f"{name}.npy", heatmap.values)
    path = folder / "report.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False))
    (folder / "report.html").write_text(to_html(report, pictures))
    return path
