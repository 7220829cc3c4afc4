from dataclasses import replace

import cv2
import numpy as np
import pytest
from clips import other_portrait, portrait
from codes import raises_code

from detector.errors import UserError
from detector.training import blends, forgery
from detector.training.decoders import (
    DECODERS,
    Autoencoder,
    Decoder,
    load_decoders,
    save_decoder,
    train_decoder,
)
from detector.training.degradation import denoise
from detector.training.forgery import KINDS, Forger
from detector.training.portraits import (
    Portrait,
    find_portraits,
    load_portraits,
    split_portraits,
)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> list[Portrait]:
    folder = tmp_path_factory.mktemp("faces")
    for name, image in (("a", portrait()), ("b", other_portrait())):
        cv2.imwrite(str(folder / f"{name}.png"), image[..., ::-1])
    (folder / "broken.jpg").write_text("no image", encoding="utf-8")
    cv2.imwrite(str(folder / "noface.png"), np.full((90, 90, 3), 128, np.uint8))
    cache = folder / "cache.npz"
    found = find_portraits(folder, cache)
    again = load_portraits(cache)
    assert [p.name for p in found] == [p.name for p in again] == ["a.png", "b.png"]
    assert np.array_equal(found[1].image, again[1].image)
    assert np.array_equal(found[1].landmarks, again[1].landmarks)
    return found


def test_the_same_seed_makes_the_same_pair(portraits: list[Portrait]) -> None:
    for seed in range(4):
        first, second = (Forger(portraits).draw((1, seed)) for _ in range(2))
        for ours, theirs in zip(first, second, strict=True):
            assert np.array_equal(ours.image, theirs.image)
            assert np.array_equal(ours.mask, theirs.mask)
    others = [Forger(portraits).draw((1, n))[1].image for n in (0, 1)]
    assert not np.array_equal(*others)


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_alters_what_its_mask_says(portraits: list[Portrait], kind: str) -> None:
    forger = Forger(portraits, kinds={kind: 1.0}, degrade=False, jitter=False)
    for seed in range(6):
        real, fake = forger.draw((2, seed))
        assert (real.fake, fake.fake, fake.kind) == (False, True, kind)
        assert real.image.shape == fake.image.shape == (224, 224, 3)
        assert real.mask.max() == 0
        assert 0 <= fake.mask.min() <= fake.mask.max() <= 1 + 1e-6
        assert fake.mask.max() > 0.2
        change = np.abs(real.image.astype(float) - fake.image).mean(axis=2)
        assert change.max() > 2
        if kind in ("swap", "bottleneck", "part"):
            outside = cv2.dilate(fake.mask, np.ones((15, 15))) < 1e-3
            assert change[outside].max() <= 4  # grey levels: rounding, and Poisson blending


def test_a_clip_has_one_camera_and_a_moving_head(portraits: list[Portrait]) -> None:
    forger = Forger(portraits, kinds={"part": 1.0})
    genuine, forged = forger.clip_pair(0, (6, 1), 4)
    again, _ = forger.clip_pair(0, (6, 1), 4)
    assert [s.fake for s in genuine + forged] == [False] * 4 + [True] * 4
    assert all(np.array_equal(a.image, b.image) for a, b in zip(genuine, again, strict=True))
    assert max(s.mask.max() for s in genuine) == 0 < min(s.mask.max() for s in forged)
    tones = [s.image.mean() for s in genuine]
    other, _ = forger.clip_pair(0, (6, 2), 4)
    assert np.ptp(tones) < abs(np.mean(tones) - np.mean([s.image.mean() for s in other]))
    assert not np.array_equal(genuine[0].image, genuine[1].image)


def test_only_the_forged_part_flickers() -> None:
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (120, 120, 3), np.uint8), (0, 0), 3)
    disc = cv2.circle(np.zeros((120, 120), np.float32), (60, 60), 30, 1.0, -1)
    frames = [blends.flicker(image, disc, 60.0, np.random.default_rng(n)) for n in range(3)]
    for frame in frames:
        change = np.abs(frame.astype(int) - image).mean(axis=2)
        assert change[disc == 0].max() == 0
        assert change[disc == 1].mean() > 0.3
    assert not np.array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[1], frames[2])


def test_stains_are_in_the_mask() -> None:
    grey = np.full((120, 120, 3), 128, np.uint8)
    disc = cv2.circle(np.zeros((120, 120), np.float32), (60, 60), 30, 1.0, -1)
    for seed in range(10):
        stained, mask = blends.stain(grey, disc, 60.0, np.random.default_rng(seed))
        change = np.abs(stained.astype(int) - 128).mean(axis=2)
        assert change.max() > 4
        assert change[mask < 0.01].max() <= 1
        assert (mask >= disc).all()
        assert mask[:20].max() < 0.01  # far from the face


