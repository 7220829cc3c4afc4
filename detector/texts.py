"""Look up and fill in the sentences of the app and the report, in four languages.

The sentences stand in `sentences.json`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from detector.errors import UserError
from detector.records import Calibration, Label, PersonVerdict, Scan, Verdict, show_probability
from detector.verdict import FEWEST_FACES, choose_label, count_above, count_judged, fewest_faces

TITLE = "Unmask"
ENGLISH = "en"
SENTENCES = Path(__file__).parent / "sentences.json"
SCRIPT = "js_"  # prefix of the keys that the page's JavaScript uses
SMALL = 80  # face width in pixels below which a closer shot is suggested
KINDS = {
    "pasted": ("pasted", "blended", "swapped", "reenacted"),
    "drawn": ("drawn", "animated", "synthesised"),
}  # fmt: skip
"""Sign -> the kinds of fakes in a checkpoint's figures that show it, the broadest first."""
SYMBOLS = {
    Label.MANIPULATED: "▲", Label.NO_SIGNS: "●", Label.INCONCLUSIVE: "◆", Label.NO_FACE: "○",
}  # fmt: skip


@cache
def sentences() -> dict[str, dict[str, str]]:
    """Load all sentences: key -> language -> sentence."""
    found: dict[str, dict[str, str]] = json.loads(SENTENCES.read_text(encoding="utf-8"))
    return found


def languages() -> tuple[str, ...]:
    """Return the codes of the languages, English first."""
    return tuple(next(iter(sentences().values())))


def choose_language(wanted: str | None) -> str:
    """Return the language for a browser's locale, such as `fr-CA`; otherwise English."""
    code = (wanted or "").lower().split("-")[0]
    return code if code in languages() else ENGLISH


def translate(language: str, key: str, **values: Any) -> str:
    """Return a sentence with its placeholders filled in."""
    return sentences()[key][language].format(**values)


def translate_count(language: str, key: str, count: int) -> str:
    """Return a count of `faces` or `people` in words, singular or plural."""
    return translate(language, f"{key}_{'one' if count == 1 else 'many'}", count=count)


def labels() -> dict[str, dict[str, str]]:
    """Return all sentences by language: language -> key -> text."""
    return {code: {key: said[code] for key, said in sentences().items()} for code in languages()}


def script_words() -> dict[str, dict[str, str]]:
    """Return the texts that the page's JavaScript shows: language -> key -> text."""
    return {
        code: {
            key.removeprefix(SCRIPT): said[code]
            for key, said in sentences().items()
            if key.startswith((SCRIPT, "example_"))
        }
        for code in languages()
    }


def translate_error(language: str, error: UserError) -> str:
    """Return an error's message in English, or its code's general sentence in a translation."""
    key = f"error_{error.code}"
    if language == ENGLISH or key not in sentences():
        return error.message
    return translate(language, key)


@cache
def warning_patterns() -> dict[str, re.Pattern[str]]:
    """Return a pattern for each warning's English sentence: key -> pattern."""
    return {
        key: re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(said[ENGLISH])))
        for key, said in sentences().items()
        if key.startswith("warning_")
    }


def translate_warning(language: str, warning: str) -> str:
    """Translate a scan's warning, which is in English; one that is unknown is returned as it is."""
    for key, pattern in warning_patterns().items():
        if found := pattern.fullmatch(warning):
            return translate(language, key, **found.groupdict())
    return warning


def label_text(language: str, label: Label) -> str:
    """Return a label in words."""
    return translate(language, f"label_{label}")


def is_still(found: Scan) -> bool:
    """Whether the scan is of a picture, not of a video."""
    return found.video.rate == 0


def find_decider(found: Scan) -> PersonVerdict | None:
    """Return the person whose verdict is the clip's; None if there are no people."""
    wanted = found.verdict.person
    named = [p for p in found.people if p.person.id == wanted]
    return named[0] if named else next(iter(found.people), None)


def seen(language: str, found: Scan) -> str:
    """Say how many frames were examined."""
    if is_still(found):
        return translate(language, "seen_picture")
    return translate(language, "seen_frames", count=len(found.key_frames))


def of_whom(language: str, found: Scan) -> str:
    """Say which person the verdict is about; empty unless there are several people."""
    decider, count = find_decider(found), len(found.people)
    if decider is None or count < 2:
        return ""
    judged, who = number_judged(found), decider.person.id
    if judged == count:
        return translate(language, "of_whom", id=who, count=count)
    return translate(language, "of_whom_judged", id=who, judged=judged, count=count)


def number_judged(found: Scan) -> int:
    """Return the number of people who were seen often enough to be judged."""
    return count_judged([len(p.scores) for p in found.people])


def is_brief(found: Scan, person: PersonVerdict) -> bool:
    """Whether a person was seen too briefly to be judged."""
    return 0 < len(person.scores) < fewest_faces([len(p.scores) for p in found.people])


def probability(language: str, found: Scan) -> str:
    """State the probability and its interval; a picture's without, as it is of one face."""
    verdict = found.verdict
    if verdict.probability is None or verdict.interval is None:
        return ""
    shown, low, high = map(show_probability, (verdict.probability, *verdict.interval))
    if is_still(found):
        return translate(language, "probability_still", shown=shown)
    return translate(language, "probability", shown=shown, low=low, high=high)


def frequency(language: str, verdict: Verdict, calibration: Calibration) -> str:
    """Say how many genuine clips have such a score; empty if that is not known."""
    if verdict.probability is None or not calibration.real_logits:
        return ""
    above, total = count_above(verdict.probability, calibration)
    return translate(language, "frequency", above=above, total=total)


