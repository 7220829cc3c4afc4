"""Each stage of a scan as a ratio to bare decoding of the same clip, in one run.

    python -m benchmarks.stages [CLIP ...]

Without clips, the examples are taken.
"""

import sys
import time
from pathlib import Path

import av
import numpy as np

from detector.pipeline import scan
from detector.settings import Settings
from detector.weights import load_detector

ROUNDS = 3
EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.mp4"))


def decode(path: Path) -> float:
    """Seconds to decode every frame and do nothing with it."""
    began = time.perf_counter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for _ in container.decode(stream):
            pass
    return time.perf_counter() - began


def main() -> None:
    """Print one line a clip."""
    clips = [Path(name) for name in sys.argv[1:]] or EXAMPLES
    detector = load_detector()
    scan(clips[0], Settings(key_frames=4), detector=detector)  # warm up
    print("| clip | frames | key frames | faces | scores | all |")
    print("|---|---|---|---|---|---|")
    for clip in clips:
        rows = []
        for _ in range(ROUNDS):
            bare = decode(clip)
            found = scan(clip, detector=detector)
            timings = found.timings
            rows.append([timings[n] / bare for n in ("decode", "faces", "scores", "total")])
        ratios = " | ".join(f"{value:.1f}" for value in np.median(rows, axis=0))
        print(f"| {clip.name} | {found.video.frames} | {ratios} |")


if __name__ == "__main__":
    main()
