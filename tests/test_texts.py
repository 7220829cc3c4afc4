"""Every sentence in every language, and those that are made of a scan's numbers."""

import re
from pathlib import Path
from string import Formatter

import pytest

from detector import texts

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
