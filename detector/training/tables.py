"""Tables in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any


def format_head(*names: str) -> str:
    """The two lines of a table's head."""
    return format_row(*names) + "\n" + "|---" * len(names) + "|"


def format_row(*cells: str) -> str:
    """A table's row."""
    return "| " + " | ".join(cells) + " |"


def format_interval(value: Sequence[float]) -> str:
    """A figure and its interval, (value, low, high), as in 0.74 (0.61 to 0.87)."""
    return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"


def format_count(counted: Mapping[str, Any]) -> str:
    """A count of clips, as evaluations store it, and its interval: 1 of 32 (1% to 16%)."""
    low, high = counted["interval"]
    return f"{counted['count']} of {counted['of']} ({low:.0%} to {high:.0%})"
