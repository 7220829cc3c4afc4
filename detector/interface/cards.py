"""A scan -> the HTML of the verdict card, key frames and pictures."""

import html
from typing import Any

from detector import texts
from detector.charts import COLOURS, draw_boxes, to_data_uri
from detector.errors import UserError
from detector.records import LABEL_TEXT, PersonVerdict, Scan, show_probability
from detector.report import describe_verdict


def card(label: str, body: str) -> str:
    """The verdict card."""
    return f'<div class="card {label}" role="status" aria-live="polite">{body}</div>'


def error_card(error: UserError) -> str:
    """What stands there when a file cannot be scanned."""
    return card(
        "error",
        f'<p class="label"><span aria-hidden="true">✕</span> This could not be checked</p>'
        f"<p>{html.escape(error.message)}</p>",
    )


def verdict_card(found: Scan, name: str) -> str:
    """The answer, readable in one glance."""
    label = found.verdict.label
    number = ""
    if found.verdict.probability is not None and found.verdict.interval is not None:
        numbers = (found.verdict.probability, *found.verdict.interval)
        shown, low, high = map(show_probability, numbers)
        number = (
            f'<p class="number">Probability of manipulation {shown} '
            f"(95 % interval {low} to {high})</p>"
        )
    lines = [
        texts.natural_frequency(found), *found.verdict.reasons, texts.summary(found),
        texts.remedy(found), *found.warnings,
    ]  # fmt: skip
    told = "".join(f"<p>{html.escape(line)}</p>" for line in lines if line)
    people = "".join(_person_card(p) for p in found.people) if len(found.people) > 1 else ""
    return card(
        str(label),
        f'<p class="label"><span aria-hidden="true">{texts.SYMBOLS[label]}</span> '
        f"{html.escape(LABEL_TEXT[label])}</p>{number}{told}"
        f'<p class="meaning"><strong>{html.escape(texts.MEANING[label])}</strong></p>'
        f'<p class="scope">{html.escape(texts.scope(found))}</p>'
        f'<div class="people">{people}</div>',
    )


def _person_card(person: PersonVerdict) -> str:
    times = [f.time for f in person.person.faces]
    colour = COLOURS[(person.person.id - 1) % len(COLOURS)]
    verdict = person.verdict
    told = describe_verdict(str(verdict.label), verdict.probability, verdict.interval)
    return (
        f'<div class="person" style="border-color:{colour}"><strong>'
        f"{texts.SYMBOLS[verdict.label]} Person {person.person.id}</strong>, "
        f"{min(times):.1f} to {max(times):.1f} s, {len(times)} faces<br>{html.escape(told)}</div>"
    )


def strip(frames: list[tuple[int, Any, str]]) -> str:
    """Key frames as buttons: index, picture, caption."""
    return (
        '<div class="strip">'
        + "".join(
            f'<button type="button" class="point" data-frame="{index}">'
            f'<img alt="" src="{to_data_uri(image, 200)}">'
            f"<span>{html.escape(caption)}</span></button>"
            for index, image, caption in frames
        )
        + "</div>"
    )


def figures(pictures: list[tuple[Any, str]]) -> str:
    """Pictures with their captions, side by side."""
    return (
        '<div class="figures">'
        + "".join(
            f'<figure><img alt="{html.escape(caption)}" src="{to_data_uri(image, 320)}">'
            f'<figcaption aria-hidden="true">{html.escape(caption)}</figcaption></figure>'
            for image, caption in pictures
        )
        + "</div>"
    )


def strip_of(found: Scan) -> str:
    """The key frames with their boxes, times and highest probabilities."""
    best: dict[int, float] = {}
    for person in found.people:
        for score in person.scores:
            index = score.face.frame_index
            best[index] = max(best.get(index, 0.0), score.probability)
    return strip(
        [
            (
                k.index,
                draw_boxes(found, k),
                f"{k.time:.1f} s, "
                + (show_probability(best[k.index], ".2f") if k.index in best else "no face"),
            )
            for k in found.key_frames
        ]
    )
