"""Compare verdicts from key frames chosen among some frames with those chosen among all.

    python -m benchmarks.frames CLIPS [--key-frames N]

CLIPS holds labelled clips in real/ and fake/. Prints a line a clip whose verdict or probability
differs, then how many clips keep their verdict, both AUCs, and both times.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.tables import print_head, print_row
from detector.pipeline import scan
from detector.records import Verdict
from detector.settings import Settings
from detector.training.labelled import LabelledClip, find_labelled
from detector.training.metrics import auc
from detector.weights import load_detector

LISTED = 0.02  # difference of both probabilities from which a clip is listed


def judge(
    clips: list[LabelledClip], settings: dict[str, Settings]
) -> tuple[dict[str, list[Verdict]], dict[str, float]]:
    """Each clip's verdict with each of the settings, and the seconds that each took in total."""
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
    found, seconds = judge(clips, settings)
    print_head("clip", "label", "all", "some")
    judged = []  # (fake, probability from all, from some) of each clip with both probabilities
    for clip, every, some in zip(clips, found["all"], found["some"], strict=True):
        difference = 0.0
        if every.probability is not None and some.probability is not None:
            judged.append((clip.fake, every.probability, some.probability))
            difference = abs(every.probability - some.probability)
        if every.label != some.label or difference >= LISTED:
            cells = (f"{v.label} {v.probability or 0:.3f}" for v in (every, some))
            print_row(clip.path.name, "fake" if clip.fake else "real", *cells)
    labels, from_all, from_some = np.array(judged).T
    differences = np.abs(from_all - from_some)
    same = sum(a.label == b.label for a, b in zip(found["all"], found["some"], strict=True))
    print(
        f"\n{same} of {len(clips)} verdicts are the same. AUC {auc(labels > 0, from_all):.3f} "
        f"from all, {auc(labels > 0, from_some):.3f} from some, {len(judged)} clips. Probabilities "
        f"differ by {np.median(differences):.3f} (median), {differences.max():.3f} (largest). "
        f"{seconds['all']:.0f} s and {seconds['some']:.0f} s."
    )


if __name__ == "__main__":
    main()
