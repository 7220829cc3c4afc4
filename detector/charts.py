"""Records -> figures: the confidence chart as SVG, key frames with boxes, heatmaps in colour."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
from matplotlib import colormaps

from detector.records import (
    Heatmap,
    Image,
    KeyFrame,
    Label,
    PersonVerdict,
    Scan,
    show_probability,
)

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""One a person: Okabe and Ito's, told apart by the colour-blind too."""
SHAPES = {Label.MANIPULATED: "square", Label.NO_SIGNS: "circle", Label.INCONCLUSIVE: "diamond"}
HEAT = "inferno"  # perceptually uniform, and safe for the colour-blind
WIDTH, LANE, CURVE, LEFT, BOTTOM = 760, 150, 46, 46, 26  # of the chart, in its own units


def to_png(image: Image) -> bytes:
    """An RGB image as a PNG file."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write_png(path: Path, image: Image) -> None:
    """An RGB image into a PNG file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(to_png(image))
    part.replace(path)


def to_data_uri(image: Image, side: int) -> str:
    """An image, at most `side` pixels long, as a JPEG that can stand inside a page."""
    picture = PIL.Image.fromarray(image)
    picture.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def draw_boxes(scan: Scan, key_frame: KeyFrame) -> Image:
    """A key frame with a numbered box around each face, in the person's colour."""
    image = PIL.Image.fromarray(key_frame.image)
    draw = PIL.ImageDraw.Draw(image)
    scale = key_frame.image.shape[1] / max(1, scan.video.width)
    for person in scan.people:
        for face in person.person.faces:
            if face.frame_index != key_frame.index:
                continue
            box = [round(v * scale) for v in face.box]
            colour = COLOURS[(person.person.id - 1) % len(COLOURS)]
            draw.rectangle(box, outline="white", width=4)
            draw.rectangle(box, outline=colour, width=2)
            draw.text(
                (box[0] + 4, box[1] + 2), str(person.person.id), fill=colour,
                stroke_width=2, stroke_fill="white",
            )  # fmt: skip
    return np.array(image)


def colour_heatmap(values: np.ndarray, scale: float | None = None) -> Image:
    """A map in colour; `scale` is the strength that is drawn brightest, its own peak by default."""
    peak = float(values.max()) if scale is None else scale
    share = np.clip(values / peak, 0, 1) if peak > 0 else np.zeros_like(values)
    return (colormaps[HEAT](share)[..., :3] * 255).round().astype(np.uint8)


def overlay(
    image: Image, values: np.ndarray, *, opacity: float = 0.6, scale: float | None = None
) -> Image:
    """A map laid over the picture it explains: clear where it is weak."""
    peak = float(values.max()) if scale is None else scale
    share = np.clip(values / peak, 0, 1)[..., None] if peak > 0 else np.zeros((*values.shape, 1))
    alpha = opacity * np.sqrt(share)
    return (image * (1 - alpha) + colour_heatmap(values, scale) * alpha).round().astype(np.uint8)


def overlay_on_frame(frame: Image, heatmap: Heatmap, full_width: int) -> Image:
    """The map on the whole frame, in its place, also where the crop reaches beyond the edge."""
    scale = frame.shape[1] / max(1, full_width)
    left, top, right, bottom = (round(v * scale) for v in heatmap.face.crop_box)
    width, height = max(1, right - left), max(1, bottom - top)
    sized = np.asarray(
        PIL.Image.fromarray(heatmap.values).resize((width, height), PIL.Image.Resampling.BILINEAR)
    )
    whole = np.zeros(frame.shape[:2], np.float32)
    x, y = max(0, left), max(0, top)
    part = sized[y - top : frame.shape[0] - top, x - left : frame.shape[1] - left]
    whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    return overlay(frame, whole)


def lane_title(person: PersonVerdict, number: int) -> str:
    """What stands above a person's lane."""
    times = [face.time for face in person.person.faces]
    return f"Person {number}, {min(times):.1f} to {max(times):.1f} s"


