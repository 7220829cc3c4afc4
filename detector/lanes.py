"""The chart of a scan over time, one lane a person, as HTML that fits any width.

The page's script adds the playhead; the report shows the same chart without it. A still picture has
no time axis: each face gets a bar.
"""

import html
from collections.abc import Sequence

import numpy as np

from detector import texts
from detector.charts import COLOURS, clean_crop, person_style, to_data_uri
from detector.records import Calibration, KeyFrame, PersonVerdict, Scan, show_probability

SHOWN = len(COLOURS)  # largest number of lanes, each with its own colour
HEIGHT = 168  # height of all lanes together, pixels; divided among them within these limits:
MIN_LANE, MAX_LANE = 28, 84  # height of one lane, pixels
SPAN = 1000  # width of the drawing in its own units
TOP, BOTTOM = 8, 92  # vertical positions of probability 1 and 0, in % of a lane
DASHES = {"upper": "7 4", "lower": "2 4"}  # dash patterns of the lines at both thresholds


def draw_lanes(found: Scan, language: str) -> str:
    """The chart of a scan as HTML."""
    shown = found.people[:SHOWN]
    if not shown:
        return ""
    still = texts.is_still(found)
    height = int(np.clip(HEIGHT / len(shown), MIN_LANE, MAX_LANE))
    end = clip_length(found)
    rows = []
    for rank, person in enumerate(shown):
        drawn = (
            _draw_bar(person, found.calibration, rank)
            if still
            else _draw_plot(found, person, rank, end)
        )
        rows.append(
            f'<div class="lane" data-person="{person.person.id}" style="height:{height}px">'
            f'{_label(found, person, rank, language, height)}<div class="plot">{drawn}</div></div>'
        )
    if not still:
        rows += [_draw_differences(found, end, language), _draw_axis(end)]
    notes = [texts.translate(language, "legend_still" if still else "legend")]
    if len(found.people) > SHOWN:
        count = len(found.people)
        notes.insert(0, texts.translate(language, "crowd", shown=SHOWN, count=count))
    below = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    kind = "still" if still else "timed"
    return f'<div class="lanes {kind}">{"".join(rows)}</div><div class="lane-notes">{below}</div>'


def clip_length(found: Scan) -> float:
    """The length of the chart's time axis, seconds."""
    return max([found.video.duration, *(k.time for k in found.key_frames), 0.04])


def _label(found: Scan, person: PersonVerdict, rank: int, language: str, height: int) -> str:
    """The label of a lane: portrait, number, symbol, probability."""
    faces = person.person.faces
    best = max(person.scores, key=lambda s: s.probability).face if person.scores else faces[0]
    verdict, times = person.verdict, [f.time for f in faces]
    label = texts.label_text(language, verdict.label)
    if texts.is_still(found):
        title = texts.translate(language, "lane_still", id=person.person.id, label=label)
    else:
        start, end = f"{min(times):.1f}", f"{max(times):.1f}"
        title = texts.translate(
            language, "lane", id=person.person.id, start=start, end=end, label=label
        )
    number = verdict.probability
    shown = "—" if number is None else show_probability(number)
    if texts.is_brief(found, person):
        shown = texts.translate(language, "lane_brief")
    portrait = to_data_uri(clean_crop(best, found.video), min(56, height))
    return (
        f'<div class="who" style="--c:{person_style(rank)[0]}" title="{html.escape(title)}">'
        f'<img alt="" src="{portrait}"><span class="visually-hidden">{html.escape(title)}, </span>'
        f"<b>{person.person.id}</b>"
        f'<span aria-hidden="true">{texts.SYMBOLS[verdict.label]}</span> <span>{shown}</span></div>'
    )


def _y(probability: float) -> float:
    """The vertical position of a probability, in % of a lane."""
    return BOTTOM - (BOTTOM - TOP) * probability


def _draw_threshold(value: float, name: str) -> str:
    """A horizontal dashed line at a threshold; `name` is upper or lower."""
    y = _y(value)
    return (
        f'<line x1="0" x2="{SPAN}" y1="{y:.1f}" y2="{y:.1f}" class="threshold" '
        f'stroke-dasharray="{DASHES[name]}" vector-effect="non-scaling-stroke"/>'
    )


