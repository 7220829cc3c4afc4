"""Markdown tables, printed row by row while a benchmark runs."""

from detector.training.tables import format_head, format_row


def print_head(*names: str) -> None:
    """Print a table's head."""
    print(format_head(*names), flush=True)


def print_row(*cells: str) -> None:
    """Print a table's row."""
    print(format_row(*cells), flush=True)
