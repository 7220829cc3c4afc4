"""Unmask: does a face in this clip show signs of manipulation?

    from detector import scan

    found = scan("clip.mp4")
    print(found.verdict.label, found.verdict.probability)

Importing this package loads neither torch nor gradio: each public name is imported when it is
first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from detector.errors import UserError

if TYPE_CHECKING:
    from detector.heatmaps import explain
    from detector.pipeline import scan
    from detector.records import Scan
    from detector.settings import Settings
    from detector.weights import list_models, load_detector

__version__ = "0.1.0"
__all__ = [
    "Scan",
    "Settings",
    "UserError",
    "explain",
    "list_models",
    "load_detector",
    "scan",
]

_MODULES = {
    "Scan": "detector.records",
    "Settings": "detector.settings",
    "explain": "detector.heatmaps",
    "list_models": "detector.weights",
    "load_detector": "detector.weights",
    "scan": "detector.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
