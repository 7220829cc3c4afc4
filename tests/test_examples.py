"""The examples: their kept answers are of the shipped weights, and right.

Run examples/make_answers.py after the weights or the clips have changed.
"""

import html
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from detector import texts
from detector.answers import recall
from detector.cards import Answer, verdict_card
from detector.evidence import telling_faces
from detector.faces import cut
from detector.heatmaps import explain
from detector.pipeline import scan_in_stages
from detector.provenance import hash_file
from detector.records import Label, Scan
from detector.settings import Settings
from detector.stress import Trial, settle
from detector.weights import load_detector, resolve_weights
from examples.make_clips import altered_pixels, film_mask

EXAMPLES = Path(__file__).parent.parent / "examples"
ANSWERS = EXAMPLES / "answers.json"
ALTERED = 0.1  # share of a pixel that was replaced, from which on it counts as altered


def test_the_examples_answers_are_of_the_shipped_weights_and_clips() -> None:
    stored = json.loads(ANSWERS.read_text(encoding="utf-8"))
    assert stored["weights"] == resolve_weights("default").sha256
    clips = {path.stem: hash_file(path) for path in EXAMPLES.glob("*.mp4")}
    assert {name: known["sha256"] for name, known in stored["answers"].items()} == clips


def answer_example(name: str) -> tuple[Scan, list[Trial]]:
    """What the app says of an example, and the trials of its stress test."""
    clip = EXAMPLES / f"{name}.mp4"
    known = recall(ANSWERS, name, clip, Settings())
    assert known is not None, "run examples/make_answers.py"
    *_, last = scan_in_stages(clip, detector=known, finder=known)
    assert last.scan is not None
    return last.scan, list(known.trials)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("genuine", Label.NO_SIGNS),
        ("manipulated", Label.MANIPULATED),
        ("generated", Label.MANIPULATED),
        ("two_people", Label.MANIPULATED),
        ("no_face", Label.NO_FACE),
    ],
)
def test_the_examples_are_answered_rightly(name: str, right: Label) -> None:
    found, _ = answer_example(name)
    assert found.verdict.label is right
    if name == "two_people":  # the forged one stands on the right
        (decider,) = [p for p in found.people if p.person.id == found.verdict.person]
        left, _, right_edge, _ = decider.person.faces[0].box
        assert left + right_edge > found.video.width


def test_the_card_of_an_example_says_what_it_is() -> None:
    for clip in EXAMPLES.glob("*.mp4"):
        found, trials = answer_example(clip.stem)
        answer = Answer(found, clip.name, tuple(trials), known=True)
        told = texts.translate("en", f"truth_{clip.stem}")
        assert html.escape(told) in verdict_card(answer, "en")
        assert ("forged" in told) is (clip.stem in ("manipulated", "generated", "two_people"))


@pytest.mark.parametrize(
    ("name", "sign", "least_mass"),
    [
        ("manipulated", "pasted", 0.75),
        ("two_people", "pasted", 0.7),
        ("two_people", "drawn", 0.45),  # the worn face is a drawn one
    ],
)
def test_the_maps_point_at_what_was_pasted_in(name: str, sign: str, least_mass: float) -> None:
    """`least_mass` is the least share of a map on altered pixels, which are 0.4 of them at most."""
    found, _ = answer_example(name)
    masks = film_mask(altered_pixels()[name], name)
    detector = load_detector(device="cpu")
    for person, face in telling_faces(found):
        heatmap = explain(detector, face, person=person.person, sign=sign)
        height, width = heatmap.values.shape
        mask = cv2.resize(cut(masks[face.frame_index], face.crop_box), (width, height))
        altered = mask > ALTERED
        assert 0.05 < altered.mean() < 0.4
        assert altered[np.unravel_index(heatmap.values.argmax(), altered.shape)]
        assert heatmap.values[altered].sum() / heatmap.values.sum() > least_mass


@pytest.mark.parametrize("name", ["genuine", "manipulated", "generated", "two_people"])
def test_the_examples_hold_their_stress_test(name: str) -> None:
    found, trials = answer_example(name)
    assert len(trials) > 1
    assert settle(found.verdict, trials).label is found.verdict.label
