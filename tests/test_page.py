"""The chart, the card, the plates and the report of scans whose answer is known."""

import base64
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import jsonschema
import numpy as np
import PIL.Image
import pytest
from clips import make_face, other_portrait, portrait
from scans import make_scan

from detector import texts
from detector.cards import Answer, declared, verdict_card
from detector.charts import (
    OUTSIDE_GREY,
    clean_crop,
    heatmap_layer,
    overlay,
    person_style,
    to_data_uri,
)
from detector.evidence import describe_map, faces_page, frames_page, origin_page, telling_faces
from detector.lanes import SHOWN, draw_lanes
from detector.page import full_json, look_alike, to_page
from detector.records import (
    Heatmap,
    Label,
    Statement,
)
from detector.stress import Trial
from detector.texts import languages


def test_a_crowd_collapses_to_the_most_suspicious_and_says_so() -> None:
    chart = draw_lanes(make_scan(people=8), "en")
    assert re.findall(r'data-person="(\d)" style="height', chart) == ["1", "2", "3", "4", "5", "6"]
    assert "6 of 8 people are shown" in chart
    assert "are shown" not in draw_lanes(make_scan(people=6), "en")


def test_who_is_seen_too_briefly_is_not_shown_as_judged() -> None:
    found = make_scan(people=4)
    brief = tuple(replace(p, scores=p.scores[:2]) for p in found.people[2:])
    found = replace(found, people=(*found.people[:2], *brief))
    assert texts.of_whom("en", found) == "Person 1, the most suspicious of 2 judged (4 seen)"
    assert re.findall(r"<span>([^<]*)</span></div>", draw_lanes(found, "en")) == [
        "90%", "86%", "brief", "brief"
    ]  # fmt: skip
    assert "highest of" not in verdict_card(Answer(found, "a.mp4"), "en")
    crowd = make_scan(people=3)
    assert "highest of 3 people" in verdict_card(Answer(crowd, "a.mp4"), "en")


def test_it_is_said_when_only_the_number_of_people_keeps_a_verdict_back() -> None:
    found = make_scan(people=9)
    first = found.people[0]
    held_back = replace(first, verdict=replace(first.verdict, label=Label.INCONCLUSIVE))
    found = replace(
        found,
        people=(held_back, *found.people[1:]),
        verdict=replace(found.verdict, label=Label.INCONCLUSIVE),
    )
    assert any("With 9 judged" in reason for reason in texts.why("en", found))
    assert not any("judged, the limit" in reason for reason in texts.why("en", make_scan(9)))


def test_no_style_is_used_twice_and_none_is_green() -> None:
    styles = [person_style(rank) for rank in range(4 * SHOWN)]
    assert len(set(styles)) == len(styles)
    for colour, _ in styles:
        red, green, blue = bytes.fromhex(colour[1:])
        assert green < max(red, blue)


def test_a_picture_has_no_time() -> None:
    found = make_scan(frames=1, probability=0.6)
    chart = draw_lanes(found, "en")
    assert "timed" not in chart
    assert "axis" not in chart
    card = verdict_card(Answer(found, "a.jpg"), "en")
    assert "single view" in card
    for wrong in ("most likely between", "longer", "1 faces", " s, "):
        assert wrong not in card


def test_the_card_says_what_of_whom_why_and_what_next() -> None:
    found = make_scan(people=2)
    found = replace(found, verdict=replace(found.verdict, signs={"pasted": 0.9, "drawn": 0.11}))
    figures = {"video AUC, blended": [0.72, 0.5, 0.9], "video AUC, animated": [0.44, 0.2, 0.6]}
    found = replace(found, model=replace(found.model, figures=figures))
    card = verdict_card(Answer(found, "<b>.mp4"), "en")
    for said in (
        "&lt;b&gt;.mp4", "▲", "Signs of manipulation", "Person 1, the most suspicious of 2",
        "Pasted-in face", "Generated face", "11%", "Of 4 genuine test clips, 0 scored",
        "finds traces in 12 of 12 faces", "Being put to the test", "Evidence, not proof",
        "Not checked: voice", "72 of 100", "44 of 100",
    ):  # fmt: skip
        assert said in card
    assert "<b>.mp4" not in card


