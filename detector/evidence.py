"""Write a verdict's evidence as HTML: faces with heatmaps, key frames, comparison, origin."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import TypeVar

import cv2
import numpy as np
import PIL.Image

from detector import texts
from detector.cards import MAKERS, Answer, describe_file, describe_making, paragraph
from detector.charts import clean_crop, draw_boxes, heatmap_layer, person_style, to_data_uri
from detector.comparison import align_clips, pair_faces, show_same_scene
from detector.heatmaps import TITLES
from detector.lanes import draw_lanes
from detector.records import (
    Face,
    FaceScore,
    Heatmap,
    Image,
    PersonVerdict,
    Scan,
    Statement,
    show_probability,
)

PLATES = 3  # faces shown in detail, each on a plate
COLUMNS = 8  # faces of a person on the contact sheet, and whole frames
DETAIL = 0.4  # side of the magnified window, as a share of the crop's
SIDE = 320  # pixels of a picture on a plate
LEAST_AGREEMENT = 0.5  # with the other methods' maps, below which a plate says that they differ

Item = TypeVar("Item")
Maps = Mapping[tuple[int, int], Heatmap]
"""(frame index, person id) -> heatmap."""


def telling_faces(
    found: Scan, chosen: tuple[int, int] | None = None
) -> list[tuple[PersonVerdict, Face]]:
    """Choose the faces to show: `chosen`, then the deciding person's most suspicious ones.

    The latter are at least a twelfth of the clip apart.

    Args:
        found: the scan.
        chosen: (frame index, person id) of a face that the user picked.

    Returns:
        At most PLATES pairs of a person and one of their faces.
    """
    scored = {
        (s.face.frame_index, p.person.id): (p, s.face) for p in found.people for s in p.scores
    }
    picked = [scored[chosen]] if chosen in scored else []
    decider = texts.find_decider(found)
    if decider is None:
        return picked
    apart = found.video.duration / 12
    for score in sorted(decider.scores, key=lambda s: -round(s.probability, 4)):
        if all(
            face is not score.face and abs(face.time - score.face.time) >= apart
            for p, face in picked
            if p is decider
        ):
            picked.append((decider, score.face))
    return picked[:PLATES]


def neighbour(person: PersonVerdict, face: Face) -> FaceScore | None:
    """Return the same person's scored face that is nearest in time; None if there is no other."""
    others = [s for s in person.scores if s.face is not face]
    return min(others, key=lambda s: abs(s.face.time - face.time), default=None)


def faces_page(
    found: Scan,
    maps: Maps,
    language: str,
    chosen: tuple[int, int] | None = None,
    *,
    waiting: bool = True,
) -> str:
    """Return the plates of the faces that `telling_faces` chooses.

    If `waiting`, a plate without a map says that it is being computed, and the page says how to
    choose another face.
    """
    plates = telling_faces(found, chosen)
    if not plates:
        return f'<div class="evidence">{paragraph(texts.translate(language, "faces_empty"))}</div>'
    drawn = "".join(
        plate(
            found, person, face, maps.get((face.frame_index, person.person.id)), language,
            waiting=waiting,
        )
        for person, face in plates
    )  # fmt: skip
    still = texts.is_still(found)
    kind = "faces_intro_still" if still else "faces_intro"
    intro = texts.translate(language, kind, id=plates[-1][0].person.id)
    if waiting and not still:
        intro += f" {texts.translate(language, 'faces_choose')}"
    untested = ""
    if any(_shows(heatmap) and heatmap.sign == "pasted" for heatmap in maps.values()):
        untested = texts.translate(language, "faces_untested")
    return (
        f'<div class="evidence">{paragraph(intro)}{paragraph(untested)}'
        f'<div class="plates">{drawn}</div></div>'
    )


def _shows(heatmap: Heatmap | None) -> bool:
    """Whether a map marks anything."""
    return heatmap is not None and heatmap.values.max() > 0


def detail_window(heatmap: Heatmap | None) -> tuple[float, float]:
    """Return (left, top) of the window to magnify, as shares of the crop: the map's maximum.

    Without a map it is the middle.
    """
    if heatmap is None or heatmap.values.max() <= 0:
        return (1 - DETAIL) / 2, (1 - DETAIL) / 2
    side = max(3, round(heatmap.values.shape[0] * DETAIL / 2) | 1)
    around = cv2.GaussianBlur(heatmap.values, (side, side), 0)
    y, x = np.unravel_index(int(around.argmax()), around.shape)
    height, width = around.shape
    left = float(np.clip(x / width - DETAIL / 2, 0, 1 - DETAIL))
    top = float(np.clip(y / height - DETAIL / 2, 0, 1 - DETAIL))
    return left, top


