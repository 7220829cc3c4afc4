"""A module imports only from lines above its own, and importing the package stays cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import detector

ROOT = Path(detector.__file__).parent
ORDER = [
    "assets", "errors", "opened", "records", "settings", "workers", "video", "origin",
    "provenance", "keyframes", "sandbox", "decoder", "fence", "masks", "mtcnn", "faces",
    "architectures", "scoring", "weights", "verdict", "texts", "heatmaps", "charts", "lanes",
    "report", "pipeline",
    "stress", "answers", "cards", "comparison", "evidence", "page", "archive", "training",
    "uploads", "turns", "interface", "commands", "__main__",
]  # fmt: skip
"""From the bottom to the top."""

SOLE_IMPORTERS = {
    "av": "video",
    "facenet_pytorch": "mtcnn",
    "timm": "architectures",
    "huggingface_hub": "weights",
    "gradio": "interface",
    "ray": "workers",
}


def top_module_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "detector":
                found |= {f"detector.{alias.name}" for alias in node.names}
    return found


MODULES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = ORDER.index(top_module_of(path))
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "detector" and len(parts) > 1 and not parts[1].startswith("__"):
            assert ORDER.index(parts[1]) <= own, f"{path.name} imports {name}"
        sole = SOLE_IMPORTERS.get(parts[0])
        assert sole in (None, top_module_of(path)), f"{path.name} imports {parts[0]}"


def test_every_module_is_in_the_order() -> None:
    assert {top_module_of(path) for path in MODULES} == set(ORDER)


def test_contributing_shows_the_same_order() -> None:
    text = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = next(block for block in text.split("```") if block.split()[:1] == ["assets"])
    assert [name.rstrip("/") for name in shown.split()] == ORDER


FOR_MAPS = {"pytorch_grad_cam", "sklearn", "matplotlib", "scipy.stats"}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        *[
            (module, {"torch", "gradio", "av", "timm"})
            for module in (
                "detector", "detector.__main__", "detector.report", "detector.records"
            )
        ],
        ("detector.archive", FOR_MAPS),
    ],
)  # fmt: skip
def test_import_is_cheap(module: str, unwanted: set[str]) -> None:
    code = (
        f"import sys, {module}\n"
        f"heavy = {unwanted} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


TEXT = {"read_text", "write_text"}


def test_text_files_are_utf8_on_every_system() -> None:
    """What Windows takes for text by default is not UTF-8."""
    bare = []
    for path in [*ROOT.parent.glob("*.py"), *ROOT.parent.glob("*/*.py"), *ROOT.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in TEXT:
                named = {keyword.arg for keyword in node.keywords}
                if "encoding" not in named:
                    bare.append(f"{path.name}:{node.lineno}")
    assert bare == []
