"""What `pip install .` installs: nothing of the package is forgotten."""

import tomllib
from pathlib import Path
from types import FunctionType

import pytest

import detector
from detector import assets
from detector.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
CONFIGURED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = CONFIGURED["tool"]["setuptools"]


def test_every_package_is_listed() -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "detector").rglob("__init__.py")
    }
    assert set(SETUPTOOLS["packages"]) == found | set(SETUPTOOLS["package-dir"])


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_every_file_that_is_no_module_is_installed(package: str) -> None:
    folder = ROOT / SETUPTOOLS["package-dir"].get(package, package.replace(".", "/"))
    patterns = SETUPTOOLS["package-data"].get(package, [])
    taken = {path for pattern in patterns for path in folder.glob(pattern)}
    files = {p for p in folder.iterdir() if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert files == taken


def test_assets_lie_beside_a_checkouts_package_and_inside_an_installed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert assets.find_folder("weights") == ROOT / "weights"
    assert (assets.find_folder("examples") / "genuine.mp4").is_file()
    installed = tmp_path / "detector"
    (installed / "data" / "weights").mkdir(parents=True)
    monkeypatch.setattr(assets, "PACKAGE", installed)
    assert assets.find_folder("weights") == installed / "data" / "weights"


def test_the_console_command_is_the_modules_main() -> None:
    assert CONFIGURED["project"]["scripts"] == {"unmask": "detector.__main__:main"}
    assert {"scan", "explain", "app"} <= set(COMMANDS)


def test_public_names() -> None:
    assert set(detector.__all__) <= set(dir(detector))
    assert all(callable(getattr(detector, name)) for name in detector.__all__)
    assert isinstance(detector.explain, FunctionType)  # no module of this name hides it
    installed = detector.list_models(installed=True)
    assert "efficientnet_lite2" in installed
    assert set(installed) < set(detector.list_models())
    with pytest.raises(AttributeError):
        _ = detector.nothing
