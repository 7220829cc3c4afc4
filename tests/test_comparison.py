"""Two clips whose offset and differences are known."""

from dataclasses import replace

import numpy as np
import pytest
from clips import texture
from scans import make_scan

from detector.cards import Answer
from detector.comparison import (
    GOOD_AGREEMENT,
    Alignment,
    align_clips,
    pair_faces,
    show_same_scene,
)
from detector.evidence import comparison_page
from detector.records import Curve


def curve(values: np.ndarray) -> Curve:
    return Curve(np.arange(len(values)) / 25, values)


@pytest.mark.parametrize("cut", [0, 40, 100])
def test_the_offset_of_a_cut_clip_is_found(cut: int) -> None:
    whole = np.random.default_rng(0).gamma(1.0, 4.0, 300)
    found = align_clips(curve(whole[cut:]), curve(whole * 0.7))
    assert found.offset == pytest.approx(cut / 25, abs=0.05)
    assert found.agreement > GOOD_AGREEMENT
    back = align_clips(curve(whole), curve(whole[cut:]))
    assert back.offset == pytest.approx(-cut / 25, abs=0.05)


def test_other_scenes_do_not_agree() -> None:
    rng = np.random.default_rng(1)
    found = align_clips(curve(rng.gamma(1.0, 4.0, 300)), curve(rng.gamma(1.0, 4.0, 300)))
    assert found.agreement < GOOD_AGREEMENT


def test_curves_alone_make_no_same_scene() -> None:
    found = make_scan(frames=6)
    darker = tuple(replace(k, image=k.image // 2) for k in found.key_frames)
    strange = tuple(replace(k, image=texture(k.index + 99, 160, 120)) for k in found.key_frames)
    agree, differ = Alignment(0.0, 0.9), Alignment(0.0, 0.3)
    assert show_same_scene(found, replace(found, key_frames=darker), agree)
    assert not show_same_scene(found, found, differ)
    assert not show_same_scene(found, replace(found, key_frames=strange), agree)
    assert not show_same_scene(found, found, Alignment(99.0, 0.9))


def test_faces_of_one_moment_are_paired_and_the_same_face_does_not_differ() -> None:
    found = make_scan(people=1, frames=6)
    pairs = pair_faces(found, found, 0.0)
    times = [pair.first.time for pair in pairs]
    assert len(times) == 3
    assert times == sorted(times)
    for pair in pairs:
        assert pair.first.time == pair.second.time
        assert pair.pictures[2].max() < 30
    shifted = pair_faces(found, found, 0.4)
    assert all(p.second.time == pytest.approx(p.first.time + 0.4) for p in shifted)
    assert shifted[0].pictures[2].max() > 60
    assert pair_faces(found, found, 99.0) == []


def test_the_page_says_when_nothing_can_be_concluded() -> None:
    found = make_scan(frames=6)
    page = comparison_page(Answer(found, "a.mp4"), replace(found, people=()), "en")
    assert "prove" in page
    assert "No faces at the same moment" in page
    assert "The second clip</h2>" not in page  # without a face it has no curve
    page = comparison_page(Answer(found, "a.mp4"), found, "en")
    assert page.index("The checked clip</h2>") < page.index("The second clip</h2>")
