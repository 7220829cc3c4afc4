"""Where weights and example clips lie: inside an installed package, beside it in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def find_folder(name: str) -> Path:
    """The folder `weights` or `examples`."""
    installed = PACKAGE / "data" / name
    return installed if installed.is_dir() else PACKAGE.parent / name
