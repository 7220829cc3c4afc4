"""Options that several commands share."""

import argparse
import ast
import inspect
import itertools
from dataclasses import fields
from typing import Any

from detector.settings import Settings

Options = argparse.Namespace


def setting_help(name: str) -> str:
    """The help text of an option: the docstring of the field of Settings that it sets."""
    tree = ast.parse(inspect.getsource(Settings)).body[0]
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    for field, docstring in itertools.pairwise(body):
        named = isinstance(field, ast.AnnAssign) and getattr(field.target, "id", "") == name
        if named and isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant):
            return " ".join(str(docstring.value.value).split()).replace("%", "%%")
    return ""


def add_setting(parser: argparse.ArgumentParser, name: str, **keywords: Any) -> None:
    """Add an option for a field of Settings; its help is the field's docstring and default.

    Args:
        parser: the command's parser.
        name: the field's name; the option is called the same, with dashes.
        keywords: further arguments for `add_argument`.
    """
    default = next(f.default for f in fields(Settings) if f.name == name)
    text = setting_help(name).rstrip(".") + ("" if default is None else f" (default: {default})")
    parser.add_argument("--" + name.replace("_", "-"), default=default, help=text, **keywords)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --model, --weights and --device."""
    add_setting(parser, "model", metavar="NAME")
    add_setting(parser, "weights", metavar="PATH")
    add_setting(parser, "device", choices=("auto", "cpu", "cuda", "mps"))


def add_ray(parser: argparse.ArgumentParser) -> None:
    """Add --ray."""
    parser.add_argument(
        "--ray", action="store_true",
        help="run on the Ray cluster that RAY_ADDRESS names, or on this machine's cores",
    )  # fmt: skip
