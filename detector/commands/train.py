"""`train`: carry out a training recipe."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from detector.commands.console import Bar, print_stdout
from detector.commands.options import Options
from detector.errors import UserError
from detector.settings import Progress

if TYPE_CHECKING:
    from detector.training.recipes import Recipe

LEAST_SIDE = 80  # pixels: the smallest input that the Inception networks take


def set_up(parser: argparse.ArgumentParser) -> None:
    """Add the options of `train`."""
    parser.add_argument("recipe", nargs="?", metavar="RECIPE")
    parser.add_argument("--recipes", action="store_true", help="list the recipes")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", nargs="+",
        help="a folder of real faces, or an index that `prepare` made, depending on the recipe; "
        "recipe `mixed` takes several indices",
    )  # fmt: skip
    parser.add_argument(
        "--faces", type=Path, metavar="DIR",
        help="for recipe `mixed`: portraits of real people, to make forgeries of",
    )  # fmt: skip
    parser.add_argument(
        "--leave-out", nargs="+", default=[], metavar="DATASET",
        help="for recipe `mixed`: data sets to measure on and not to train on",
    )  # fmt: skip
    parser.add_argument(
        "--leaky", action="store_true",
        help="split crops at random, as several papers did: frames of a video are in both splits",
    )  # fmt: skip
    parser.add_argument(
        "--teacher", type=Path, metavar="FILE",
        help="for recipes on labelled faces: a checkpoint whose probabilities are learned besides "
        "the labels (knowledge distillation)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="number of steps, in place of the recipe's"
    )
    parser.add_argument(
        "--side", type=int, metavar="PIXELS",
        help=f"side of the network's input, at least {LEAST_SIDE}, in place of the recipe's",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="continue a run")
    parser.add_argument(
        "--compile", action="store_true",
        help="use torch.compile: faster on a CPU, needs a C++ compiler",
    )  # fmt: skip
    parser.add_argument(
        "--start", default="imagenet", metavar="imagenet|scratch|FILE",
        help="the initial weights (default: imagenet)",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="only draw a sheet of forgeries, to look at"
    )


def run(options: Options) -> int:
    """Carry out a recipe, list the recipes, or draw a sheet of forgeries."""
    if options.recipes:
        return _list_recipes()
    if options.data is None or (options.recipe is None and options.sheet is None):
        raise UserError(
            "bad_setting", "A recipe and --data are needed; --recipes lists the recipes."
        )
    for folder in [*options.data, *([options.faces] if options.faces else [])]:
        if not folder.is_dir():
            raise UserError("no_data", f"There is no folder {folder}.")
    if options.sheet is not None:
        return _draw_sheet(options.data[0], options.sheet)
    if options.out is None:
        raise UserError("bad_setting", "--out is needed: the folder of the run.")
    with Bar(options.recipe) as progress:
        best = _train(options, _choose_recipe(options), progress)
    print_stdout(str(best))
    return 0


def _list_recipes() -> int:
    from detector.training.recipes import RECIPES

    for name, recipe in RECIPES.items():
        s = recipe.settings
        print_stdout(f"{name:<26} {recipe.title}, {s.steps} steps of {s.batch} crops")
        if recipe.reproduces:
            print_stdout(f"{'':<26} published: {recipe.reproduces}")
    return 0


def _draw_sheet(faces: Path, path: Path) -> int:
    """Draw a contact sheet of forgeries of the faces in a folder."""
    from detector.charts import to_png
    from detector.training.plots import draw_sheet
    from detector.training.portraits import find_portraits

    with Bar("finding faces") as progress:
        portraits = find_portraits(faces, progress=progress)
    path.write_bytes(to_png(draw_sheet(portraits)))
    print_stdout(str(path))
    return 0


def _choose_recipe(options: Options) -> "Recipe":
    """The recipe, with --steps, --side and --compile in place of its own settings."""
    from detector.scoring import choose_device
    from detector.training.recipes import find_recipe

    recipe = find_recipe(options.recipe)
    settings = recipe.settings
    if options.steps:
        settings = replace(settings, steps=options.steps)
    if options.compile:  # bf16 gains nothing on top of it
        settings = replace(settings, compiled=True, half=choose_device(options.device) != "cpu")
    if options.side is not None:
        if options.side < LEAST_SIDE:
            raise UserError("bad_setting", f"--side must be at least {LEAST_SIDE}.")
        recipe = replace(recipe, side=options.side, learned_side=None)
    return replace(recipe, settings=settings)


def _train(options: Options, recipe: "Recipe", progress: Progress) -> Path:
    """Carry out a recipe; the path of the best checkpoint."""
    from detector.scoring import choose_device
    from detector.training.runs import (
        RunOptions,
        train_from_faces,
        train_from_labels,
        train_from_mixture,
    )

    if recipe.mixed and options.faces is None:
        raise UserError("bad_setting", "This recipe also needs portraits: --faces DIR.")
    if not recipe.mixed and len(options.data) > 1:
        raise UserError("bad_setting", "This recipe takes one folder: --data DIR.")
    if options.teacher and not recipe.labelled:
        raise UserError("bad_setting", "Only a recipe on labelled faces can have a --teacher.")
    if options.teacher and not options.teacher.is_file():
        raise UserError("missing_file", f"There is no weights file {options.teacher}.")
    device = choose_device(options.device)
    run = RunOptions(options.out, options.start, device, options.resume, progress)
    if recipe.mixed:
        return train_from_mixture(
            recipe, options.faces, options.data, run, left_out=options.leave_out
        )
    if recipe.labelled:
        return train_from_labels(
            recipe, options.data[0], run, leaky=options.leaky, teacher=options.teacher
        )
    return train_from_faces(recipe, options.data[0], run)
