"""Unmask: does a face in this clip show signs of manipulation?

The heavy parts are loaded when they are asked for: importing this package loads neither torch
nor gradio.
"""

from importlib import import_module
from typing import Any

from detector.errors import UserError

__version__ = "0.1.0"
__all__ = ["Scan", "Settings", "UserError", "explain", "load_detector", "scan"]

_HOMES = {
    "Scan": "detector.records",
    "Settings": "detector.settings",
    "explain": "detector.explain",
    "load_detector": "detector.weights",
    "scan": "detector.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
