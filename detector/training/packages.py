"""Packages that carry weights as files: they are located, not imported."""

from importlib.util import find_spec
from pathlib import Path


def find_package(name: str) -> Path | None:
    """The folder of an installed package; None if it is not installed."""
    found = find_spec(name)
    folders = found and found.submodule_search_locations
    return Path(folders[0]) if folders else None
