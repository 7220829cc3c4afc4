"""An answer -> the report: one page that needs nothing beside it, to be archived and printed."""

import html
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from detector import __version__, texts
from detector.cards import Answer, paragraph, trials_table, verdict_card
from detector.charts import draw_boxes, to_data_uri
from detector.evidence import faces_page, origin_page, table
from detector.lanes import draw_lanes
from detector.records import Heatmap, Scan

STYLE = Path(__file__).parent / "page.css"
FRAMES = 8  # whole frames shown, evenly spread
FRAME_SIDE = 320  # pixels


def to_page(
    answer: Answer,
    language: str,
    *,
    when: datetime,
    maps: Mapping[tuple[int, int], Heatmap] | None = None,
    figures: Mapping[str, Any] | None = None,
    note: str = "",
) -> str:
    """The report. `maps` are by frame and person, `figures` those of the detector."""
    found = answer.found
    title = texts.say(language, "report_title", file=answer.name)
    stamp = when.strftime("%Y-%m-%d %H:%M:%S %Z")
    made = texts.say(language, "report_made", date=stamp, version=__version__)
    lanes = draw_lanes(found, language)
    parts = [
        f"<h1>{html.escape(title)}</h1>{paragraph(made, 'quiet')}",
        verdict_card(answer, language, figures or {}),
        _section(language, "note", f'<div class="note">{html.escape(note)}</div>' if note else ""),
        _section(language, "report_over_time", "" if texts.is_still(found) else lanes),
        _section(language, "tab_faces", faces_page(found, maps or {}, language)),
        _section(language, "tab_frames", _frames(found)),
        _section(language, "tab_origin", origin_page(answer, language)),
        _section(language, "tab_holds", trials_table(answer, language)),
        _section(language, "report_limits", _limits(found, language)),
        _section(language, "report_record", _record(found, language)),
        _verify(answer, language),
    ]
    style = STYLE.read_text(encoding="utf-8")
    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _section(language: str, key: str, body: str) -> str:
    return f"<h2>{html.escape(texts.say(language, key))}</h2>{body}" if body else ""


def _frames(found: Scan) -> str:
    step = max(1, -(-len(found.key_frames) // FRAMES))
    cells = "".join(
        f'<figure><img alt="" src="{to_data_uri(draw_boxes(found, k), FRAME_SIDE)}">'
        f"<figcaption>{k.time:.2f} s</figcaption></figure>"
        for k in found.key_frames[::step]
    )
    return f'<div class="frames">{cells}</div>'


def _limits(found: Scan, language: str) -> str:
    lines = [texts.not_checked(language, found), texts.say(language, "next_no_signs")]
    return "".join(paragraph(line) for line in lines)


def _record(found: Scan, language: str) -> str:
    names = texts.say(language, "report_model").split("|")
    bounds = f"{found.calibration.lower:.3f}, {found.calibration.upper:.3f}"
    chosen = ", ".join(f"{k} {v}" for k, v in found.settings.items() if v is not None)
    model = f"{found.model.name} ({found.model.source})"
    return table(list(zip(names, (model, found.model.sha256, bounds, chosen), strict=True)))


def _verify(answer: Answer, language: str) -> str:
    stem = Path(answer.name).stem[:60] or "clip"
    command = f'python -m detector verify "{stem}.json" "{answer.name}"'
    told = html.escape(texts.say(language, "report_verify", command="\0"))
    return f"<p>{told.replace(chr(0), f'<code>{html.escape(command)}</code>')}</p>"
