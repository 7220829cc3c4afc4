"""The documents say what the program does: commands, links, tables and the Python they show."""

import re
import shlex
from pathlib import Path

import pytest

from detector.__main__ import COMMANDS, build_parser
from detector.errors import CODES
from detector.records import LABEL_TEXT
from detector.training.datasets import READERS
from detector.training.recipes import RECIPES

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("weights/*.md")])
TEXTS = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
README = TEXTS[ROOT / "README.md"]


def blocks(language: str) -> list[tuple[Path, str]]:
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.M | re.S)
    return [(path, block) for path, text in TEXTS.items() for block in fence.findall(text)]


def shell_commands() -> list[tuple[str, list[str]]]:
    found = []
    for path, block in blocks("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                found.append((path.name, words))
    return found


def calls_of(module: str) -> list[list[str]]:
    """What follows `-m module` in the documents' shell commands."""
    return [
        words[words.index(module) + 1 :]
        for _, words in shell_commands()
        if module in words and words[words.index(module) - 1] == "-m"
    ]


def table_rows(text: str, head: str) -> list[list[str]]:
    """The cells of the table whose first line starts with `head`."""
    lines = text[text.index(head) :].splitlines()[2:]
    rows = lines[: next((n for n, line in enumerate(lines) if not line.startswith("|")), None)]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@pytest.mark.parametrize("arguments", calls_of("detector"), ids=" ".join)
def test_commands_are_understood(arguments: list[str]) -> None:
    assert build_parser().parse_args(arguments).command in COMMANDS


def test_benchmarks_exist() -> None:
    words = re.compile(r"\bbenchmarks\.(?!md\b)(\w+)")
    named = {name for text in TEXTS.values() for name in words.findall(text)}
    assert named >= {"explanations", "profile", "cost"}
    assert [name for name in named if not (ROOT / "benchmarks" / f"{name}.py").is_file()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[path]):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            anchors = {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}
            assert anchor in anchors, link


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_the_readme_names_every_command() -> None:
    assert [name for name in COMMANDS if f"detector {name}" not in README
            and f"`{name}`" not in README] == []  # fmt: skip


def test_the_readme_lists_the_error_codes() -> None:
    rows = table_rows(README, "| about | codes |")
    assert sorted(code for row in rows for code in re.findall(r"`(\w+)`", row[1])) == sorted(CODES)


def test_the_readme_lists_the_verdicts() -> None:
    rows = table_rows(README, "| verdict | shown as | when |")
    told = {name.strip("`"): shown for name, shown, _ in rows}
    assert told == {str(label): text for label, text in LABEL_TEXT.items()}


def test_recipes_and_readers_exist() -> None:
    text = TEXTS[ROOT / "docs" / "training.md"]
    rows = table_rows(text, "| recipe | published figure")
    named = [name for row in rows for name in re.findall(r"`([\w-]+)`", row[0])]
    assert set(named) == {name for name, r in RECIPES.items() if "paper left open" not in
                          r.reproduces and r.reproduces and "test" not in name}  # fmt: skip
    assert [name for name in READERS if f"`{name}`" not in text] == []


def test_the_readmes_python_finds_the_example_manipulated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = [block for path, block in blocks("python") if path.name == "README.md"]
    monkeypatch.chdir(ROOT)
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("manipulated ")


def test_other_examples_are_not_called_manipulated() -> None:
    from detector import Settings, scan

    labels = {
        name: scan(ROOT / "examples" / f"{name}.mp4", Settings(key_frames=8)).verdict.label
        for name in ("genuine", "no_face")
    }
    assert labels["no_face"] == "no_face"
    assert labels["genuine"] in ("inconclusive", "no_signs")