def _draw_plot(found: Scan, person: PersonVerdict, rank: int, end: float) -> str:
    """One person's probabilities over time; the line breaks where the face is not seen."""
    colour, dash = person_style(rank)
    bounds = found.calibration
    points = [(100 * s.face.time / end, _y(s.probability), s) for s in person.scores]
    lines = []
    for run in _find_runs([s.face.frame_index for _, _, s in points], found.key_frames):
        path = " ".join(f"{points[i][0] * SPAN / 100:.1f},{points[i][1]:.1f}" for i in run)
        lines.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}" vector-effect="non-scaling-stroke"/>'
        )
    dots = "".join(
        f'<circle cx="{x:.2f}%" cy="{y:.1f}%" r="3.5" fill="{colour}" class="point" '
        f'data-frame="{s.face.frame_index}"><title>{s.face.time:.1f} s: '
        f"{show_probability(s.probability)}</title></circle>"
        for x, y, s in points
    )
    return (
        f'<svg aria-hidden="true"><svg viewBox="0 0 {SPAN} 100" preserveAspectRatio="none">'
        f"{_draw_threshold(bounds.upper, 'upper')}{_draw_threshold(bounds.lower, 'lower')}"
        f"{''.join(lines)}</svg>{dots}</svg>"
    )


def _draw_bar(person: PersonVerdict, bounds: Calibration, rank: int) -> str:
    """A still picture's probability as a bar from 0 to 1."""
    colour, _ = person_style(rank)
    marks = "".join(
        f'<line x1="{100 * value:.1f}%" x2="{100 * value:.1f}%" y1="0" y2="100%" '
        f'class="threshold" stroke-dasharray="{DASHES[name]}"/>'
        for name, value in (("lower", bounds.lower), ("upper", bounds.upper))
    )
    value = 100 * (person.verdict.probability or 0.0)
    return (
        f'<svg aria-hidden="true"><rect x="0" y="30%" width="{value:.1f}%" height="40%" '
        f'fill="{colour}"/>{marks}</svg>'
    )


def _find_runs(indices: Sequence[int], key_frames: Sequence[KeyFrame]) -> list[list[int]]:
    """Runs of neighbouring key frames in which the face is seen, as positions in `indices`."""
    order = {k.index: number for number, k in enumerate(key_frames)}
    runs: list[list[int]] = []
    for position, index in enumerate(indices):
        if position > 0 and order[index] - order[indices[position - 1]] == 1:
            runs[-1].append(position)
        else:
            runs.append([position])
    return runs


def _draw_differences(found: Scan, end: float, language: str) -> str:
    """The curve of differences between frames."""
    differences = found.curve.differences
    if len(differences) < 2:
        return ""
    peak = max(float(np.percentile(differences, 99.5)), 1e-6)
    points = " ".join(
        f"{SPAN * float(t) / end:.1f},{100 - 94 * min(1.0, float(d) / peak):.1f}"
        for t, d in zip(found.curve.times, differences, strict=True)
        if t <= end
    )
    label = html.escape(texts.translate(language, "picture_changes"))
    return (
        f'<div class="lane changes"><div class="who">{label}</div><div class="plot">'
        f'<svg aria-hidden="true" viewBox="0 0 {SPAN} 100" preserveAspectRatio="none">'
        f'<polyline points="{points}" fill="none" class="differences" '
        'vector-effect="non-scaling-stroke"/></svg></div></div>'
    )


def _draw_axis(end: float) -> str:
    """The time axis, with at most about five marks."""
    steps = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300]
    step = next((s for s in steps if s >= end / 5), 600)
    marks, time = [], 0.0
    while time <= end + 1e-9:
        last = ' class="last"' if time > 0.94 * end else ""
        marks.append(f'<span style="left:{100 * time / end:.2f}%"{last}>{time:g} s</span>')
        time += step
    return (
        '<div class="lane axis" aria-hidden="true"><div class="who"></div>'
        f'<div class="plot">{"".join(marks)}</div></div>'
    )