def why(language: str, found: Scan) -> list[str]:
    """Give the reasons for the verdict."""
    decider = find_decider(found)
    if decider is None:
        return [translate(language, "why_no_face", seen=seen(language, found))]
    if not decider.scores:
        return [translate(language, "why_unfit")]
    if not found.calibration.calibrated:
        return [translate(language, "why_uncalibrated")]
    told = []
    if found.verdict.label is not decider.verdict.label:
        brief = max(
            (p for p in found.people if p is not decider and p.scores),
            key=lambda p: p.verdict.probability or 0.0,
        )
        told.append(translate(language, "why_brief", id=brief.person.id))
    told.append(_why_label(language, found, decider))
    left_out = len(decider.person.faces) - len(decider.scores)
    if left_out:
        faces = translate_count(language, "faces", left_out)
        told.append(translate(language, "why_left_out", faces=faces))
    if _crowd_decides(found, decider):
        name = label_text(language, Label.MANIPULATED)
        told.append(translate(language, "why_crowd", label=name, count=number_judged(found)))
    unjudged = len(found.people) - number_judged(found)
    if unjudged:
        people = translate_count(language, "people", unjudged)
        told.append(translate(language, "why_unjudged", people=people))
    return told


def _crowd_decides(found: Scan, decider: PersonVerdict) -> bool:
    """Whether only the number of people keeps the label from being `manipulated`."""
    label, interval = decider.verdict.label, decider.verdict.interval
    if label is not Label.INCONCLUSIVE or interval is None:
        return False
    return choose_label(interval, found.calibration) is Label.MANIPULATED


def _why_label(language: str, found: Scan, decider: PersonVerdict) -> str:
    bounds, total = found.calibration, len(decider.scores)
    above = sum(s.probability > bounds.upper for s in decider.scores)
    below = sum(s.probability < bounds.lower for s in decider.scores)
    label = decider.verdict.label
    if total == 1:
        kinds = {Label.MANIPULATED: "above", Label.NO_SIGNS: "below"}
        return translate(language, f"why_{kinds.get(label, 'between')}_still")
    if label is Label.MANIPULATED:
        return translate(language, "why_above", above=above, total=total)
    if label is Label.NO_SIGNS:
        return translate(language, "why_below", below=below, total=total)
    if above and below:
        between = total - above - below
        return translate(
            language, "why_mixed", above=above, below=below, total=total, between=between
        )
    if above:
        return translate(language, "why_some", above=above, total=total)
    return translate(language, "why_none", total=total)


def not_checked(language: str, found: Scan) -> str:
    """Say what was not checked."""
    if is_still(found):
        return translate(language, "not_checked_still")
    faces = {f.frame_index for p in found.people for f in p.person.faces}
    without = sum(k.index not in faces for k in found.key_frames)
    told = translate(language, "not_checked")
    if without and faces:
        told += " " + translate(language, "faceless", without=without, total=len(found.key_frames))
    return told


def what_next(language: str, found: Scan, label: Label) -> str:
    """Suggest what to do next."""
    if label is not Label.INCONCLUSIVE:
        return translate(language, f"next_{label}")
    faces = [f for p in found.people for f in p.person.faces]
    widths = sorted(f.box[2] - f.box[0] for f in faces)
    if widths and widths[len(widths) // 2] < SMALL:
        return translate(language, "next_small", width=widths[len(widths) // 2])
    if is_still(found):
        return translate(language, "next_still")
    if sum(len(p.scores) for p in found.people) < FEWEST_FACES:
        return translate(language, "next_short")
    return translate(language, "next_inconclusive")


def strength(language: str, figures: Mapping[str, Any]) -> str:
    """Say how accurate the detector is, from its checkpoint's figures; empty if there are none."""
    told = []
    for sign, kinds in KINDS.items():
        for kind in kinds:
            if isinstance(value := figures.get(f"video AUC, {kind}"), Sequence):
                told.append(translate(language, f"strength_{sign}", count=round(100 * value[0])))
                break
    if not told and isinstance(value := figures.get("video AUC"), Sequence):
        told.append(translate(language, "strength_all", count=round(100 * value[0])))
    return translate(language, "strength", figures=", ".join(told)) if told else ""


def article(language: str, found: Scan, file: str, label: Label) -> str:
    """Return a sentence about the verdict that can be quoted in an article."""
    text, verdict = label_text(language, label).lower(), found.verdict
    if language == "de":  # nouns keep their capitals
        text = label_text(language, label)
    if verdict.probability is None:
        return translate(language, "article_short", file=file, label=text)
    return translate(
        language, "article", model=found.model.name, file=file, label=text,
        shown=show_probability(verdict.probability),
        frequency=frequency(language, verdict, found.calibration),
    )  # fmt: skip


def captions(found: Scan) -> str:
    """Return the scores as WebVTT captions."""
    points = sorted(
        (s.face.time, p.person.id, s.probability) for p in found.people for s in p.scores
    )
    times = sorted({t for t, _, _ in points})
    lines = ["WEBVTT", ""]
    for number, start in enumerate(times):
        end = times[number + 1] if number + 1 < len(times) else start + 1.0
        said = ", ".join(
            f"person {who}: {show_probability(p)}" for t, who, p in points if t == start
        )
        lines += [f"{_clock(start)} --> {_clock(end)}", said, ""]
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{rest:06.3f}"


def figures_as_text(figures: dict[str, object]) -> str:
    """Return a checkpoint's figures as a Markdown list."""
    lines = []
    for name, value in figures.items():
        if name.startswith("video AUC") and isinstance(value, Sequence):
            lines.append(f"- {name}: {value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})")
        elif isinstance(value, dict) and "of" in value:
            low, high = value["interval"]
            lines.append(f"- {name}: {value['count']} of {value['of']} ({low:.0%} to {high:.0%})")
    return "\n".join(lines) or "- not measured"