def draw_timeline(scan: Scan, *, marked: int | None = None, lanes: int = 6) -> str:
    """The confidence chart as SVG: one lane a person, thresholds, gaps, differences below.

    Every point carries `data-frame` and `data-person` and can be reached by keyboard; `marked` is
    the frame that is shown.
    """
    shown = list(scan.people)[:lanes]
    end = max([scan.video.duration, *(k.time for k in scan.key_frames), 0.04])
    height = LANE * max(1, len(shown)) + CURVE + BOTTOM
    parts = [
        f'<svg class="timeline" viewBox="0 0 {WIDTH} {height}" role="group" '
        f'aria-label="Probability of manipulation over time">'
    ]
    for number, person in enumerate(shown):
        parts.append(_lane(scan, person, number * LANE, end, marked))
    parts.append(_curve(scan, LANE * max(1, len(shown)), end))
    parts.append(_axis(height, end))
    parts.append("</svg>")
    return "".join(parts)


def _x(time: float, end: float) -> float:
    return LEFT + (WIDTH - LEFT - 14) * time / end


def _lane(scan: Scan, person: PersonVerdict, top: int, end: float, marked: int | None) -> str:
    colour = COLOURS[(person.person.id - 1) % len(COLOURS)]
    floor, ceiling = top + LANE - 10, top + 26

    def y(probability: float) -> float:
        return floor - (floor - ceiling) * probability

    parts = [
        f'<text x="{LEFT}" y="{top + 16}" class="lane-title">'
        f"{html.escape(lane_title(person, person.person.id))}</text>"
    ]
    for value in (0.0, 0.5, 1.0):
        parts.append(
            f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>'
            f'<line x1="{LEFT}" x2="{WIDTH - 14}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            'class="grid"/>'
        )
    bounds = scan.calibration
    for value, name in ((bounds.upper, "upper"), (bounds.lower, "lower")):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 14}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'class="threshold {name}"><title>{name} threshold, {value:.2f}</title></line>'
        )
    points = [(s.face, s.probability) for s in person.scores]
    for run in _runs([face.frame_index for face, _ in points], scan.key_frames):
        line = " ".join(f"{_x(points[i][0].time, end):.1f},{y(points[i][1]):.1f}" for i in run)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for face, probability in points:
        shown = show_probability(probability, ".2f")
        label = f"Person {person.person.id} at {face.time:.1f} s: probability {shown}"
        size = 8 if face.frame_index == marked else 5
        chosen = ' aria-current="true"' if face.frame_index == marked else ""
        parts.append(
            f'<circle cx="{_x(face.time, end):.1f}" cy="{y(probability):.1f}" r="{size}" '
            f'fill="{colour}" tabindex="0" role="button" aria-label="{label}"{chosen} '
            f'class="point" data-frame="{face.frame_index}" data-person="{person.person.id}">'
            f"<title>{label}</title></circle>"
        )
    return "".join(parts)


def _runs(indices: Sequence[int], key_frames: Sequence[KeyFrame]) -> list[list[int]]:
    """Positions of points in neighbouring key frames: where a face is missing, the line breaks."""
    order = {k.index: place for place, k in enumerate(key_frames)}
    runs: list[list[int]] = []
    for position, index in enumerate(indices):
        follows = position > 0 and order[index] - order[indices[position - 1]] == 1
        if follows:
            runs[-1].append(position)
        else:
            runs.append([position])
    return runs


def _curve(scan: Scan, top: int, end: float) -> str:
    differences = scan.curve.differences
    if len(differences) < 2:
        return ""
    peak = max(float(np.percentile(differences, 99.5)), 1e-6)
    points = " ".join(
        f"{_x(float(t), end):.1f},{top + CURVE - min(1.0, float(d) / peak) * (CURVE - 6):.1f}"
        for t, d in zip(scan.curve.times, differences, strict=True)
        if t <= end
    )
    return (
        f'<polyline points="{points}" class="differences" fill="none">'
        "<title>How much the picture changes from frame to frame</title></polyline>"
    )


def _axis(height: int, end: float) -> str:
    raw = end / 6
    steps = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300]
    step = next((s for s in steps if s >= raw), 600)
    marks, at = [], 0.0
    while at <= end + 1e-9:
        marks.append(
            f'<text x="{_x(at, end):.1f}" y="{height - 8}" text-anchor="middle">{at:g} s</text>'
        )
        at += step
    return "".join(marks)
