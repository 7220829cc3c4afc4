"""The research's questions about whole clips: one command a table, printed as Markdown.

    python -m benchmarks.research_clips frames CLIPS [--budgets 8 32] [--many 96]
    python -m benchmarks.research_clips methods CLIPS [--key-frames 8]

CLIPS holds labelled clips in real/ and fake/. `frames` judges each clip by its key frames, by as
many evenly spread frames, and by many evenly spread ones. `methods` explains the most telling face
of each fake by the paper's four methods: whether the maps pass their own test and agree.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.tables import print_head, print_row
from detector.errors import UserError
from detector.faces import FaceFinder, group_people
from detector.heatmaps import PAPER, TITLES, explain_all
from detector.heatmaps.trust import beats_random, rank_correlation
from detector.keyframes import choose_frames
from detector.pipeline import find_face, scan
from detector.records import Face, Heatmap, KeyFrame, Verdict
from detector.scoring import Detector, Ensemble
from detector.settings import Settings
from detector.training import metrics
from detector.training.labelled import LabelledClip, find_labelled
from detector.verdict import judge_clip, judge_people, strongest_sign
from detector.video import Clip
from detector.weights import load_detector

ROUNDS = 1000  # of the bootstrap

Judged = tuple[float, Verdict]
"""A clip's logit, NaN without a face that can be judged, and its verdict."""


def choose_ways(path: Path, budgets: Sequence[int], many: int) -> dict[str, dict[int, KeyFrame]]:
    """Name of a way to choose frames -> the chosen frames by their index."""
    wanted = {f"{count} {name}": (count, name == "even") for count in budgets
              for name in ("key", "even")}  # fmt: skip
    wanted[f"{many} even"] = many, True
    ways = {}
    for name, (count, evenly) in wanted.items():
        choice = choose_frames(Clip(path, Settings(frames="all")), count=count, evenly=evenly)
        ways[name] = {frame.index: frame for frame in choice.key_frames()}
    return ways


def judge(detector: Detector | Ensemble, faces: Sequence[tuple[Face, np.ndarray]]) -> Judged:
    """The verdict on a clip of which these faces were seen, given the logits of each."""
    logits_of = {id(face): logits for face, logits in faces}
    people = group_people([face for face, _ in faces])
    each = [np.array([logits_of[id(f)] for f in p.faces if f.unfit is None]) for p in people]
    verdicts = judge_people(people, each, detector.calibration)
    verdict = judge_clip(verdicts, detector.calibration)
    for judged in verdicts:
        if judged.person.id == verdict.person and judged.scores:
            scores = np.array([score.logits for score in judged.scores])
            return float(np.median(strongest_sign(scores))), verdict
    return float("nan"), verdict


def judge_ways(
    detector: Detector | Ensemble, path: Path, budgets: Sequence[int], many: int
) -> dict[str, Judged]:
    """The verdict of each way; every frame is searched and scored once."""
    ways = choose_ways(path, budgets, many)
    frames = {index: frame for way in ways.values() for index, frame in way.items()}
    finder = FaceFinder("cpu", margin=detector.margin)
    faces = finder.find([frames[index] for index in sorted(frames)])
    fit = [face for face in faces if face.unfit is None]
    logits = {
        id(face): made
        for start in range(0, len(fit), detector.batch)
        for part in [fit[start : start + detector.batch]]
        for face, made in zip(part, detector.score_signs([f.crop for f in part]), strict=True)
    }
    nothing = np.zeros(0)
    return {
        name: judge(
            detector, [(f, logits.get(id(f), nothing)) for f in faces if f.frame_index in way]
        )
        for name, way in ways.items()
    }


def compare_frames(clips: Sequence[LabelledClip], budgets: Sequence[int], many: int) -> None:
    """Key frames against evenly spread ones, and few against many."""
    detector = load_detector(device="cpu")
    found: dict[str, list[Judged]] = defaultdict(list)
    for clip in clips:
        for name, judged in judge_ways(detector, clip.path, budgets, many).items():
            found[name].append(judged)
    labels = np.array([clip.fake for clip in clips])
    groups = np.array([clip.group for clip in clips])
    logits = {name: np.array([logit for logit, _ in judged]) for name, judged in found.items()}
    sound = np.all([np.isfinite(values) for values in logits.values()], axis=0)
    last = f"{many} even"
    print(f"{sound.sum()} clips, {labels[sound].sum()} of them fake.\n")
    print_head(
        "frames", "AUC", f"AUC less that of {last}", "genuine manipulated, no_signs",
        "fakes manipulated, no_signs", f"verdicts as of {last}",
    )  # fmt: skip

    def lead(labels: np.ndarray, scores: np.ndarray, others: np.ndarray) -> float:
        return metrics.auc(labels, scores) - metrics.auc(labels, others)

    for name, values in logits.items():
        area = metrics.auc(labels[sound], values[sound])
        low, high = metrics.bootstrap(
            groups[sound], metrics.auc, labels[sound], values[sound], rounds=ROUNDS
        )
        three = labels[sound], values[sound], logits[last][sound]
        least, most = metrics.bootstrap(groups[sound], lead, *three, rounds=ROUNDS)
        verdicts = [verdict.label.value for _, verdict in found[name]]
        of_many = [verdict.label.value for _, verdict in found[last]]
        cells = []
        for fake in (False, True):
            counts = Counter(
                v for v, clip in zip(verdicts, clips, strict=True) if clip.fake == fake
            )
            cells.append(f"{counts['manipulated']}, {counts['no_signs']} of {counts.total()}")
        same = sum(a == b for a, b in zip(verdicts, of_many, strict=True))
        print_row(
            name, f"{area:.3f} ({low:.3f} to {high:.3f})",
            f"{lead(*three):+.3f} ({least:+.3f} to {most:+.3f})", *cells, f"{same} of {len(clips)}",
        )  # fmt: skip


