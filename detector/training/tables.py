"""Tables in Markdown."""

from collections.abc import Sequence


def format_head(*names: str) -> str:
    """The two lines of a table's head."""
    return format_row(*names) + "\n" + "|---" * len(names) + "|"


def format_row(*cells: str) -> str:
    """A table's row."""
    return "| " + " | ".join(cells) + " |"


def format_interval(value: Sequence[float]) -> str:
    """A figure and its interval, (value, low, high), as in 0.74 (0.61 to 0.87)."""
    return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"
