"""The documents say what the program does: commands, links, tables and the Python they show."""

import argparse
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector import errors
from detector.__main__ import COMMANDS, build_parser
from detector.errors import CODES
from detector.heatmaps import METHODS
from detector.records import LABEL_TEXT
from detector.training.readers import READERS
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


def test_installed_commands_are_understood() -> None:
    """Those that follow `unmask` as a word, such as in the container."""
    called = [
        words[words.index("unmask") + 1 :]
        for _, words in shell_commands()
        if "unmask" in words and words[words.index("unmask") + 1 :]
    ]
    called = [arguments for arguments in called if arguments[0] in COMMANDS]
    assert called
    for arguments in called:
        assert build_parser().parse_args(arguments).command in COMMANDS


def options_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from options_of(command)


def test_options_exist() -> None:
    """Those in running text; the ones in shell blocks are parsed."""
    known = set(options_of(build_parser())) | {"--require-hashes", "--no-deps"}  # pip's
    scripts = [*ROOT.glob("benchmarks/*.py"), ROOT / "docs" / "make_pictures.py"]
    for path in scripts:
        known |= set(re.findall(r'"(--[a-z-]+)"', path.read_text(encoding="utf-8")))
    named = {
        (path.name, option)
        for path, text in TEXTS.items()
        for span in re.findall(r"`([^`\n]+)`", text)
        for option in re.findall(r"(?<!\S)--[a-z][a-z-]+", span)
    }
    assert len(named) > 20
    assert {pair for pair in named if pair[1] not in known} == set()


def test_published_figures_name_their_command() -> None:
    command = re.compile(r"\bpython -m (benchmarks\.\w+|detector evaluate)\b")
    figure = re.compile(r"^\|.*\d\.\d", re.M)
    unnamed = []
    for path, text in TEXTS.items():
        beginning, *sections = re.split(r"^## ", text, flags=re.M)
        unnamed += [
            f"{path.name}: {section.splitlines()[0]}"
            for section in sections
            if figure.search(section) and not command.search(beginning + section)
        ]
    assert unnamed == []


def test_all_python_is_run() -> None:
    """README's below, the API's by test_app.py; a block elsewhere would be run by none."""
    assert {path.name for path, _ in blocks("python")} == {"README.md", "api.md"}


def test_the_apis_arguments_have_the_documented_defaults() -> None:
    from detector.interface.api import api_explain, api_scan

    rows = table_rows(TEXTS[ROOT / "docs" / "api.md"], "| argument | endpoint | what |")
    told = {name.strip("`"): default.strip("`") for name, _, _, default in rows}
    for function in (api_scan, api_explain):
        for name, parameter in inspect.signature(function).parameters.items():
            given = parameter.default
            assert told[name] == ("" if given is inspect.Parameter.empty else f"{given:g}"
                                  if isinstance(given, float) else str(given))  # fmt: skip
    assert set(told) == {
        *inspect.signature(api_scan).parameters, *inspect.signature(api_explain).parameters
    }  # fmt: skip


def test_the_apis_methods_are_those_there_are() -> None:
    from detector.interface.api import api_explain

    rows = table_rows(TEXTS[ROOT / "docs" / "api.md"], "| argument | endpoint | what |")
    (documented,) = [what for name, _, what, _ in rows if name == "`method`"]
    for text in (documented, inspect.getdoc(api_explain) or ""):
        assert [name for name in METHODS if name not in text] == []


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


def test_the_readme_lists_the_error_codes_by_group() -> None:
    rows = table_rows(README, "| about | codes |")
    listed = [re.findall(r"`(\w+)`", row[1]) for row in rows]
    tree = re.split(r"[├└]── ", errors.__doc__ or "")[1:]
    drawn = [[word for word in re.findall(r"\w+", group) if word in CODES] for group in tree]
    assert [set(codes) for codes in listed] == [set(codes) for codes in drawn]
    assert sorted(code for codes in listed for code in codes) == sorted(CODES)


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
