"""Write the report: JSON, and a self-contained HTML page to archive and print."""

import base64
import errno
import html
import io
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image

from detector import __version__, texts
from detector.cards import Answer, paragraph, trials_table, verdict_card
from detector.charts import draw_boxes, overlay, to_data_uri, to_png
from detector.errors import UserError
from detector.evidence import Maps, faces_page, origin_page, table, telling_faces
from detector.lanes import draw_lanes
from detector.records import Heatmap, Label, Scan
from detector.report import JSON_TAGS, as_reported, to_json
from detector.stress import Trial

STYLE = Path(__file__).parent / "page.css"
FRAMES = 8  # whole frames shown, evenly spread
FRAME_SIDE = 320  # pixels
MAX_EMBEDDED_BYTES = 500_000  # of JSON in a page; larger JSON is only in its own file
PICTURE = re.compile(r'(?<=src="data:image/)(?:jpeg|webp);base64,([A-Za-z0-9+/=]*)(?=")')
MARK = re.compile(r'(?<=<i class="mark" style=")(?:(?:left|top|width|height):\d+%;?){4}(?=")')
NUMBER = re.compile(r"\d+")
MARK_TOLERANCE = 3  # percent of the picture by which a mark may lie elsewhere
PATCH = 8  # pixels: side of the squares over which pictures are compared
ALTERING_METADATA = {"exif", "icc_profile", "xmp"}  # may change how a picture is shown
MAX_DIFFERENCE = 20.0  # grey levels, mean over a square; two encoders differ by less


def full_json(
    answer: Answer,
    *,
    language: str,
    file: str,
    maps: Maps | None = None,
    note: str = "",
    when: datetime | None = None,
) -> dict[str, Any]:
    """Return a report's JSON: the scan, the stress test and how the report was made.

    Args:
        answer: the file's scan and stress test.
        language: the page's language.
        file: name of the JSON file, for the page's `verify` command.
        maps: the heatmaps on the page, all of one method.
        note: a text of the user's to print on the page.
        when: time of the report; now if None.
    """
    report = to_json(answer.found, name=answer.name)
    when, maps = when or datetime.now().astimezone(), maps or {}
    method = next((heatmap.method for heatmap in maps.values()), None)
    report["made"] = {
        "when": when.isoformat(timespec="seconds"), "version": __version__, "language": language,
        "maps": method, "note": note, "report": file,
    }  # fmt: skip
    report["heatmaps"] = heatmaps_json(answer.found, maps)
    if answer.trials is not None and answer.tested is not None:
        report["stress"] = stress_json(answer)
    return report


def heatmaps_json(found: Scan, maps: Maps) -> list[dict[str, Any]]:
    """Return what is told of the shown faces' heatmaps, as part of the JSON."""
    keys = [(face.frame_index, person.person.id) for person, face in telling_faces(found)]
    return [
        {
            "index": key[0], "person": key[1], "sign": maps[key].sign,
            "regions": _rounded(maps[key].regions), "trust": _rounded(maps[key].trust),
        }
        for key in keys
        if key in maps
    ]  # fmt: skip


def _rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}


def stress_json(answer: Answer) -> dict[str, Any]:
    """Return the stress test's part of the JSON."""
    return {
        "verdict": str(answer.label),
        "holds": answer.label is answer.found.verdict.label,
        "trials": [
            {"name": t.name, "probability": round(t.probability, 4), "verdict": str(t.label)}
            for t in answer.trials or ()
        ],
    }


def to_page(found: Scan, report: Mapping[str, Any], maps: Maps) -> str:
    """Return a report's page. Its figures are those of `report`, the result of `full_json`."""
    made = report["made"]
    language = texts.choose_language(made["language"])
    answer = _as_answer(as_reported(found, report), report)
    found = answer.found
    maps = {
        (told["index"], told["person"]): replace(
            maps[told["index"], told["person"]], regions=told["regions"], trust=told["trust"]
        )
        for told in report.get("heatmaps", ())
    }
    title = texts.translate(language, "report_title", file=answer.name)
    stamp = datetime.fromisoformat(made["when"]).strftime("%Y-%m-%d %H:%M:%S %Z")
    when = texts.translate(language, "report_made", date=stamp, version=made["version"])
    note = made["note"] and f'<div class="note">{html.escape(made["note"])}</div>'
    lanes = draw_lanes(found, language)
    parts = [
        f"<h1>{html.escape(title)}</h1>{paragraph(when, 'quiet')}",
        verdict_card(answer, language),
        _section(language, "note", note),
        _section(language, "report_over_time", "" if texts.is_still(found) else lanes),
        _section(language, "tab_faces", faces_page(found, maps, language, waiting=False)),
        _section(language, "tab_frames", _frames(found)),
        _section(language, "tab_origin", origin_page(answer, language)),
        _section(language, "tab_holds", trials_table(answer, language)),
        _section(language, "report_limits", _limits(found, language)),
        _section(language, "report_record", _record(found, language)),
        _embed_json(report),
        _verify(answer, language, made["report"]),
    ]
    style = STYLE.read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def compare_page(page: str, found: Scan, report: Mapping[str, Any], maps: Maps) -> list[str]:
    """Return how a page differs from the page of its JSON and a new scan; empty if it does not."""
    if not report.get("made"):
        return ["the page was made by another version"]
    anew = to_page(found, report, maps)
    differences = []
    theirs, ours = PICTURE.sub("", page), PICTURE.sub("", anew)
    if MARK.sub("", theirs) != MARK.sub("", ours):
        differences.append("the page does not say what the JSON says")
    elif not np.allclose(_marks(theirs), _marks(ours), atol=MARK_TOLERANCE):
        differences.append("the page marks other places than a fresh scan")
    pictures = PICTURE.findall(page), PICTURE.findall(anew)
    if len(pictures[0]) != len(pictures[1]) or not all(map(look_alike, *pictures)):
        differences.append("the page's pictures are not those of a fresh scan")
    return differences


