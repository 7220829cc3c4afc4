"""How many verdicts hold the stress test, on labelled clips.

    python -m benchmarks.stress CLIPS [--key-frames N]

CLIPS holds labelled clips in real/ and fake/. Prints the verdicts before and after the test, and
how many firm verdicts each alteration unsettles.
"""

import argparse
from collections import Counter
from pathlib import Path

from benchmarks.tables import print_head, print_row
from detector.pipeline import scan
from detector.records import Label
from detector.settings import Settings
from detector.stress import TRIALS, stress, unsettles
from detector.training.labelled import find_labelled
from detector.weights import load_detector

FIRM = Label.MANIPULATED, Label.NO_SIGNS
LABELS = Label.MANIPULATED, Label.INCONCLUSIVE, Label.NO_SIGNS


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", type=Path)
    parser.add_argument("--key-frames", type=int, default=Settings.key_frames)
    options = parser.parse_args()
    detector = load_detector(device="cpu")
    settings = Settings(key_frames=options.key_frames, device="cpu")
    counts: Counter[tuple[bool, str, Label]] = Counter()
    unsettled: Counter[tuple[str, Label]] = Counter()
    clips = find_labelled(options.clips)
    for clip in clips:
        found = scan(clip.path, settings, detector=detector)
        trials, after = stress(found, detector)
        before = found.verdict.label
        counts[clip.fake, "before", before] += 1
        counts[clip.fake, "after", after.label] += 1
        if before in FIRM:
            unsettled.update((t.name, before) for t in trials if unsettles(t, found.verdict))
    print_head("clips", "verdicts", *LABELS)
    for fake in (False, True):
        name = f"{sum(clip.fake is fake for clip in clips)} {'fake' if fake else 'genuine'}"
        for when in ("before", "after"):
            print_row(name, when, *(str(counts[fake, when, label]) for label in LABELS))
    print()
    print_head("alteration", *(f"unsettles {label}" for label in FIRM))
    for name in TRIALS:
        print_row(name, *(str(unsettled[name, label]) for label in FIRM))


if __name__ == "__main__":
    main()
