"""Write the cards for progress and errors, and the table of several files, as HTML."""

import html
from collections.abc import Sequence

from detector import texts
from detector.cards import Answer, file_line, headline, holds_line, paragraph
from detector.charts import clean_crop, to_data_uri
from detector.errors import UserError
from detector.interface.background import SHARES, Moment
from detector.interface.sessions import Entry
from detector.records import Label, show_probability

ERROR_SYMBOL = "✕"


def error_card(entry: Entry, error: UserError, language: str) -> str:
    """Return the card of a file that cannot be scanned."""
    label = headline(ERROR_SYMBOL, texts.translate(language, "label_error"))
    body = paragraph(texts.translate_error(language, error))
    return f'<div class="card error">{file_line(entry.name)}{label}{body}</div>'


def progress_card(entry: Entry, moment: Moment | None, seen: Sequence[str], language: str) -> str:
    """Return the card of a running scan: its stages, progress bar and remaining time."""
    fraction = moment.fraction if moment else 0.0
    present = moment.stage if moment else "key frames"
    rows = []
    for stage in SHARES:
        current = ' aria-current="step"' if stage == present else ""
        rows.append(f"<li{current}>{html.escape(texts.translate(language, f'stage_{stage}'))}</li>")
    left = ""
    if moment and moment.left is not None:
        left = texts.translate(language, "left", seconds=max(1, round(moment.left)))
    told = " · ".join([*seen, *([left] if left else [])])
    return (
        f'<div class="card working">{file_line(entry.name)}<ol class="steps">{"".join(rows)}</ol>'
        f'<div class="bar" aria-hidden="true"><i style="width:{100 * fraction:.0f}%"></i></div>'
        f'<p class="quiet">{html.escape(told)}</p></div>'
    )


def by_suspicion(entries: Sequence[Entry]) -> list[tuple[int, Entry]]:
    """Return (index, entry) pairs, the most suspicious first, then errors, then unfinished ones."""
    order = {Label.MANIPULATED: 0, Label.INCONCLUSIVE: 1, Label.NO_SIGNS: 2, Label.NO_FACE: 3}

    def rank(numbered: tuple[int, Entry]) -> tuple[int, float]:
        answer = numbered[1].answer
        if answer is None:
            return (4 if numbered[1].error else 5), 0.0
        return order[answer.label], -(answer.found.verdict.probability or 0.0)

    return sorted(enumerate(entries), key=rank)


def files_table(entries: Sequence[Entry], shown: Entry | None, language: str) -> str:
    """Return the table of several files; empty for one file. Clicking a row shows that file."""
    if len(entries) < 2:
        return ""
    done = sum(e.scan is not None or e.error is not None for e in entries)
    title = texts.translate(language, "desk_title", done=done, total=len(entries))
    names = texts.translate(language, "desk_head").split("|")
    heads = "<td></td>" + "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = "".join(_row(number, e, e is shown, language) for number, e in by_suspicion(entries))
    return (
        f'<h2>{html.escape(title)}</h2><div class="wide" tabindex="0"><table class="sheet-table">'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def brief_reason(answer: Answer, language: str) -> str:
    """Give one reason for an answer: what the stress test has changed, or the scan's first."""
    if answer.label is not answer.found.verdict.label:
        return holds_line(answer, language)
    return texts.why(language, answer.found)[0]


def _row(number: int, entry: Entry, current: bool, language: str) -> str:
    picture, said, shown, why, answer = "", "…", "", "", entry.answer
    name = html.escape(entry.name)
    if entry.error is not None:
        said = f"{ERROR_SYMBOL} {texts.translate(language, 'label_error')}"
        why = texts.translate_error(language, entry.error)
    elif answer is not None:
        found, label = answer.found, answer.label
        said = f"{texts.SYMBOLS[label]} {texts.label_text(language, label)}"
        if found.verdict.probability is not None:
            shown = show_probability(found.verdict.probability)
        why = brief_reason(answer, language)
        decider = texts.find_decider(found)
        image = (
            found.key_frames[0].image if decider is None
            else clean_crop(decider.person.faces[0], found.video)
        )  # fmt: skip
        picture = f'<img alt="" src="{to_data_uri(image, 80)}">'
        name = f'<button type="button" class="lt-link" data-row="{number}">{name}</button>'
    mark = ' aria-current="true"' if current else ""
    cells = [picture, name, *(html.escape(text) for text in (said, shown, why))]
    return f"<tr{mark}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
