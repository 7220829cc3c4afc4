"""`prepare`: cut the faces of a data set into an index."""

import argparse
from collections import Counter
from pathlib import Path

from detector.commands.console import Bar, print_json, print_stdout
from detector.commands.options import Options, add_ray

LINES_SHOWN = 20  # reasons for leaving something out; the rest is in left_out.txt


def set_up(parser: argparse.ArgumentParser) -> None:
    """Add the options of `prepare`."""
    parser.add_argument("dataset", metavar="faceforensics|celebdf|dfdc|deepfake_faces|folder")
    parser.add_argument("root", type=Path, metavar="ROOT")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--key-frames", type=int, default=32, metavar="N")
    parser.add_argument(
        "--frames", default="key", metavar="key|even|all", help="the frames whose faces are cut"
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes")
    add_ray(parser)
    parser.add_argument("--json", choices=["-"], help="print the summary as one JSON object")


def run(options: Options) -> int:
    """Cut the faces of a data set into an index; what is left out is listed."""
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
        print_json(summary)
        return 0
    print_stdout(f"{summary['index']}: {len(rows)} crops")
    for (split, label), count in sorted(counts.items()):
        print_stdout(f"  {split} {label}: {count}")
    for line in left_out[:LINES_SHOWN]:
        print_stdout(f"  left out: {line}")
    if len(left_out) > LINES_SHOWN:
        more = len(left_out) - LINES_SHOWN
        print_stdout(f"  and {more} more, listed in {options.out / 'left_out.txt'}")
    return 0