def test_a_verdict_that_does_not_hold_stands_nowhere() -> None:
    found = make_scan()
    trials = (
        Trial("as it is", 0.9, Label.MANIPULATED), Trial("mirrored", 0.4, Label.INCONCLUSIVE)
    )  # fmt: skip
    tested = replace(found.verdict, label=Label.INCONCLUSIVE)
    answer = Answer(found, "a.mp4", trials, tested)
    card = verdict_card(answer, "en")
    assert '<div class="card inconclusive">' in card
    assert "It does not hold: “Signs of manipulation” at first" in card
    assert "mirrored" in card
    held = Answer(found, "a.mp4", (trials[0], trials[0]), found.verdict)
    assert "It holds: the same answer in all 1" in verdict_card(held, "en")


def test_what_a_file_declares_stands_above_the_verdict() -> None:
    found = make_scan()
    said = (Statement("captured", "", "XMP"), Statement("generated", "A <Maker>", "XMP"))
    found = replace(found, provenance=replace(found.provenance, statements=said))
    card = verdict_card(Answer(found, "a.mp4"), "en")
    assert card.index("made by A &lt;Maker&gt;") < card.index("Signs of manipulation")
    assert declared(said[:1], "en") == ""
    assert "Nothing found, which says nothing" in origin_page(Answer(make_scan(), "a.mp4"), "en")
    assert "Nothing found" not in origin_page(Answer(found, "a.mp4"), "en")


def test_telling_faces_are_apart_and_the_chosen_one_is_first() -> None:
    found = make_scan(people=2)
    faces = telling_faces(found, None)
    assert len(faces) == 3
    times = sorted(face.time for _, face in faces)
    assert min(b - a for a, b in pairwise(times)) >= 5 / 12
    chosen = telling_faces(found, (50, 2))
    assert chosen[0][0].person.id == 2
    assert chosen[0][1].frame_index == 50
    assert telling_faces(make_scan(people=0), None) == []
    assert "no judged face" in faces_page(make_scan(people=0), {}, "en")


def test_beyond_the_picture_is_grey() -> None:
    face = make_face(0, (-40, 20, 40, 120))
    crop = clean_crop(face, make_scan().video)
    beyond = round(-face.crop_box[0] * crop.shape[1] / (face.crop_box[2] - face.crop_box[0]))
    assert (crop[:, : beyond - 1] == OUTSIDE_GREY).all()
    assert np.array_equal(crop[10:60, beyond + 1 : 90], face.crop[10:60, beyond + 1 : 90])


def test_a_weak_map_looks_weak() -> None:
    image, values = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8), 0.9)
    strong, weak = overlay(image, values), overlay(image, values * 0.001)
    assert np.abs(strong.astype(int) - 100).max() > 50
    assert np.abs(weak.astype(int) - 100).max() < 5


def test_a_map_is_told_in_one_way_only() -> None:
    face = make_face(0)
    empty = Heatmap("gradcam", face, np.zeros((8, 8), np.float32), {"reliable": False}, {"nose": 1})
    assert describe_map(empty, "en").startswith("The map is empty")
    wrong = replace(empty, values=np.ones((8, 8), np.float32))
    assert "Do not rely on this map" in describe_map(wrong, "en")
    right = replace(wrong, trust={"reliable": True})
    assert describe_map(right, "en").endswith("The largest share lies around the nose (100%).")
    for agreement, alone in ((0.7, False), (0.2, True)):
        trust = {"reliable": None, "agreement": agreement}
        told = describe_map(replace(wrong, trust=trust, sign="pasted"), "en")
        assert "unproved" in told
        assert ("mark other places" in told) is alone
        assert told.endswith("The largest share lies around the nose (100%).")
    unsteady = replace(wrong, sign="pasted")
    assert "another one comes out" in describe_map(unsteady, "en")


@pytest.mark.parametrize(("sign", "said"), [("pasted", 1), ("drawn", 0)])
def test_that_maps_of_pasted_faces_cannot_be_proved_is_said_once(sign: str, said: int) -> None:
    found = make_scan()
    maps = {
        (face.frame_index, person.person.id): Heatmap(
            "gradcam", face, np.ones((8, 8), np.float32), {}, {"nose": 1}, sign
        )
        for person, face in telling_faces(found)
    }
    assert len(maps) == 3
    assert faces_page(found, maps, "en").count("cannot be proved for your file") == said


