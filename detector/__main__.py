"""The command line: parsing and printing, nothing else."""

import argparse
import itertools
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detector import __version__
from detector.errors import UserError, as_user_error, printable
from detector.records import SIGNS
from detector.settings import Progress, Settings

Options = argparse.Namespace


class Bar:
    """Progress on standard error: a bar on a terminal, nothing elsewhere."""

    def __init__(self, title: str) -> None:
        self.bar = tqdm(
            total=100, desc=title[:40], leave=False, file=sys.stderr, disable=None,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix}",
        )  # fmt: skip

    def __call__(self, stage: str, fraction: float) -> None:
        """Show a stage and how far it is."""
        self.bar.set_postfix_str(stage, refresh=False)
        self.bar.n = round(100 * fraction)
        self.bar.refresh()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def say(text: str) -> None:
    """To a person, beside what a program reads."""
    tqdm.write(text, file=sys.stderr)


def put(text: str) -> None:
    """To standard output, whatever characters that knows."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def put_json(value: Any) -> None:
    """One JSON object, one line."""
    put(json.dumps(value, ensure_ascii=False))


def setting_help(name: str) -> str:
    """The help of an option is the docstring of the setting it sets."""
    import ast
    import inspect

    tree = ast.parse(inspect.getsource(Settings)).body[0]
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    for at, after in itertools.pairwise(body):
        named = isinstance(at, ast.AnnAssign) and getattr(at.target, "id", "") == name
        if named and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            return " ".join(str(after.value.value).split()).replace("%", "%%")
    return ""


def add_setting(parser: argparse.ArgumentParser, name: str, **keywords: Any) -> None:
    """An option for a field of Settings; its help names the default."""
    default = next(f.default for f in fields(Settings) if f.name == name)
    told = setting_help(name).rstrip(".") + ("" if default is None else f" (default: {default})")
    parser.add_argument("--" + name.replace("_", "-"), default=default, help=told, **keywords)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """--model, --weights and --device."""
    add_setting(parser, "model", metavar="NAME")
    add_setting(parser, "weights", metavar="PATH")
    add_setting(parser, "device", choices=("auto", "cpu", "cuda", "mps"))


def add_ray(parser: argparse.ArgumentParser) -> None:
    """--ray."""
    parser.add_argument(
        "--ray", action="store_true",
        help="spread the work by Ray: over the cluster RAY_ADDRESS names, or this machine's cores",
    )  # fmt: skip


def set_up_scan(parser: argparse.ArgumentParser) -> None:
    """The options of `scan`."""
    parser.add_argument("clips", nargs="+", metavar="FILE_OR_FOLDER")
    parser.add_argument(
        "--jsonl", choices=["-"], help="print one JSON object a file, and nothing else"
    )
    parser.add_argument(
        "--report", metavar="DIR", type=Path, help="write a report of each file to this folder"
    )
    add_model_options(parser)
    add_setting(parser, "key_frames", type=int, metavar="N")
    add_setting(parser, "frames", choices=("some", "all"))
    add_setting(parser, "explain", metavar="METHOD")
    add_ray(parser)


def run_scan(options: Options) -> int:
    """Scan files; one bad file never stops the rest."""
    settings = Settings(
        model=options.model,
        weights=options.weights,
        device=options.device,
        key_frames=options.key_frames,
        frames=options.frames,
        explain=None if options.explain == "none" else options.explain,
    )
    if settings.explain:
        from detector.explain import check_method

        check_method(settings.explain)
        if options.report is None:
            raise UserError("bad_setting", "--explain needs --report DIR to write the map to.")
    with Bar("") as progress:
        progress("loading", 0.0)
        from detector.archive import scan_files
        from detector.report import to_text

    failed = 0
    for report in scan_files(
        options.clips, settings, folder=options.report, ray=options.ray, watch=Bar
    ):
        failed += "error" in report
        put_json(report) if options.jsonl else put(to_text(report))
    return 1 if failed else 0


def set_up_explain(parser: argparse.ArgumentParser) -> None:
    """The options of `explain`."""
    parser.add_argument("clip", type=Path)
    parser.add_argument(
        "--method", default="gradcam", metavar="METHOD",
        help="smoothgrad, gradcam, gradcam++, faster-scorecam; also layercam, hirescam, scorecam",
    )  # fmt: skip
    parser.add_argument(
        "--time", type=float, metavar="T", help="seconds; the most suspicious face by default"
    )
    parser.add_argument(
        "--sign", choices=SIGNS,
        help="whose evidence is explained: that of a pasted face or of a drawn one; by default "
        "what the verdict rests on",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--whole-person", action="store_true",
        help="also the mean map over all of the person's faces, aligned: what is steady stays",
    )  # fmt: skip
    parser.add_argument("--json", choices=["-"], help="print one JSON object")
    add_model_options(parser)
    add_setting(parser, "key_frames", type=int, metavar="N")


def run_explain(options: Options) -> int:
    """The map of one face, its picture, and how far it can be trusted."""
    import numpy as np

    from detector.charts import overlay, to_png
    from detector.explain import check_method, explain, explain_person
    from detector.explain.regions import describe_regions
    from detector.explain.trust import describe_trust
    from detector.pipeline import find_face, scan
    from detector.verdict import deciding_sign
    from detector.weights import load_detector

    check_method(options.method)
    settings = Settings(
        model=options.model, weights=options.weights, device=options.device,
        key_frames=options.key_frames, explain=options.method,
    )  # fmt: skip
    detector = load_detector(settings.model, weights=settings.weights, device=settings.device)
    with Bar(options.clip.name) as progress:
        found = scan(options.clip, settings, detector=detector, progress=progress)
        person, face = find_face(found, options.time)
        progress("explanation", 0.0)
        heatmap = explain(
            detector, face, method=options.method, trust=True, person=person.person,
            sign=options.sign or deciding_sign(person),
        )  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"{options.clip.stem}-{options.method}-{face.time:.2f}s"
    np.save(f"{stem}.npy", heatmap.values)
    Path(f"{stem}.png").write_bytes(to_png(overlay(face.crop, heatmap.values)))
    answer = {
        "schema": 1,
        "file": options.clip.name,
        "method": options.method,
        "sign": heatmap.sign,
        "time": round(face.time, 4),
        "person": person.person.id,
        "box": list(face.box),
        "map": f"{stem}.npy",
        "picture": f"{stem}.png",
        "regions": {name: round(share, 4) for name, share in heatmap.regions.items()},
        "trust": {
            name: value if isinstance(value, bool) else round(value, 4)
            for name, value in heatmap.trust.items()
        },
    }
    if options.whole_person:
        mean_map, mean_face = explain_person(detector, person.person, method=options.method)
        answer["person_map"], answer["person_picture"] = f"{stem}-mean.npy", f"{stem}-mean.png"
        np.save(f"{stem}-mean.npy", mean_map)
        Path(f"{stem}-mean.png").write_bytes(to_png(overlay(mean_face, mean_map)))
    if options.json:
        put_json(answer)
    else:
        put(f"{answer['picture']}\n{describe_regions(heatmap.regions)}")
        put(describe_trust(heatmap.trust))
    return 0


def set_up_verify(parser: argparse.ArgumentParser) -> None:
    """The options of `verify`."""
    parser.add_argument("report", type=Path, metavar="REPORT", help="its JSON, or its page")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--weights", metavar="PATH", help=setting_help("weights"))


def run_verify(options: Options) -> int:
    """Scan a clip again as a report says it was, and compare all that a reader sees."""
    from detector.archive import verify
    from detector.report import read_report

    report = read_report(options.report)
    settings = stored_settings(report["settings"], options.weights)
    page = options.report.with_suffix(".html")
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else None
    with Bar(options.clip.name) as progress:
        differences = verify(report, options.clip, settings, text, progress)
    for difference in differences:
        put(f"Differs: {printable(difference)}.")
    if not differences:
        put("The report is borne out: same clip, same weights, same answer.")
    return 1 if differences else 0


def stored_settings(stored: dict[str, Any], weights: str | None) -> Settings:
    """The settings of a report, of which limits may only be stricter than they usually are."""
    usual = Settings()
    chosen = {f.name: stored[f.name] for f in fields(Settings) if f.name in stored}
    if weights:
        chosen["weights"] = weights
    settings = Settings(**chosen)
    return replace(
        settings,
        **{
            f.name: min(getattr(settings, f.name), getattr(usual, f.name))
            for f in fields(Settings)
            if f.name.startswith("max_")
        },
    )


def set_up_train(parser: argparse.ArgumentParser) -> None:
    """The options of `train`."""
    parser.add_argument("recipe", nargs="?", metavar="RECIPE")
    parser.add_argument("--recipes", action="store_true", help="list the recipes")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", nargs="+",
        help="a folder of real faces, or for a labelled recipe one that `prepare` made; a recipe "
        "that mixes sources takes several",
    )  # fmt: skip
    parser.add_argument(
        "--faces", type=Path, metavar="DIR",
        help="for a recipe that mixes sources: portraits of real people to make forgeries of",
    )  # fmt: skip
    parser.add_argument(
        "--leave-out", nargs="+", default=[], metavar="DATASET",
        help="for a recipe that mixes sources: data sets to measure on and never to learn from",
    )  # fmt: skip
    parser.add_argument(
        "--leaky", action="store_true",
        help="split crops at random as the papers did: frames of a video on both sides",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("--steps", type=int, metavar="N", help="in place of the recipe's")
    parser.add_argument("--resume", action="store_true", help="go on where the run stopped")
    parser.add_argument(
        "--compile", action="store_true",
        help="compile the network first: faster on a CPU, and takes a C++ compiler",
    )  # fmt: skip
    parser.add_argument(
        "--start", default="imagenet", metavar="imagenet|scratch|FILE",
        help="the weights that training begins with",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="only draw forgeries of the faces, to look at"
    )


def run_train(options: Options) -> int:
    """Train a recipe on forgeries of real faces."""
    from detector.scoring import choose_device
    from detector.training.plots import draw_sheet
    from detector.training.portraits import find_portraits
    from detector.training.recipes import RECIPES, find_recipe
    from detector.training.runs import train_from_faces, train_from_labels, train_from_mixture

    if options.recipes:
        for name, recipe in RECIPES.items():
            s = recipe.settings
            put(f"{name:<26} {recipe.title}, {s.steps} steps of {s.batch} crops")
            if recipe.reproduces:
                put(f"{'':<26} published: {recipe.reproduces}")
        return 0
    if options.data is None or (options.recipe is None and options.sheet is None):
        raise UserError("bad_setting", "A recipe and --data are needed; --recipes lists recipes.")
    for folder in [*options.data, *([options.faces] if options.faces else [])]:
        if not folder.is_dir():
            raise UserError("no_data", f"There is no folder {folder}.")
    data = options.data[0]
    if options.sheet is not None:
        from detector.charts import to_png

        with Bar("finding faces") as progress:
            portraits = find_portraits(data, progress=progress)
        options.sheet.write_bytes(to_png(draw_sheet(portraits)))
        put(str(options.sheet))
        return 0
    if options.out is None:
        raise UserError("bad_setting", "Say with --out where the run is to be kept.")
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
                raise UserError("bad_setting", "This recipe needs portraits, too: --faces DIR.")
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
    put(str(best))
    return 0


def set_up_prepare(parser: argparse.ArgumentParser) -> None:
    """The options of `prepare`."""
    parser.add_argument("dataset", metavar="faceforensics|celebdf|dfdc|deepfake_faces|folder")
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--key-frames", type=int, default=32, metavar="N")
    parser.add_argument(
        "--frames", default="key", metavar="key|even|all", help="the frames that are looked at"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes")
    add_ray(parser)
    parser.add_argument("--json", choices=["-"], help="print the summary as one JSON object")


def run_prepare(options: Options) -> int:
    """Cut the faces of a data set into an index; what is left out is listed."""
    from collections import Counter

    from detector.training.datasets import prepare

    with Bar(options.dataset) as progress:
        rows, left_out = prepare(
            options.dataset, options.root, options.out, key_frames=options.key_frames,
            frames=options.frames, workers=options.workers, ray=options.ray, progress=progress,
        )  # fmt: skip
    counts = Counter((row.split, ("real", "fake")[row.fake]) for row in rows)
    summary = {
        "schema": 1, "index": str(options.out / "index.csv"), "crops": len(rows),
        "splits": {f"{split} {label}": n for (split, label), n in sorted(counts.items())},
        "left_out": left_out,
    }  # fmt: skip
    if options.json:
        put_json(summary)
        return 0
    put(f"{summary['index']}: {len(rows)} crops")
    for (split, label), count in sorted(counts.items()):
        put(f"  {split} {label}: {count}")
    for line in left_out:
        put(f"  left out: {line}")
    return 0


def set_up_evaluate(parser: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
    add_setting(parser, "model", metavar="NAME")
    parser.add_argument(
        "--weights", nargs="+", metavar="PATH", help="checkpoints in place of the catalogue's"
    )
    parser.add_argument(
        "--together", action="store_true", help="the checkpoints as one ensemble, averaged"
    )
    add_setting(parser, "device", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="DIR",
        help="clips in real/ and fake/, described in manifest.tsv if there is one, or what "
        "`prepare` made; of several folders or checkpoints a matrix is made",
    )  # fmt: skip
    parser.add_argument(
        "--robustness", action="store_true",
        help="also encoded, shrunk, blurred, made noisy and dark, ever more strongly",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", choices=["-"], help="print the figures as one JSON object")
    parser.add_argument(
        "--calibrate", type=Path, metavar="FILE",
        help="write the checkpoint to this file with a calibration made from these clips",
    )  # fmt: skip
    parser.add_argument(
        "--left-out", type=Path, metavar="DIR",
        help="an index of labelled sources: also measure, source by source, those that the "
        "checkpoint's header says it never learned from; with --calibrate they count as well",
    )  # fmt: skip


def run_evaluate(options: Options) -> int:
    """Measure a detector on labelled clips."""
    from detector.scoring import Detector, Ensemble
    from detector.training.evaluate import evaluate, evaluate_all, to_markdown
    from detector.training.left_out import evaluate_left_out
    from detector.weights import load_detector, recalibrate, resolve_weights

    checkpoints = options.weights or [None]
    if options.calibrate and len(options.data) * len(checkpoints) > 1:
        raise UserError("bad_setting", "--calibrate goes with one DIR and one PATH.")
    if options.together and len(checkpoints) < 2:
        raise UserError("bad_setting", "--together wants two checkpoints or more: --weights A B.")
    detectors = {
        Path(path).stem if path else options.model: load_detector(
            options.model, weights=path, device=options.device
        )
        for path in checkpoints
    }
    if len(detectors) < len(checkpoints):
        raise UserError("bad_setting", "The checkpoints of a matrix need different names.")
    if options.together:
        members = [d for d in detectors.values() if isinstance(d, Detector)]
        name = "+".join(detectors)
        detectors = {name: Ensemble.join(name, members)}
    if len(options.data) * len(detectors) > 1:
        if options.json:
            raise UserError("bad_setting", "--json goes with one DIR and one PATH.")
        with Bar("evaluating") as progress:
            table = evaluate_all(
                options.data, detectors, options.out, progress=progress,
                robustness=options.robustness,
            )  # fmt: skip
        put(table)
        return 0
    (detector,) = detectors.values()
    checkpoint = resolve_weights(options.model, checkpoints[0]) if options.calibrate else None
    if options.calibrate:
        detector = uncalibrated(detector)
    others = []
    with Bar("evaluating") as progress:
        if options.left_out:
            path = checkpoints[0]
            training = resolve_weights(options.model, path).metadata.get("training", {})
            others = evaluate_left_out(
                options.left_out, detector, training.get("left_out", ()), options.out, progress
            )
        figures, fresh, scales = evaluate(
            options.data[0], detector, options.out, progress=progress,
            robustness=options.robustness, others=others,
        )  # fmt: skip
    if checkpoint is not None:
        recalibrate(checkpoint, options.calibrate, fresh, figures, scales)
    put_json(figures) if options.json else put(to_markdown(figures))
    if others:
        say((options.out / "sources.md").read_text(encoding="utf-8"))
    for line in figures["failed"]:
        say(f"Not scored: {line}")
    return 0


def uncalibrated(detector: Any) -> Any:
    """The detector as if it had no calibration, so that a new one is measured."""
    from dataclasses import replace

    from detector.records import Calibration

    return replace(detector, calibration=Calibration(signs=detector.calibration.signs))


def set_up_weights(parser: argparse.ArgumentParser) -> None:
    """The options of `weights`."""
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
    pushing = actions.add_parser("push", help="upload a checkpoint to the Hub (HF_TOKEN is set)")
    pushing.add_argument("path", type=Path)
    pushing.add_argument("repository", metavar="OWNER/NAME")
    pushing.add_argument("--yes", action="store_true", help="do not ask")


def run_weights(options: Options) -> int:
    """List, verify, download, convert, average or push weights."""
    actions = {
        "list": _list_weights,
        "verify": _verify_weights,
        "download": _download_weights,
        "convert": _convert_weights,
        "average": _average_weights,
        "push": _push_weights,
    }
    return actions[options.action](options)


def _list_weights(options: Options) -> int:
    from detector.weights import find_source, read_catalogue, resolve_weights

    catalogue = read_catalogue()
    listed = []
    for entry in catalogue.entries.values():
        row: dict[str, Any] = {
            "name": entry.name, "title": entry.title, "source": find_source(entry, catalogue),
            "megabytes": None, "sha256": entry.sha256, "figures": {},
            "members": list(entry.members),
        }  # fmt: skip
        if row["source"] and not entry.members:
            checkpoint = resolve_weights(entry.name, download=False)
            row["megabytes"] = round(checkpoint.path.stat().st_size / 1e6, 1)
            row["figures"] = checkpoint.metadata.get("figures", {})
        listed.append(row)
    if options.json:
        put_json({"schema": 1, "default": catalogue.default, "models": listed})
        return 0
    for row in listed:
        mark = "*" if row["name"] == catalogue.default else " "
        size = f"{row['megabytes']} MB" if row["megabytes"] else ""
        put(f"{mark} {row['name']:<26} {row['source'] or 'no weights':<11} {size}")
        for name, value in row["figures"].items():
            put(f"      {name}: {value}")
    return 0


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
            off = verify_checkpoint(checkpoint)
        except UserError as error:
            failed += 1
            put(f"{name}: {error.message} [{error.code}]")
        else:
            put(f"{name}: sound (sha256 {checkpoint.sha256[:12]}…, golden input off by {off:.4f})")
    return 1 if failed else 0


def _download_weights(options: Options) -> int:
    from detector.weights import resolve_weights

    for name in options.names:
        checkpoint = resolve_weights(name)
        put(f"{name}: {checkpoint.path} ({checkpoint.source})")
    return 0


def _convert_weights(options: Options) -> int:
    from detector.weights import convert_state

    margin = {} if options.margin is None else {"margin": options.margin}
    sha256 = convert_state(options.source, options.architecture, options.path, **margin)
    put(f"{options.path}: sha256 {sha256}")
    return 0


def _average_weights(options: Options) -> int:
    from detector.weights import average_checkpoints, resolve_weights

    digest = average_checkpoints([resolve_weights(path=p) for p in options.paths], options.out)
    put(f"{options.out} {digest}")
    return 0


def _push_weights(options: Options) -> int:
    from detector.weights import push_checkpoint

    if not options.yes:
        say(f"Upload {options.path} to {options.repository}, for everyone to see? [y/N] ")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            say("Nothing was uploaded.")
            return 1
    put(push_checkpoint(options.path, options.repository, os.environ.get("HF_TOKEN")))
    return 0


COMMANDS: dict[
    str, tuple[Callable[[argparse.ArgumentParser], None], Callable[[Options], int], str]
] = {
    "scan": (set_up_scan, run_scan, "does a face in these clips show signs of manipulation?"),
    "explain": (set_up_explain, run_explain, "where did the network look, and can one trust it?"),
    "prepare": (set_up_prepare, run_prepare, "cut the faces of a data set into an index"),
    "train": (set_up_train, run_train, "train a detector from real faces, or from labelled ones"),
    "evaluate": (set_up_evaluate, run_evaluate, "measure a detector on labelled clips"),
    "verify": (set_up_verify, run_verify, "does a report hold for this clip?"),
    "weights": (set_up_weights, run_weights, "list, verify, download, convert or push weights"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all went well; 1: something failed; 2: wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m detector", description="Unmask")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (set_up, _, summary) in COMMANDS.items():
        set_up(commands.add_parser(name, help=summary, description=summary.capitalize()))
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="write here what went wrong in the program itself"
    )
    options = parser.parse_args(arguments)
    try:
        if options.log:
            start_log(options.log)
        return COMMANDS[options.command][1](options)
    except KeyboardInterrupt:
        say("Stopped.")
        return 130
    except BrokenPipeError:  # whoever read the answer, `head` for one, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001  a person is shown a sentence, not a traceback
        told = as_user_error(error)
        say(f"{told.message} [{told.code}]")
        return 2 if told.code in ("bad_setting", "unknown_model", "unknown_method") else 1


def start_log(path: Path) -> None:
    """Keep warnings and errors, with their tracebacks, in a file."""
    try:
        logging.basicConfig(filename=path, level=logging.WARNING, encoding="utf-8")
    except OSError as error:
        raise UserError(
            "no_permission", f"The log {path} cannot be written: {error.strerror}."
        ) from error


if __name__ == "__main__":
    sys.exit(main())