def cut_detail(crop: Image, left: float, top: float) -> Image:
    """Cut the window out of a crop and magnify it."""
    height, width = crop.shape[:2]
    x, y = round(left * width), round(top * height)
    part = crop[y : y + max(2, round(DETAIL * height)), x : x + max(2, round(DETAIL * width))]
    return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def plate(
    found: Scan,
    person: PersonVerdict,
    face: Face,
    heatmap: Heatmap | None,
    language: str,
    *,
    waiting: bool,
) -> str:
    """Return one face's plate: the crop with its map, the magnified detail, and a neighbour's."""
    probability = next(s.probability for s in person.scores if s.face is face)
    if texts.is_still(found):
        title = texts.translate(language, "person", id=person.person.id)
    else:
        title = texts.translate(
            language, "plate_title", id=person.person.id, time=f"{face.time:.2f}"
        )
    crop = clean_crop(face, found.video)
    left, top = detail_window(heatmap)
    shows = _shows(heatmap)
    where = "plate_detail" if shows else "plate_detail_empty"
    mark = (
        f'<i class="mark" style="left:{100 * left:.0f}%;top:{100 * top:.0f}%;'
        f'width:{100 * DETAIL:.0f}%;height:{100 * DETAIL:.0f}%"></i>'
    )
    layer = f'<img class="map" alt="" src="{heatmap_layer(heatmap, 160)}">' if heatmap else ""
    figures = [
        f'<figure><div class="stack"><img alt="{html.escape(title)}" '
        f'src="{to_data_uri(crop, SIDE)}">{layer}{mark}</div>'
        f"<figcaption>{html.escape(texts.translate(language, 'plate_face'))}</figcaption></figure>",
        _figure(cut_detail(crop, left, top), texts.translate(language, where)),
    ]
    beside = neighbour(person, face)
    if beside is not None:
        other = cut_detail(clean_crop(beside.face, found.video), left, top)
        time = f"{beside.face.time:.2f}"
        figures.append(_figure(other, texts.translate(language, "plate_neighbour", time=time)))
    slider = ""
    if shows:
        said = html.escape(texts.translate(language, "plate_map"))
        slider = (
            f'<label>{said}<input type="range" min="0" max="100" value="70" class="see"></label>'
        )
    faint = " faint" if heatmap and shows and heatmap.trust.get("reliable") is False else ""
    symbol, shown = texts.SYMBOLS[person.verdict.label], show_probability(probability)
    told = describe_map(heatmap, language) if waiting or heatmap else ""
    return (
        f'<article class="plate{faint}"><header>{html.escape(title)} · '
        f'<span aria-hidden="true">{symbol}</span> {shown}</header>'
        f'<div class="three">{"".join(figures)}</div>{slider}'
        f"{paragraph(told)}{_figures(heatmap, language)}</article>"
    )


def _figure(image: Image, caption: str) -> str:
    said = html.escape(caption)
    return (
        f'<figure><img alt="" src="{to_data_uri(image, SIDE)}"><figcaption>{said}</figcaption>'
        "</figure>"
    )


def describe_map(heatmap: Heatmap | None, language: str) -> str:
    """Say whether a map can be trusted and which region of the face it marks."""
    if heatmap is None:
        return texts.translate(language, "map_working")
    if heatmap.values.max() <= 0:
        return texts.translate(language, "map_empty")
    first = max(heatmap.regions, key=lambda name: heatmap.regions[name])
    where = texts.translate(
        language, "map_where", first=texts.translate(language, f"region_{first}"),
        share=f"{heatmap.regions[first]:.0%}",
    )  # fmt: skip
    if not heatmap.trust:
        return f"{where} {texts.translate(language, 'map_testing')}"
    pasted, reliable = heatmap.sign == "pasted", heatmap.trust["reliable"]
    if reliable is False:
        return texts.translate(language, "map_unsteady" if pasted else "map_no")
    if not pasted:
        return f"{texts.translate(language, 'map_yes')} {where}"
    alone = heatmap.trust["agreement"] < LEAST_AGREEMENT
    told = ["map_untested", *(["map_alone"] if alone else [])]
    return " ".join([*(texts.translate(language, key) for key in told), where])


