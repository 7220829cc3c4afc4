"""Write the verdict card and the stress test's table as HTML, for the app and the report."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from detector import texts
from detector.records import Label, Scan, Statement, Verdict, show_probability
from detector.stress import Trial, unsettles

MAKERS = {"generated": ("declared", "generator"), "altered": ("declared_edited", "editor")}
"""Kind of statement -> keys of its sentence and of the word for an unnamed maker."""
CROWD = 3  # people judged from which the card says that the highest score is so by chance too


@dataclass(frozen=True)
class Answer:
    """A file's scan and the result of its stress test."""

    found: Scan
    name: str
    """The file's name, as the user knows it."""
    trials: tuple[Trial, ...] | None = None
    """The stress test's trials; None if it has not run."""
    tested: Verdict | None = None
    """The verdict after the stress test."""
    known: bool = False
    """Whether the answer was computed in advance (the examples)."""

    @property
    def label(self) -> Label:
        """The label after the stress test if it has run, otherwise the scan's."""
        return (self.tested or self.found.verdict).label


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of the given CSS class; empty for an empty text."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if text else ""


def headline(symbol: str, text: str) -> str:
    """Return a card's headline."""
    return (
        f'<p class="label"><span aria-hidden="true">{symbol}</span><b>{html.escape(text)}</b></p>'
    )


def file_line(name: str, about: str = "") -> str:
    """Return the line that names the file."""
    name = html.escape(name)
    return f'<p class="file"><b title="{name}">{name}</b><span>{html.escape(about)}</span></p>'


def describe_file(found: Scan) -> str:
    """Return a video's duration and frame size, or a picture's size."""
    size = f"{found.video.width} x {found.video.height}"
    if texts.is_still(found):
        return size
    return f"{found.video.duration:.1f} s, {size}"


def declared(statements: Sequence[Statement], language: str) -> str:
    """Return the file's own statement that it was generated or edited; empty if it makes none."""
    relevant = [s for s in statements if s.kind in MAKERS]
    if not relevant:
        return ""
    first = min(relevant, key=lambda s: (s.kind != "generated", not s.who))
    sentence = describe_making(first, language)
    note = texts.translate(language, "declared_note", where=first.where)
    return f'<div class="declared">{html.escape(sentence)}.<small>{html.escape(note)}</small></div>'


def describe_making(statement: Statement, language: str) -> str:
    """Return a statement of one of the kinds in MAKERS as a sentence without a full stop."""
    key, unnamed = MAKERS[statement.kind]
    who = statement.who or texts.translate(language, unnamed)
    return texts.translate(language, key, who=who)


def verdict_card(answer: Answer, language: str) -> str:
    """Return the card with the verdict, its person, probability, reasons and next step."""
    found, label = answer.found, answer.label
    crowd = ""
    if texts.number_judged(found) >= CROWD:
        crowd = texts.translate(language, "crowd_note", count=texts.number_judged(found))
    next_step = texts.translate(language, "next")
    parts = [
        file_line(answer.name, describe_file(found)),
        declared(found.provenance.statements, language),
        headline(texts.SYMBOLS[label], texts.label_text(language, label)),
        paragraph(texts.of_whom(language, found), "whom"),
        signs(found, language),
        paragraph(texts.probability(language, found)),
        paragraph(texts.frequency(language, found.verdict, found.calibration)),
        paragraph(" ".join([*texts.why(language, found), crowd]).strip()),
        paragraph(holds_line(answer, language), "holds"),
        f'<div class="next"><b>{html.escape(next_step)}</b>'
        f"{paragraph(texts.what_next(language, found, label))}</div>",
        paragraph(" ".join(texts.translate_warning(language, w) for w in found.warnings), "quiet"),
        paragraph(texts.not_checked(language, found), "quiet"),
        paragraph(texts.strength(language, found.model.figures), "quiet"),
        paragraph(_about_example(answer, language), "quiet known") if answer.known else "",
    ]
    return f'<div class="card {label}">{"".join(parts)}</div>'


def _about_example(answer: Answer, language: str) -> str:
    """Say what an example is, and that its answer was computed in advance."""
    truth = f"truth_{answer.name.removesuffix('.mp4')}"
    keys = [key for key in (truth, "known") if key in texts.sentences()]
    return " ".join(texts.translate(language, key) for key in keys)


def signs(found: Scan, language: str) -> str:
    """Return the list of signs with their probabilities."""
    if not found.verdict.signs:
        return ""
    rows = "".join(
        f"<dt>{html.escape(texts.translate(language, f'sign_{sign}'))}</dt>"
        f'<dd class="meter" aria-hidden="true"><i style="width:{100 * probability:.0f}%"></i></dd>'
        f"<dd>{show_probability(probability)}</dd>"
        for sign, probability in found.verdict.signs.items()
    )
    return f'<dl class="signs">{rows}</dl>'


def holds_line(answer: Answer, language: str) -> str:
    """Say whether the verdict holds in the stress test; empty if no face was scored."""
    found = answer.found
    if not any(p.scores for p in found.people):
        return ""
    if answer.trials is None:
        return texts.translate(language, "holds_running")
    altered = answer.trials[1:]
    same = sum(t.label is found.verdict.label for t in altered)
    if answer.label is not found.verdict.label:
        names = [
            texts.translate(language, f"trial_{t.name}")
            for t in altered
            if unsettles(t, found.verdict)
        ]
        label = texts.label_text(language, found.verdict.label)
        return texts.translate(language, "holds_no", label=label, altered=", ".join(names))
    if same == len(altered):
        return texts.translate(language, "holds_yes", total=len(altered))
    if found.verdict.label is Label.MANIPULATED:  # only hard compression is excused
        return texts.translate(language, "holds_but_hard", same=same, total=len(altered))
    other = len(altered) - same
    return texts.translate(language, "holds_doubt", other=other, total=len(altered))


def trials_table(answer: Answer, language: str) -> str:
    """Return the stress test's table, one row an alteration."""
    line = holds_line(answer, language) or texts.translate(language, "holds_none")
    if not answer.trials:
        return f'<div class="evidence">{paragraph(line)}</div>'
    heads = "".join(
        f"<th>{html.escape(h)}</th>" for h in texts.translate(language, "holds_head").split("|")
    )
    rows = "".join(
        f"<tr><td>{html.escape(texts.translate(language, f'trial_{t.name}'))}</td>"
        f"<td>{show_probability(t.probability)}</td><td>{texts.SYMBOLS[t.label]} "
        f"{html.escape(texts.label_text(language, t.label))}</td></tr>"
        for t in answer.trials
    )
    return (
        f'<div class="evidence">{paragraph(line)}<div class="wide" tabindex="0">'
        '<table class="sheet-table">'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></div>"
    )
