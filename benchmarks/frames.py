"""Verdicts from key frames chosen among some frames, held against those chosen among all.

    python -m benchmarks.frames CLIPS [--key-frames N]

CLIPS holds labelled clips in real/ and fake/. Prints a line a clip whose verdict or probability
differs, then how many clips keep their verdict, both AUCs, and both times.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from detector.pipeline import scan
from detector.records import Verdict
from detector.settings import Settings
from detector.training.evaluate import LabelledClip, find_labelled
from detector.training.metrics import auc
from detector.weights import load_detector

SHOWN = 0.02  # difference of two probabilities from which a clip is listed


def verdicts_of(
    clips: list[LabelledClip], settings: dict[str, Settings]
) -> tuple[dict[str, list[Verdict]], dict[str, float]]:
    """Each clip's verdict with each of the settings, and the seconds that each took."""
    detector = load_detector(device="cpu")
    found: dict[str, list[Verdict]] = {name: [] for name in settings}
    seconds = dict.fromkeys(settings, 0.0)
    for clip in clips:
        for name, chosen in settings.items():
            began = time.perf_counter()
            found[name].append(scan(clip.path, chosen, detector=detector).verdict)
            seconds[name] += time.perf_counter() - began
    return found, seconds


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--key-frames", type=int, default=Settings.key_frames)
    options = parser.parse_args()
    clips = find_labelled(options.clips)
    settings = {
        frames: Settings(key_frames=options.key_frames, frames=frames, device="cpu")
        for frames in ("all", "some")
    }
    found, seconds = verdicts_of(clips, settings)
    print("| clip | label | all | some |\n|---|---|---|---|")
    both = []
    for clip, every, some in zip(clips, found["all"], found["some"], strict=True):
        moved = 0.0
        if every.probability is not None and some.probability is not None:
            both.append((clip.fake, every.probability, some.probability))
            moved = abs(every.probability - some.probability)
        if every.label != some.label or moved >= SHOWN:
            cells = (f"{v.label} {v.probability or 0:.3f}" for v in (every, some))
            print(f"| {clip.path.name} | {'fake' if clip.fake else 'real'} | {' | '.join(cells)} |")
    labels, every_one, some_only = np.array(both).T
    differences = np.abs(every_one - some_only)
    same = sum(a.label == b.label for a, b in zip(found["all"], found["some"], strict=True))
    print(
        f"\n{same} of {len(clips)} verdicts are the same. AUC {auc(labels > 0, every_one):.3f} "
        f"from all, {auc(labels > 0, some_only):.3f} from some, {len(both)} clips. Probabilities "
        f"differ by {np.median(differences):.3f} (median), {differences.max():.3f} (largest). "
        f"{seconds['all']:.0f} s and {seconds['some']:.0f} s."
    )


if __name__ == "__main__":
    main()