def _figures(heatmap: Heatmap | None, language: str) -> str:
    if heatmap is None or not heatmap.trust or heatmap.values.max() <= 0:
        return ""
    t = heatmap.trust
    rows = []
    by_blur = () if heatmap.sign == "pasted" else ("deletion", "insertion")
    for name in (*by_blur, "agreement", "stability", "inside"):
        value = f"{t[name]:.2f}"
        if f"{name}_random" in t:
            random = f"{t[f'{name}_random']:.2f}"
            value = texts.translate(language, "trust_random", value=value, random=random)
        rows.append(f"{texts.translate(language, f'trust_{name}')}: {value}")
    told = "<br>".join(html.escape(row) for row in rows)
    summary = html.escape(texts.translate(language, "plate_figures"))
    bright = html.escape(texts.translate(language, "map_strength"))
    title = html.escape(TITLES[heatmap.method])
    return f"<details><summary>{summary}</summary><p>{title}<br>{told}<br>{bright}</p></details>"


def frames_page(answer: Answer, language: str) -> str:
    """Return a row of faces for each person, then whole frames; each picture can be saved."""
    found = answer.found
    stem = answer.name.rsplit(".", 1)[0]
    rows = []
    for person in found.people[:COLUMNS]:
        faces = _evenly_spaced(person.person.faces)
        cells = "".join(
            _download_link(
                clean_crop(f, found.video), f"{stem} person {person.person.id} {f.time:.2f} s",
                "" if texts.is_still(found) else f"{f.time:.2f} s", 160,
            )
            for f in faces
        )  # fmt: skip
        title = html.escape(texts.translate(language, "person", id=person.person.id))
        rows.append(f'<div class="contact"><h2>{title}</h2><div class="row">{cells}</div></div>')
    whole = "".join(
        _download_link(
            k.image, f"{stem} {k.time:.2f} s",
            "" if texts.is_still(found) else f"{k.time:.2f} s", 240,
        )
        for k in _evenly_spaced(found.key_frames)
    )  # fmt: skip
    title = html.escape(texts.translate(language, "frames_whole"))
    rows.append(f'<div class="contact"><h2>{title}</h2><div class="row whole">{whole}</div></div>')
    sheet = (
        f'<a class="lt-button" download="{html.escape(stem)} contact sheet.jpg" '
        f'href="{to_data_uri(contact_sheet(found), 4000)}">'
        f"{html.escape(texts.translate(language, 'sheet'))}</a>"
    )
    intro = paragraph(texts.translate(language, "frames_intro"))
    return f'<div class="evidence lt-sheet">{intro}{"".join(rows)}{sheet}</div>'


def _evenly_spaced(items: Sequence[Item]) -> list[Item]:
    """Choose at most COLUMNS items, evenly spaced."""
    if len(items) <= COLUMNS:
        return list(items)
    return [items[round(n * (len(items) - 1) / (COLUMNS - 1))] for n in range(COLUMNS)]


def _download_link(image: Image, name: str, caption: str, side: int) -> str:
    name = html.escape(name)
    return (
        f'<a download="{name}.jpg" href="{_full_size(image)}" title="{name}">'
        f'<img alt="{name}" src="{to_data_uri(image, side)}">'
        f"<span>{html.escape(caption)}</span></a>"
    )


