"""`explain`: the heatmap of one face, and how far it can be trusted."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from detector.commands.console import Bar, print_json, print_stdout
from detector.commands.options import Options, add_model_options, add_setting
from detector.records import SIGNS, Heatmap, Image, Person
from detector.settings import Settings


def set_up(parser: argparse.ArgumentParser) -> None:
    """Add the options of `explain`."""
    parser.add_argument("clip", type=Path)
    parser.add_argument(
        "--method", default="gradcam", metavar="METHOD",
        help="smoothgrad, gradcam, gradcam++, faster-scorecam, layercam, hirescam or scorecam "
        "(default: gradcam)",
    )  # fmt: skip
    parser.add_argument(
        "--time",
        type=float,
        metavar="T",
        help="time of the face in seconds; by default the most suspicious face",
    )
    parser.add_argument(
        "--sign", choices=SIGNS,
        help="the sign whose evidence is explained; by default the one that the verdict rests on",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--whole-person", action="store_true",
        help="also compute the mean map over all of the person's faces, aligned",
    )  # fmt: skip
    parser.add_argument("--json", choices=["-"], help="print one JSON object")
    add_model_options(parser)
    add_setting(parser, "key_frames", type=int, metavar="N")


def run(options: Options) -> int:
    """Write the heatmap of one face as .npy and .png, and print its trust figures."""
    from detector.heatmaps import check_method, explain, explain_person
    from detector.heatmaps.regions import describe_regions
    from detector.heatmaps.trust import describe_trust
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
    stem = f"{options.out / options.clip.stem}-{options.method}-{face.time:.2f}s"
    _write_map(stem, face.crop, heatmap.values)
    answer = _to_json(options.clip.name, person.person, heatmap, stem)
    if options.whole_person:
        mean_map, mean_face = explain_person(detector, person.person, method=options.method)
        _write_map(f"{stem}-mean", mean_face, mean_map)
        answer |= {"person_map": f"{stem}-mean.npy", "person_picture": f"{stem}-mean.png"}
    if options.json:
        print_json(answer)
    else:
        print_stdout(f"{answer['picture']}\n{describe_regions(heatmap.regions)}")
        print_stdout(describe_trust(heatmap.trust, heatmap.sign))
    return 0


def _write_map(stem: str, face: Image, values: np.ndarray) -> None:
    """Write a map as STEM.npy, and over its face as STEM.png."""
    from detector.charts import overlay, to_png

    np.save(f"{stem}.npy", values)
    Path(f"{stem}.png").write_bytes(to_png(overlay(face, values)))


def _to_json(name: str, person: Person, heatmap: Heatmap, stem: str) -> dict[str, Any]:
    """What `--json` prints: the face, its map's files, regions and trust figures."""
    return {
        "schema": 1,
        "file": name,
        "method": heatmap.method,
        "sign": heatmap.sign,
        "time": round(heatmap.face.time, 4),
        "person": person.id,
        "box": list(heatmap.face.box),
        "map": f"{stem}.npy",
        "picture": f"{stem}.png",
        "regions": {name: round(share, 4) for name, share in heatmap.regions.items()},
        "trust": {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in heatmap.trust.items()
        },
    }
