"""`train`: carry out a training recipe."""

import argparse
from dataclasses import replace
from pathlib import Path

from detector.commands.console import Bar, print_stdout
from detector.commands.options import Options
from detector.errors import UserError


def set_up(parser: argparse.ArgumentParser) -> None:
    """The options of `train`."""
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
    parser.add_argument("--out", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="number of steps, in place of the recipe's"
    )
    parser.add_argument("--resume", action="store_true", help="continue a run")
    parser.add_argument(
        "--compile", action="store_true",
        help="use torch.compile: faster on a CPU, needs a C++ compiler",
    )  # fmt: skip
    parser.add_argument(
        "--start", default="imagenet", metavar="imagenet|scratch|FILE",
        help="the initial weights",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="only draw a sheet of forgeries, to look at"
    )


def run(options: Options) -> int:
    """Carry out a recipe, list the recipes, or draw a sheet of forgeries."""
    from detector.scoring import choose_device
    from detector.training.plots import draw_sheet
    from detector.training.portraits import find_portraits
    from detector.training.recipes import RECIPES, find_recipe
    from detector.training.runs import train_from_faces, train_from_labels, train_from_mixture

    if options.recipes:
        for name, recipe in RECIPES.items():
            s = recipe.settings
            print_stdout(f"{name:<26} {recipe.title}, {s.steps} steps of {s.batch} crops")
            if recipe.reproduces:
                print_stdout(f"{'':<26} published: {recipe.reproduces}")
        return 0
    if options.data is None or (options.recipe is None and options.sheet is None):
        raise UserError(
            "bad_setting", "A recipe and --data are needed; --recipes lists the recipes."
        )
    for folder in [*options.data, *([options.faces] if options.faces else [])]:
        if not folder.is_dir():
            raise UserError("no_data", f"There is no folder {folder}.")
    data = options.data[0]
    if options.sheet is not None:
        from detector.charts import to_png

        with Bar("finding faces") as progress:
            portraits = find_portraits(data, progress=progress)
        options.sheet.write_bytes(to_png(draw_sheet(portraits)))
        print_stdout(str(options.sheet))
        return 0
    if options.out is None:
        raise UserError("bad_setting", "--out is needed: the folder of the run.")
    recipe = find_recipe(options.recipe)
    if options.steps:
        recipe = replace(recipe, settings=replace(recipe.settings, steps=options.steps))
    if options.compile:  # bf16 gains nothing on top of it
        settings = replace(
            recipe.settings, compiled=True, half=choose_device(options.device) != "cpu"
        )
        recipe = replace(recipe, settings=settings)
    common = {
        "start": options.start, "device": choose_device(options.device), "resume": options.resume,
    }  # fmt: skip
    with Bar(options.recipe) as progress:
        if recipe.mixed:
            if options.faces is None:
                raise UserError("bad_setting", "This recipe also needs portraits: --faces DIR.")
            best = train_from_mixture(
                recipe, options.faces, options.data, options.out, left_out=options.leave_out,
                progress=progress, **common,
            )  # fmt: skip
        elif len(options.data) > 1:
            raise UserError("bad_setting", "This recipe takes one folder: --data DIR.")
        elif recipe.labelled:
            best = train_from_labels(
                recipe, data, options.out, leaky=options.leaky, progress=progress, **common
            )
        else:
            best = train_from_faces(recipe, data, options.out, progress=progress, **common)
    print_stdout(str(best))
    return 0