def _marks(page: str) -> list[float]:
    """The positions and sizes of a page's marks, in percent of their pictures."""
    return [float(number) for style in MARK.findall(page) for number in NUMBER.findall(style)]


def look_alike(theirs: str, ours: str) -> bool:
    """Whether two pictures in base64 show the same, but for their encoders."""
    if theirs == ours:
        return True
    try:
        with _open(theirs) as one, _open(ours) as other:
            if one.size != other.size or one.mode != other.mode:  # before anything is decoded
                return False
            if ALTERING_METADATA & set(one.info) or getattr(one, "n_frames", 1) > 1:
                return False
            pictures = [_visible_pixels(picture) for picture in (one, other)]
    except (OSError, ValueError):
        return False
    apart = np.abs(pictures[0] - pictures[1])
    return all(
        float(cv2.blur(channel, (PATCH, PATCH)).max()) <= MAX_DIFFERENCE for channel in apart
    )


def _open(coded: str) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(base64.b64decode(coded)), formats=("JPEG", "WEBP"))


def _visible_pixels(picture: PIL.Image.Image) -> np.ndarray:
    """A picture's channels, (n, height, width); where it is transparent, its colours vanish."""
    pixels = np.moveaxis(np.asarray(picture.convert("RGBA"), np.float32), 2, 0)
    return np.concatenate([pixels[:3] * pixels[3:] / 255, pixels[3:]])


def write_report(found: Scan, report: Mapping[str, Any], folder: Path, maps: Maps) -> None:
    """Write the JSON, the page, the key frames that show faces, and the first heatmap.

    Raises:
        UserError: `disk_full` or `no_permission`.
    """
    pictures = _draw_pictures(found, maps)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in pictures.items():
            (folder / f"{name}.png").write_bytes(content)
        for heatmap in _first_map(found, maps):
            np.save(folder / f"{heatmap.method}.npy", heatmap.values)
        path = folder / report["made"]["report"]
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
        path.with_suffix(".html").write_text(to_page(found, report, maps), encoding="utf-8")
    except OSError as error:
        full = error.errno == errno.ENOSPC
        raise UserError(
            "disk_full" if full else "no_permission",
            f"The report cannot be written to {folder}: {error.strerror}.",
        ) from error


def _draw_pictures(found: Scan, maps: Maps) -> dict[str, bytes]:
    """Return PNG files by name: key frames with boxes, and a face with its heatmap."""
    faces = {f.frame_index for p in found.people for f in p.person.faces}
    pictures = {
        f"key frame {k.time:.2f}s": to_png(draw_boxes(found, k))
        for k in found.key_frames
        if k.index in faces
    }
    for heatmap in _first_map(found, maps):
        pictures[heatmap.method] = to_png(overlay(heatmap.face.crop, heatmap.values))
    return pictures


def _first_map(found: Scan, maps: Maps) -> list[Heatmap]:
    """Return the first shown face's heatmap as a list of one; empty if it has none."""
    telling = [(face.frame_index, person.person.id) for person, face in telling_faces(found)]
    return [maps[key] for key in telling[:1] if key in maps]


def _as_answer(found: Scan, report: Mapping[str, Any]) -> Answer:
    """Return the answer that a report's JSON contains."""
    told = report.get("stress")
    if told is None:
        return Answer(found, report["file"])
    trials = tuple(Trial(t["name"], t["probability"], Label(t["verdict"])) for t in told["trials"])
    tested = replace(found.verdict, label=Label(told["verdict"]))
    return Answer(found, report["file"], trials, tested)


def _section(language: str, key: str, body: str) -> str:
    return f"<h2>{html.escape(texts.translate(language, key))}</h2>{body}" if body else ""


def _frames(found: Scan) -> str:
    step = max(1, -(-len(found.key_frames) // FRAMES))
    cells = "".join(
        f'<figure><img alt="" src="{to_data_uri(draw_boxes(found, k), FRAME_SIDE)}">'
        f"<figcaption>{k.time:.2f} s</figcaption></figure>"
        for k in found.key_frames[::step]
    )
    return f'<div class="frames">{cells}</div>'


def _limits(found: Scan, language: str) -> str:
    lines = [texts.not_checked(language, found), texts.translate(language, "next_no_signs")]
    return "".join(paragraph(line) for line in lines)


def _record(found: Scan, language: str) -> str:
    names = texts.translate(language, "report_model").split("|")
    bounds = f"{found.calibration.lower:.3f}, {found.calibration.upper:.3f}"
    chosen = ", ".join(f"{k} {v}" for k, v in found.settings.items() if v is not None)
    model = f"{found.model.name} ({found.model.source})"
    return table(list(zip(names, (model, found.model.sha256, bounds, chosen), strict=True)))


def _embed_json(report: Mapping[str, Any]) -> str:
    """Return the JSON as a script element, which `verify` reads; empty if it is too large."""
    text = json.dumps(report, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return "" if len(text.encode()) > MAX_EMBEDDED_BYTES else text.join(JSON_TAGS)


def _verify(answer: Answer, language: str, file: str) -> str:
    command = f'python -m detector verify "{file}" "{answer.name}"'
    told = html.escape(texts.translate(language, "report_verify", command="\0"))
    return f"<p>{told.replace(chr(0), f'<code>{html.escape(command)}</code>')}</p>"
