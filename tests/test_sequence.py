from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_face, make_row

from detector.architectures import InContext, SequenceNetwork, build_network
from detector.heatmaps import explain, explain_all, explain_person
from detector.pipeline import scan
from detector.records import Calibration, Person
from detector.scoring import Detector, Ensemble
from detector.settings import Settings
from detector.training.sequence import draw_frames, group_videos
from detector.weights import load_detector, save_checkpoint


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    """A small network of sequences, through a checkpoint."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "sequence.safetensors"
    save_checkpoint(
        path, build_network("test_rnn"), margin=0.5,
        calibration=Calibration(1.0, 0.0, 0.3, 0.7, True, (0.0,)),
    )  # fmt: skip
    loaded = load_detector(weights=path, device="cpu")
    assert isinstance(loaded, Detector)
    return loaded


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def test_the_logit_of_a_face_depends_on_the_other_faces(detector: Detector) -> None:
    first = pictures(4)
    second = first.clone()
    second[3] = pictures(1, seed=9)[0]
    with torch.inference_mode():
        ours, theirs = detector.network(first), detector.network(second)
    assert ours.shape == (4,)
    assert not torch.isclose(ours[0], theirs[0])


def test_joined_sequences_get_the_same_logits_as_alone(detector: Detector) -> None:
    short, long = pictures(2, seed=1), pictures(3, seed=2)
    network = detector.network
    assert isinstance(network, SequenceNetwork)
    with torch.inference_mode():
        both = network(torch.cat([short, long]), torch.tensor([2, 3]))
        alone = torch.cat([network(short), network(long)])
    assert both.numpy() == pytest.approx(alone.numpy(), abs=1e-5)


def test_one_face_in_context_gives_the_persons_logit(detector: Detector) -> None:
    network = detector.network
    assert isinstance(network, SequenceNetwork)
    seen = pictures(3)
    with torch.inference_mode():
        placed = InContext(network, seen, 1)(seen[1:2])
        assert placed.item() == pytest.approx(network(seen).mean().item(), abs=1e-5)


def test_explanations_hold_the_other_faces_still(detector: Detector) -> None:
    person = Person(1, tuple(make_face(n) for n in range(3)))
    whole = explain(detector, person.faces[1], method="smoothgrad", person=person).values
    alone = explain(detector, person.faces[1], method="smoothgrad").values
    assert whole.shape == alone.shape == person.faces[1].crop.shape[:2]
    assert not np.allclose(whole, alone)
    assert set(explain_all(detector, person.faces[0], person=person)) >= {"gradcam", "smoothgrad"}
    mean_map, _ = explain_person(detector, person, method="gradcam")
    assert mean_map.ndim == 2


def test_a_scan_judges_one_person_at_a_time(detector: Detector, face_video: Path) -> None:
    found = scan(face_video, Settings(key_frames=6, mirror=False), detector=detector)
    (person,) = found.people
    crops = [s.face.crop for s in person.scores]
    together = detector.score(crops, mirror=False)
    assert [s.logit for s in person.scores] == pytest.approx(together.tolist(), abs=0.02)
    apart = np.concatenate([detector.score([crop], mirror=False) for crop in crops])
    assert not np.allclose(together, apart, atol=1e-4)


def test_an_ensemble_with_a_sequence_judges_sequences(detector: Detector) -> None:
    joined = Ensemble.join("both", [detector, replace(detector)])
    assert joined.in_sequence
    faces = [make_face(n).crop for n in range(3)]
    assert joined.score(faces) == pytest.approx(detector.score(faces), abs=1e-5)


def test_sequences_are_in_the_order_of_time() -> None:
    order = [("a", 3), ("b", 1), ("a", 1), ("a", 2)]
    rows = [make_row(video=video, frame=frame) for video, frame in order]
    videos = group_videos(rows)
    assert [[r.frame for r in video] for video in videos] == [[1, 2, 3], [1]]
    drawn = draw_frames(videos[0], 2, np.random.default_rng(0))
    assert [r.frame for r in drawn] == sorted(r.frame for r in drawn)
    assert len(drawn) == 2
    assert draw_frames(videos[1], 2, np.random.default_rng(0)) == videos[1]
