"""What the shipped detector says of people who do not exist, filmed as the generated example is.

    pip install --no-deps random-face==2021.7.21.1 openvino==2026.4.1
    python -m benchmarks.strangers [COUNT]

Prints the verdicts on the first COUNT people (by default 40) that examples/make_clips.py draws by
MobileStyleGAN.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.tables import print_head, print_row
from detector.pipeline import scan
from detector.records import Label
from detector.weights import load_detector
from examples.make_clips import CAMERAS, film, strangers


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("count", type=int, nargs="?", default=40)
    count = parser.parse_args().count
    detector = load_detector(device="cpu")
    labels: Counter[Label] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        for picture in strangers(*range(count)):
            clip.write_bytes(film(picture, CAMERAS["generated"]))
            labels[scan(clip, detector=detector).verdict.label] += 1
    print_head("people", *Label)
    print_row(str(count), *(str(labels[label]) for label in Label))


if __name__ == "__main__":
    main()
