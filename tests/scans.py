"""Made-up scans whose verdicts are known."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
from clips import make_face, texture

from detector.records import (
    Calibration,
    Curve,
    FaceScore,
    KeyFrame,
    Label,
    ModelInfo,
    Person,
    PersonVerdict,
    Provenance,
    Scan,
    Verdict,
    VideoInfo,
)

CALIBRATION = Calibration(1.0, 0.0, 0.3, 0.7, True, (-1.0, -0.5, 0.0, 0.5))


def make_scan(people: int = 1, frames: int = 12, probability: float = 0.9) -> Scan:
    """A scan in which every person is seen in every key frame; one frame makes a still picture.

    The first person's verdict has the probability; each next person's is a twentieth of it lower.
    """
    key_frames = tuple(KeyFrame(10 * n, 0.4 * n, 1.0, texture(n, 160, 120)) for n in range(frames))
    judged = []
    for number in range(people):
        faces = tuple(replace(make_face(k.index), time=k.time) for k in key_frames)
        share = probability * (1 - number / 20)
        scores = tuple(FaceScore(f, 0.0, share - f.frame_index / 2000) for f in faces)
        label = Label.MANIPULATED if share > 0.7 else Label.INCONCLUSIVE
        verdict = Verdict(label, share, (share - 0.05, min(0.99, share + 0.05)), ())
        judged.append(PersonVerdict(Person(number + 1, faces), scores, verdict))
    still = frames == 1
    top = replace(judged[0].verdict, person=1) if judged else None
    none = Verdict(Label.NO_FACE, None, None, ())
    times = np.array([k.time for k in key_frames])
    return Scan(
        video=VideoInfo("clip.mp4", 160, 120, Fraction(0 if still else 25), 0.0 if still else 5.0,
                        frames, "h264", 0),
        key_frames=key_frames, curve=Curve(times, np.ones(len(times))), people=tuple(judged),
        verdict=top or none, model=ModelInfo("tiny", "path", "ab" * 32, True),
        calibration=CALIBRATION,
        settings={"key_frames": 32}, timings={}, warnings=(),
        provenance=Provenance("cd" * 32, "absent", None, {}),
    )  # fmt: skip