def test_key_frames_are_a_row_a_person_and_can_be_saved() -> None:
    sheet = frames_page(Answer(make_scan(people=2), "a.mp4"), "en")
    assert sheet.count('<div class="row">') == 2
    assert sheet.count("download=") == 2 * 8 + 8 + 1


def code(image: np.ndarray, kind: str = "JPEG", **options: object) -> str:
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, kind, **options)
    return base64.b64encode(buffer.getvalue()).decode()


def test_another_encoders_picture_is_the_same_and_an_exchanged_one_is_not() -> None:
    face = portrait()[:320, 100:420]
    ours = to_data_uri(face, 320).split(",")[1]
    for theirs in (
        code(face, quality=90), code(face, quality=80), code(face, quality=85, subsampling=0),
        code(face, "WEBP", quality=85),
    ):  # fmt: skip
        assert theirs != ours
        assert look_alike(theirs, ours)
    patched, turned = face.copy(), PIL.Image.Exif()
    patched[100:112, 100:112] = patched[60:72, 60:72]
    turned[0x0112] = 3  # shown upside down
    other = PIL.Image.fromarray(other_portrait()).resize((320, 320))
    frames = PIL.Image.fromarray(face), other
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], quality=90)
    for theirs in (
        code(patched, quality=85), code(np.array(other)), code(face[:, ::-1], quality=85),
        code(face[:318]), code(face, quality=85, exif=turned),
        base64.b64encode(buffer.getvalue()).decode(), "AAAA", "",
    ):  # fmt: skip
        assert not look_alike(theirs, ours)


def test_a_maps_colours_count_where_they_are_seen() -> None:
    values = np.zeros((64, 64), np.float32)
    values[20:40, 20:40] = 0.8
    heatmap = Heatmap("gradcam", make_face(0), values)
    ours = heatmap_layer(heatmap, 160).split(",")[1]
    drawn = np.array(PIL.Image.open(io.BytesIO(base64.b64decode(ours))))
    assert look_alike(code(drawn, "WEBP", quality=80), ours)
    moved = heatmap_layer(replace(heatmap, values=np.roll(values, 4, axis=1)), 160).split(",")[1]
    assert not look_alike(moved, ours)


@pytest.mark.parametrize("language", languages())
def test_the_report_needs_nothing_beside_it(language: str) -> None:
    found = make_scan(people=8, frames=32)
    when = datetime(2026, 11, 24, 23, 0, tzinfo=UTC)
    report = full_json(
        Answer(found, "a.mp4"), language=language, file="a report.json", note="seen <here>",
        when=when,
    )  # fmt: skip
    page = to_page(found, report, {})
    assert len(page.encode()) < 1_500_000
    for said in (
        "2026-11-24 23:00:00 UTC",
        "ab" * 32,
        "cd" * 32,
        "seen &lt;here&gt;",
        "key_frames",
    ):
        assert said in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count("</script>") == 1
    assert texts.translate(language, "map_working") not in page
    assert re.search(r"verify &quot;a report.json&quot; &quot;a.mp4&quot;</code></p></main>", page)


def test_schema_describes_the_json(detector: object, face_video: Path) -> None:
    from detector.pipeline import scan
    from detector.settings import Settings

    schema = json.loads(
        (Path(__file__).parent.parent / "docs" / "report.schema.json").read_text(encoding="utf-8")
    )
    for found in (scan(face_video, Settings(key_frames=4), detector=detector), make_scan(8)):
        tested = Answer(found, "a.mp4", (Trial("mirrored", 0.5, Label.NO_SIGNS),), found.verdict)
        maps = {
            (face.frame_index, person.person.id): Heatmap(
                "gradcam", face, np.ones((8, 8), np.float32),
                {"stability": 0.9, "agreement": 0.7, "inside": 1.0, "reliable": None},
                {"nose": 1.0}, "pasted",
            )
            for person, face in telling_faces(found)
        }  # fmt: skip
        report = full_json(tested, language="en", file="report.json", maps=maps)
        assert report["heatmaps"][0]["trust"]["reliable"] is None
        assert to_page(found, report, maps).count("unproved") == len(maps)
        jsonschema.validate(json.loads(json.dumps(report)), schema)
        for spoilt in ({**report, "verdict": "real"}, {**report, "probability": 2}, {"schema": 1}):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(spoilt, schema)