def compare_methods(clips: Sequence[LabelledClip], key_frames: int) -> None:
    """Whether the paper's four methods pass their own test and agree on real fakes."""
    detector = load_detector(device="cpu")
    fakes, maps = [], []
    for clip in clips:
        if not clip.fake:
            continue
        try:
            person, face = find_face(
                scan(clip.path, Settings(key_frames=key_frames, device="cpu"), detector=detector)
            )
            maps.append(explain_all(detector, face, person=person.person))
            fakes.append(clip)
        except UserError as error:
            print(f"{clip.path.name}: {error.message}\n")
    print_trust(fakes, maps)
    print_agreement(fakes, maps)


def print_trust(fakes: Sequence[LabelledClip], maps: Sequence[dict[str, Heatmap]]) -> None:
    """A line a method: how many maps pass the test by blurring, and by what margin."""
    print(f"The most telling face of {len(fakes)} fakes.\n")
    kinds = sorted({clip.kind for clip in fakes})
    print_head(
        "method", *(f"pass, {kind}" for kind in kinds), "deletion below random",
        "insertion above random", "empty",
    )  # fmt: skip
    for method in PAPER:
        trust = [made[method].trust for made in maps]
        cells = []
        for kind in kinds:
            passed = [passes_blurring(t) for t, clip in zip(trust, fakes, strict=True)
                      if clip.kind == kind]  # fmt: skip
            low, high = metrics.wilson(sum(passed), len(passed))
            cells.append(f"{sum(passed)} of {len(passed)} ({low:.0%} to {high:.0%})")
        deletion = [t["deletion_random"] - t["deletion"] for t in trust]
        insertion = [t["insertion"] - t["insertion_random"] for t in trust]
        empty = sum(float(made[method].values.max()) <= 0 for made in maps)
        print_row(
            TITLES[method], *cells, f"{np.mean(deletion):+.3f}", f"{np.mean(insertion):+.3f}",
            str(empty),
        )  # fmt: skip
    print()


def passes_blurring(trust: Mapping[str, Any]) -> bool:
    """Whether a map beats random maps in deletion and insertion, whichever sign it is of."""
    areas, random = (
        np.array([trust[f"deletion{which}"], trust[f"insertion{which}"]])
        for which in ("", "_random")
    )
    return beats_random(areas, random)


def print_agreement(fakes: Sequence[LabelledClip], maps: Sequence[dict[str, Heatmap]]) -> None:
    """Mean rank correlation of each two methods, with its interval when groups are redrawn."""
    groups = np.array([clip.group for clip in fakes])
    print_head("rank correlation", *(TITLES[method] for method in PAPER))
    for first in PAPER:
        cells = []
        for second in PAPER:
            values = np.array(
                [rank_correlation(made[first].values, made[second].values) for made in maps]
            )
            low, high = metrics.bootstrap(groups, np.mean, values, rounds=ROUNDS)
            cells.append(f"{values.mean():.2f} ({low:.2f} to {high:.2f})")
        print_row(TITLES[first], *("" if first == second else cell for second, cell in
                                 zip(PAPER, cells, strict=True)))  # fmt: skip


def main() -> None:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tables = parser.add_subparsers(dest="table", required=True)
    framed = tables.add_parser("frames")
    framed.add_argument("clips", type=Path)
    framed.add_argument("--budgets", type=int, nargs="+", default=[8, 32])
    framed.add_argument("--many", type=int, default=96)
    mapped = tables.add_parser("methods")
    mapped.add_argument("clips", type=Path)
    mapped.add_argument("--key-frames", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = find_labelled(options.clips)
    if options.table == "frames":
        compare_frames(clips, options.budgets, options.many)
    else:
        compare_methods(clips, options.key_frames)


if __name__ == "__main__":
    main()
