"""Every sentence in every language, and those that are made of a scan's numbers."""

import ast
import re
from pathlib import Path
from string import Formatter

import pytest

from detector import errors, texts
from detector.errors import UserError

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
        asked |= set(re.findall(r'\bsay(?:_count)?\(\s*(?:language|code),\s*"(\w+)"', code))
        if path.name == "layout.py":
            asked |= set(re.findall(r'\bsay\("(\w+)"\)', code))
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
        assert texts.tell_warning("en", warning) == warning
        assert texts.tell_warning("fr", warning) != warning
    assert texts.tell_warning("fr", "unheard of") == "unheard of"


def test_an_error_is_told_in_the_readers_language() -> None:
    error = UserError("empty_file", "a.mp4 is empty: was the download cut off?")
    assert texts.tell_error("en", error) == error.message
    assert texts.tell_error("de", error) == texts.say("de", "error_empty_file")
    about_files = re.search(r"the file(.*)the model", errors.__doc__ or "", re.DOTALL)
    assert about_files is not None
    for code in re.findall(r"\w+_\w+", about_files[1]):
        assert f"error_{code}" in texts.sentences() or code == "no_clips"
