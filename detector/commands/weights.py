"""`weights`: list, verify, download, convert, average, extend and push checkpoints."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from detector.commands.console import Bar, print_json, print_stderr, print_stdout
from detector.commands.options import Options
from detector.errors import UserError


def set_up(parser: argparse.ArgumentParser) -> None:
    """Add the options of `weights`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every model, where its weights are, its figures")
    listing.add_argument("--json", choices=["-"], help="print one JSON object")
    verifying = actions.add_parser(
        "verify", help="check hashes, and run each checkpoint on the input it carries"
    )
    verifying.add_argument("names", nargs="*", metavar="NAME_OR_PATH")
    fetching = actions.add_parser("download", help="fetch a model's weights from the Hub")
    fetching.add_argument("names", nargs="+", metavar="NAME")
    converting = actions.add_parser(
        "convert", help="a bare state of tensors (.pth, .safetensors) -> an uncalibrated checkpoint"
    )
    converting.add_argument("source", type=Path)
    converting.add_argument("path", type=Path, metavar="OUT.safetensors")
    converting.add_argument("--architecture", required=True, metavar="NAME")
    converting.add_argument(
        "--margin", type=float, help="share of the face's box shown around it, as it was trained"
    )
    averaging = actions.add_parser("average", help="the mean of checkpoints that started alike")
    averaging.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    averaging.add_argument("--out", type=Path, required=True, metavar="OUT.safetensors")
    texturing = actions.add_parser(
        "texture-head", help="a checkpoint with a head for the textures of drawn faces"
    )
    texturing.add_argument("path", type=Path, metavar="PATH")
    texturing.add_argument(
        "--data", type=Path, required=True, metavar="INDEX",
        help="labelled faces; what the checkpoint left out is left out again",
    )  # fmt: skip
    texturing.add_argument("--out", type=Path, required=True, metavar="OUT.safetensors")
    pushing = actions.add_parser("push", help="upload a checkpoint to the Hub (HF_TOKEN is set)")
    pushing.add_argument("path", type=Path)
    pushing.add_argument("repository", metavar="OWNER/NAME")
    pushing.add_argument("--yes", action="store_true", help="do not ask")


def run(options: Options) -> int:
    """List, verify, download, convert, average, extend or push weights."""
    actions = {
        "list": _list_weights,
        "verify": _verify_weights,
        "download": _download_weights,
        "convert": _convert_weights,
        "average": _average_weights,
        "texture-head": _add_texture_head,
        "push": _push_weights,
    }
    return actions[options.action](options)


def _list_weights(options: Options) -> int:
    from detector.weights import find_source, how_to_get, read_catalogue, resolve_weights

    catalogue = read_catalogue()
    listed = []
    for entry in catalogue.entries.values():
        row: dict[str, Any] = {
            "name": entry.name, "title": entry.title, "source": find_source(entry, catalogue),
            "megabytes": None, "sha256": entry.sha256, "figures": {},
            "members": list(entry.members), "needs": None,
        }  # fmt: skip
        if not row["source"]:
            row["needs"] = how_to_get(entry)
        if row["source"] and not entry.members:
            checkpoint = resolve_weights(entry.name, download=False)
            row["megabytes"] = round(checkpoint.path.stat().st_size / 1e6, 1)
            row["figures"] = checkpoint.metadata.get("figures", {})
        listed.append(row)
    if options.json:
        print_json({"schema": 1, "default": catalogue.default, "models": listed})
        return 0
    for row in listed:
        mark = "*" if row["name"] == catalogue.default else " "
        size = f"{row['megabytes']} MB" if row["megabytes"] else ""
        print_stdout(f"{mark} {row['name']:<26} {row['source'] or 'no weights':<11} {size}")
        if row["needs"]:
            print_stdout(f"      needs {row['needs']}")
        for name, value in row["figures"].items():
            print_stdout(f"      {name}: {_format_figure(value)}")
    return 0


def _format_figure(value: Any) -> str:
    """A figure of a checkpoint: a number, an area with its interval, or a count of clips."""
    from detector.training.tables import format_count, format_interval

    if isinstance(value, dict):
        return format_count(value)
    return format_interval(value) if isinstance(value, list) else str(value)


def _verify_weights(options: Options) -> int:
    from detector.weights import find_source, read_catalogue, resolve_weights, verify_checkpoint

    names = options.names or [
        e.name for e in read_catalogue().entries.values() if find_source(e) and not e.members
    ]
    if not names:
        raise UserError("no_weights", "No model has weights on this machine.")
    failed = 0
    for name in names:
        is_path = name.endswith(".safetensors")
        try:
            checkpoint = resolve_weights(
                "default" if is_path else name, name if is_path else None, download=False
            )
            difference = verify_checkpoint(checkpoint)
        except UserError as error:
            failed += 1
            print_stdout(f"{name}: {error.message} [{error.code}]")
        else:
            sha256 = checkpoint.sha256[:12]
            print_stdout(f"{name}: sound (sha256 {sha256}…, golden input off by {difference:.4f})")
    return 1 if failed else 0


def _download_weights(options: Options) -> int:
    from detector.weights import resolve_weights

    for name in options.names:
        checkpoint = resolve_weights(name)
        print_stdout(f"{name}: {checkpoint.path} ({checkpoint.source})")
    return 0


def _convert_weights(options: Options) -> int:
    from detector.weights import convert_state

    margin = {} if options.margin is None else {"margin": options.margin}
    sha256 = convert_state(options.source, options.architecture, options.path, **margin)
    print_stdout(f"{options.path}: sha256 {sha256}")
    return 0


def _average_weights(options: Options) -> int:
    from detector.weights import average_checkpoints, resolve_weights

    digest = average_checkpoints([resolve_weights(path=p) for p in options.paths], options.out)
    print_stdout(f"{options.out} {digest}")
    return 0


def _add_texture_head(options: Options) -> int:
    from detector.training.textures import add_texture_head
    from detector.weights import resolve_weights

    checkpoint = resolve_weights(path=options.path)
    with Bar("reading faces") as progress:
        digest = add_texture_head(checkpoint, options.data, options.out, progress)
    print_stdout(f"{options.out} {digest}")
    return 0


def _push_weights(options: Options) -> int:
    from detector.weights import push_checkpoint

    if not options.yes:
        print_stderr(f"Upload {options.path} to {options.repository}, for everyone to see? [y/N] ")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print_stderr("Nothing was uploaded.")
            return 1
    url, entry = push_checkpoint(options.path, options.repository, os.environ.get("HF_TOKEN"))
    print_stdout(url)
    print_stderr("Its entry in weights/catalogue.json, to which a title is to be added:")
    print_json(entry)
    return 0