def test_both_halves_are_degraded_alike(
    portraits: list[Portrait], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What compression does to the picture's edge, where nothing was forged, is the same."""
    monkeypatch.setattr(forgery, "UNIFORM_CHANGE", 0.0)
    forger = Forger(portraits, kinds={"part": 1.0})
    for seed in range(6):
        real, fake = forger.draw((3, seed))
        rim = np.s_[:20, :]
        sharp = [cv2.Laplacian(s.image[rim], cv2.CV_64F).std() for s in (real, fake)]
        assert sharp[0] == pytest.approx(sharp[1], rel=0.2, abs=1.0)


def test_forgeries_without_traces_are_often_left_out(portraits: list[Portrait]) -> None:
    assert forgery.keep_probability(1.0, 100) == 1
    assert forgery.keep_probability(0.2, 100) == pytest.approx(0.15)
    assert forgery.keep_probability(1.0, 30) == pytest.approx(0.25)
    picture = portraits[0].image
    ruined = cv2.GaussianBlur(picture, (0, 0), 12)
    assert forgery.detail_left(picture, picture) == pytest.approx(1)
    assert forgery.detail_left(picture, ruined) < 0.5
    pairs = [Forger(portraits).training_pair((5, n)) for n in range(8)]
    assert all(not real.fake for real, _ in pairs)
    assert any(fake.fake for _, fake in pairs)


def test_degradation_varies(portraits: list[Portrait]) -> None:
    forger = Forger(portraits)
    sharp = [cv2.Laplacian(forger.draw((4, n))[0].image, cv2.CV_64F).std() for n in range(12)]
    assert max(sharp) > 2 * min(sharp)


def test_denoising_removes_noise_and_keeps_the_face(portraits: list[Portrait]) -> None:
    noise = np.random.default_rng(0).normal(0, 6, (160, 160, 3))
    wall = np.clip(128 + noise, 0, 255).astype(np.uint8)
    for seed in range(8):
        wiped = denoise(wall, np.random.default_rng(seed))
        assert wiped.shape == wall.shape
        assert wiped.dtype == np.uint8
        assert wiped.std() < 0.6 * wall.std()
        face = denoise(portraits[0].image, np.random.default_rng(seed))
        assert np.corrcoef(face.ravel(), portraits[0].image.ravel())[0, 1] > 0.97


def test_split_keeps_names_apart(portraits: list[Portrait]) -> None:
    def named(name: str) -> Portrait:
        return replace(portraits[0], name=name)

    many = [named(f"set__{n}__{k}.jpg") for n in range(100) for k in range(2)]
    learned, held = split_portraits(many, 0.2)
    assert len(learned) + len(held) == 200
    assert 10 < len(held) < 80
    people = [{p.name.split("__")[1] for p in side} for side in (learned, held)]
    assert not people[0] & people[1]
    one_person = [named(f"team__2019__portraits__{n}.jpg") for n in range(100)]
    learned, held = split_portraits(one_person, 0.2)
    assert len(learned) + len(held) == 100
    assert 5 < len(held) < 40


def test_folder_without_faces(tmp_path) -> None:
    with raises_code("no_data"):
        find_portraits(tmp_path)
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((90, 90, 3), 128, np.uint8))
    with pytest.raises(UserError, match="No face was found in the 1 images"):
        find_portraits(tmp_path)


@pytest.mark.parametrize("kind", sorted({kind for kind, *_ in DECODERS}))
def test_decoders_draw_pictures_of_any_size(tmp_path, kind: str) -> None:
    save_decoder(tmp_path / "0.safetensors", Autoencoder(kind, 2, 4), kind, 2, 4)
    (decoder,) = load_decoders(tmp_path)
    made = decoder.redraw(np.zeros((37, 50, 3), np.uint8))
    assert made.shape == (37, 50, 3)
    assert made.dtype == np.uint8


def test_a_decoder_learns_to_reproduce_a_portrait(portraits: list[Portrait]) -> None:
    network = train_decoder(portraits, "nearest", 2, 4, steps=40, batch=2, side=32)
    picture = cv2.resize(portraits[0].image, (64, 64), interpolation=cv2.INTER_AREA)
    off = np.abs(Decoder(network).redraw(picture).astype(float) - picture).mean()
    assert off < np.abs(picture - picture.mean()).mean()