def _full_size(image: Image) -> str:
    """Encode a picture at full size, for a reverse image search."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "JPEG", quality=93)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def contact_sheet(found: Scan, side: int = 160) -> Image:
    """Draw all rows into one picture."""
    rows = []
    for rank, person in enumerate(found.people[:COLUMNS]):
        row = np.full((side + 8, COLUMNS * (side + 8), 3), 255, np.uint8)
        row[:, :4] = tuple(bytes.fromhex(person_style(rank)[0][1:]))
        for column, face in enumerate(_evenly_spaced(person.person.faces)):
            crop = cv2.resize(clean_crop(face, found.video), (side, side),
                              interpolation=cv2.INTER_AREA)  # fmt: skip
            row[4 : 4 + side, column * (side + 8) + 6 : column * (side + 8) + 6 + side] = crop
        rows.append(row)
    across = 4
    width = COLUMNS * (side + 8) // across - 8
    frames = [draw_boxes(found, k) for k in _evenly_spaced(found.key_frames)]
    height = round(width * frames[0].shape[0] / frames[0].shape[1])
    for start in range(0, len(frames), across):
        row = np.full((height + 8, COLUMNS * (side + 8), 3), 255, np.uint8)
        for column, frame in enumerate(frames[start : start + across]):
            left = column * (width + 8) + 4
            row[4 : 4 + height, left : left + width] = cv2.resize(
                frame, (width, height), interpolation=cv2.INTER_AREA
            )
        rows.append(row)
    return np.concatenate(rows)


def comparison_page(answer: Answer, other: Scan, language: str) -> str:
    """Compare a file with a second one: their offset, faces of the same moment, both curves."""
    found = answer.found
    aligned = align_clips(found.curve, other.curve)
    offset = aligned.offset
    alike = show_same_scene(found, other, aligned)
    agreement = texts.translate(language, "agree_well" if alike else "agree_little")
    told = texts.translate(
        language, "compare_offset", time=f"{max(0.0, -offset):.2f}",
        other=f"{max(0.0, offset):.2f}", agreement=agreement,
    )  # fmt: skip
    rows = []
    for pair in pair_faces(found, other, offset):
        names = texts.translate(
            language, "compare_pair", time=f"{pair.first.time:.2f}", other=f"{pair.second.time:.2f}"
        ).split("|")
        cells = "".join(_figure(p, n) for p, n in zip(pair.pictures, names, strict=True))
        rows.append(f'<article class="plate"><div class="three">{cells}</div></article>')
    pairs = f'<div class="pairs">{"".join(rows)}</div>'
    if not rows:
        pairs = paragraph(texts.translate(language, "compare_none"))
    labels = [texts.label_text(language, label) for label in (answer.label, other.verdict.label)]
    scores = texts.translate(language, "compare_scores", first=labels[0], second=labels[1])
    curves = "".join(
        f"<h2>{html.escape(texts.translate(language, key))}</h2>{draw_lanes(clip, language)}"
        for key, clip in (("compare_first", found), ("compare_second", other))
        if clip.people
    )
    return f'<div class="evidence">{paragraph(told)}{paragraph(scores)}{pairs}{curves}</div>'


def origin_page(answer: Answer, language: str) -> str:
    """Return what the file states about its own origin."""
    found = answer.found
    origin = found.provenance
    state = texts.translate(language, f"credentials_{origin.content_credentials}")
    rows = [(texts.translate(language, "origin_credentials"), state)]
    if origin.signer:
        rows.append((texts.translate(language, "origin_signer"), origin.signer))
    rows += [
        (texts.translate(language, "origin_statement"), describe_statement(s, language))
        for s in origin.statements
    ]
    nothing = not origin.statements and not origin.container
    nothing = nothing and origin.content_credentials not in ("valid", "invalid", "remote")
    kept = [(key, value) for key, value in sorted(origin.container.items())]
    names = texts.translate(language, "origin_file").split("|")
    about = describe_file(found)
    file = list(zip(names, (answer.name, origin.sha256, about, found.video.codec), strict=True))
    said = paragraph(texts.translate(language, "origin_nothing")) if nothing else ""
    container = ""
    if kept:
        title = html.escape(texts.translate(language, "origin_container"))
        container = f"<h2>{title}</h2>{table(kept)}"
    return (
        f'<div class="evidence">{paragraph(texts.translate(language, "origin_intro"))}{said}'
        f"{table(rows)}{container}<h2>{html.escape(names[0])}</h2>"
        f"{table([row for row in file if row[1]])}</div>"
    )


def describe_statement(statement: Statement, language: str) -> str:
    """Return a statement of the file in words."""
    if statement.kind in MAKERS:
        return f"{describe_making(statement, language)} ({statement.where})"
    kind = texts.translate(language, f"statement_{statement.kind}")
    who = statement.who or texts.translate(language, "unnamed")
    return texts.translate(language, "statement", kind=kind, who=who, where=statement.where)


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Return a table of names and values."""
    return (
        '<div class="wide" tabindex="0"><table class="sheet-table"><tbody>'
        + "".join(
            f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
            for name, value in rows
        )
        + "</tbody></table></div>"
    )
