"""Every sentence in every language, and those that are made of a scan's numbers."""

import ast
import re
from dataclasses import replace
from pathlib import Path
from string import Formatter

import pytest
from scans import CALIBRATION, make_scan

from detector import errors, texts
from detector.errors import UserError
from detector.records import Label, Scan

ROOT = Path(texts.__file__).parent


def placeholders(sentence: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(sentence) if name is not None}


@pytest.mark.parametrize("key", texts.sentences())
def test_every_language_says_everything(key: str) -> None:
    said = texts.sentences()[key]
    assert tuple(said) == ("en", "de", "es", "fr")
    for text in said.values():
        assert text.strip()
        assert placeholders(text) == placeholders(said["en"])
        assert text.count("|") == said["en"].count("|")


def test_every_key_that_is_asked_for_is_there() -> None:
    asked = set()
    for path in ROOT.rglob("*.py"):
        code = path.read_text(encoding="utf-8")
        asked |= set(re.findall(r'\btranslate(?:_count)?\(\s*(?:language|code),\s*"(\w+)"', code))
        if path.name == "layout.py":
            asked |= set(re.findall(r'\bi18n\("(\w+)"\)', code))
    script = (ROOT / "interface" / "light_table.js").read_text(encoding="utf-8")
    asked |= {f"js_{key}" for key in re.findall(r"\bwords\.(\w+)", script)}
    asked |= {f"js_{key}" for key in re.findall(r"setText\('[\w-]+', '(\w+)'\)", script)}
    counted = {"faces", "people"}
    assert len(asked) > 80
    assert asked - counted <= set(texts.sentences())


def test_a_language_that_is_not_there_is_english() -> None:
    assert texts.choose_language("fr-CA") == "fr"
    assert texts.choose_language("ja") == "en"
    assert texts.choose_language(None) == "en"


def test_a_warning_is_told_in_the_readers_language() -> None:
    made = [
        node
        for name in ("video.py", "decoder.py")
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8")))
    ]
    warnings = [
        "".join(
            "7" if isinstance(part, ast.FormattedValue) else str(getattr(part, "value", ""))
            for part in getattr(call.args[0], "values", [call.args[0]])
        )
        for call in made
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("warnings.append")
    ]
    assert len(warnings) >= 8
    for warning in warnings:
        assert texts.translate_warning("en", warning) == warning
        assert texts.translate_warning("fr", warning) != warning
    assert texts.translate_warning("fr", "unheard of") == "unheard of"


def test_an_error_is_told_in_the_readers_language() -> None:
    error = UserError("empty_file", "a.mp4 is empty: was the download cut off?")
    assert texts.translate_error("en", error) == error.message
    assert texts.translate_error("de", error) == texts.translate("de", "error_empty_file")
    about_files = re.search(r"the file(.*)the model", errors.__doc__ or "", re.DOTALL)
    assert about_files is not None
    for code in re.findall(r"\w+_\w+", about_files[1]):
        assert f"error_{code}" in texts.sentences() or code == "no_clips"


def test_the_sentence_for_an_article() -> None:
    sentence = texts.article("en", make_scan(), "clip.mp4", Label.INCONCLUSIVE)
    for told in ("clip.mp4", "tiny", "inconclusive", "90%", "Of 4 genuine test clips, 0 scored"):
        assert told in sentence
    german = texts.article("de", make_scan(people=0), "clip.mp4", Label.NO_FACE)
    assert texts.label_text("de", Label.NO_FACE) in german
    assert "%" not in german


def test_the_frequency_counts_genuine_clips_that_score_as_high() -> None:
    verdict = make_scan().verdict
    middle = replace(verdict, probability=0.5)  # logit 0, of -1, -0.5, 0 and 0.5
    assert "Of 4 genuine test clips, 2 scored" in texts.frequency("en", middle, CALIBRATION)
    assert texts.frequency("en", verdict, replace(CALIBRATION, real_logits=())) == ""
    assert texts.frequency("en", replace(verdict, probability=None), CALIBRATION) == ""


def test_captions_stand_from_one_face_to_the_next() -> None:
    lines = texts.captions(make_scan(people=2, frames=3)).split("\n")
    assert lines[:4] == [
        "WEBVTT", "", "00:00:00.000 --> 00:00:00.400", "person 1: 90%, person 2: 86%",
    ]  # fmt: skip
    assert lines[5] == "00:00:00.400 --> 00:00:00.800"
    assert lines[8] == "00:00:00.800 --> 00:00:01.800"
    assert texts.captions(make_scan(people=0)).split() == ["WEBVTT"]
    assert texts._clock(3723.5) == "01:02:03.500"


def test_what_was_not_checked_depends_on_what_was_seen() -> None:
    found = make_scan()
    (person,) = found.people
    faces = person.person.faces[:9]
    fewer = replace(found, people=(replace(person, person=replace(person.person, faces=faces)),))
    assert "3 of 12" in texts.not_checked("en", fewer)
    assert "of 12" not in texts.not_checked("en", found)
    assert texts.not_checked("en", make_scan(frames=1)) == texts.translate(
        "en", "not_checked_still"
    )


def test_the_next_step_is_what_would_help() -> None:
    def suggest(found: Scan) -> str:
        return texts.what_next("en", found, Label.INCONCLUSIVE)

    found = make_scan()  # faces 80 pixels wide
    (person,) = found.people
    small = tuple(replace(face, box=(0, 0, 60, 60)) for face in person.person.faces)
    tiny = replace(found, people=(replace(person, person=replace(person.person, faces=small)),))
    brief = replace(found, people=(replace(person, scores=person.scores[:2]),))
    assert suggest(found) == texts.translate("en", "next_inconclusive")
    assert suggest(tiny) == texts.translate("en", "next_small", width=60)
    assert suggest(brief) == texts.translate("en", "next_short")
    assert suggest(make_scan(frames=1)) == texts.translate("en", "next_still")
    manipulated = texts.what_next("en", found, Label.MANIPULATED)
    assert manipulated == texts.translate("en", "next_manipulated")


def test_the_reasons_name_faces_and_people_that_were_left_out() -> None:
    found = make_scan(people=2)
    first, second = found.people
    judged = replace(first, scores=first.scores[:11])
    brief = replace(second, scores=second.scores[:1])
    reasons = texts.why("en", replace(found, people=(judged, brief)))
    assert "11 of 11 faces" in reasons[0]
    assert texts.translate("en", "why_left_out", faces="1 face") in reasons
    assert texts.translate("en", "why_unjudged", people="1 person") in reasons
