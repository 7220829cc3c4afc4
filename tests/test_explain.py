import numpy as np
import pytest
import torch
from clips import make_face, texture
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from pytorch_grad_cam.utils.model_targets import BinaryClassifierOutputTarget
from scipy.stats import spearmanr

from detector.architectures import Architecture, Network, build_network
from detector.charts import colour_heatmap, overlay
from detector.errors import UserError
from detector.heatmaps import METHODS, PAPER, explain, explain_all, explain_person
from detector.heatmaps.base import frozen, to_pixels
from detector.heatmaps.regions import describe_regions, region_masks, share_regions
from detector.heatmaps.scorecam import faster_scorecam
from detector.heatmaps.smoothgrad import smoothgrad
from detector.heatmaps.trust import (
    DISTURBANCES,
    LEAST_STABILITY,
    describe_trust,
    judge_maps,
    random_map,
    rank_correlation,
)
from detector.records import SIGNS, Calibration, Face, ModelInfo, Person
from detector.scoring import Detector

SIDE = 32


class Tiny(torch.nn.Module):
    """Two convolutions and a linear layer, small enough to compute by hand."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 3, stride=2, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(6, 5, 3, stride=2, padding=1),
            torch.nn.ReLU(),
        )
        self.head = torch.nn.Linear(5, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(pictures).mean((2, 3)))


@pytest.fixture
def network() -> Network:
    architecture = Architecture("tiny", "Tiny", None, SIDE, (0.5,) * 3, (0.5,) * 3, "features")
    return Network(architecture, Tiny()).eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    stack = np.stack([texture(n, SIDE, SIDE) for n in (1, 2)])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).float() / 255


def by_hand(network: Network, pictures: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Activations of the last layer and the slope of the logit along each, without any hook."""
    backbone = network.backbone
    activations = backbone.features((pictures - 0.5) / 0.5).detach()
    slopes = backbone.head.weight[0] / activations[0, 0].numel()
    return activations.numpy(), slopes.detach().numpy()


def test_gradcam_by_hand(network: Network, pictures: torch.Tensor) -> None:
    activations, slopes = by_hand(network, pictures)
    expected = to_pixels((activations * slopes[None, :, None, None]).sum(1), SIDE)
    assert METHODS["gradcam"](network, pictures) == pytest.approx(expected, abs=1e-6)
    # With one number per channel, HiRes-CAM and Grad-CAM are the same.
    assert METHODS["hirescam"](network, pictures) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("name", "kind"), [("gradcam", GradCAM), ("gradcam++", GradCAMPlusPlus)])
def test_maps_agree_with_the_library_up_to_its_stretch(
    network: Network, pictures: torch.Tensor, name: str, kind: type
) -> None:
    with kind(model=network, target_layers=[network.explained_layer]) as cam:
        theirs = cam(pictures, [BinaryClassifierOutputTarget(1)] * 2)
    ours = METHODS[name](network, pictures)
    for mine, other in zip(ours, theirs, strict=True):
        if other.max() > 0:
            assert rank_correlation(mine, other) > 0.97


def test_layercam_by_hand(network: Network, pictures: torch.Tensor) -> None:
    activations, slopes = by_hand(network, pictures)
    expected = np.maximum(activations * np.maximum(slopes, 0)[None, :, None, None], 0).sum(1)
    assert METHODS["layercam"](network, pictures) == pytest.approx(
        to_pixels(expected, SIDE), abs=1e-6
    )


def test_faster_scorecam_by_hand(network: Network, pictures: torch.Tensor) -> None:
    picture = pictures[:1]
    activations, _ = by_hand(network, picture)
    kept = np.argsort(-activations[0].std(axis=(1, 2)))[:2]
    total = np.zeros_like(activations[0, 0])
    for channel in kept:
        mask = torch.nn.functional.interpolate(
            torch.from_numpy(activations[:, channel : channel + 1]), (SIDE, SIDE), mode="bilinear"
        )
        mask = (mask - mask.min()) / (mask.max() - mask.min() + 1e-8)
        weight = torch.sigmoid(network(picture * mask))
        total += weight.item() * activations[0, channel]
    made = faster_scorecam(network, picture, channels=2)
    assert made[0] == pytest.approx(to_pixels(total[None], SIDE)[0], abs=5e-3)


def test_smoothgrad_of_a_linear_network_is_its_weights(pictures: torch.Tensor) -> None:
    weights = torch.randn(3, SIDE, SIDE)

    class Linear(torch.nn.Module):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            return (given * weights).sum((1, 2, 3))

    made = smoothgrad(Linear(), pictures)  # type: ignore[arg-type]
    assert made[0] == pytest.approx(weights.abs().amax(0).numpy(), abs=1e-5)


@pytest.mark.parametrize("name", list(METHODS))
def test_no_hook_and_no_gradient_stays_behind(
    network: Network, pictures: torch.Tensor, name: str
) -> None:
    before = network(pictures).detach()
    with frozen(network):
        maps = METHODS[name](network, pictures)
    assert maps.shape == (2, SIDE, SIDE)
    assert maps.min() >= 0
    assert not network.explained_layer._forward_hooks
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert torch.equal(network(pictures).detach(), before)


def test_strength_is_kept(network: Network, pictures: torch.Tensor) -> None:
    strong = METHODS["gradcam"](network, pictures).max()
    with torch.no_grad():
        network.backbone.head.weight.mul_(0.1)
    assert METHODS["gradcam"](network, pictures).max() == pytest.approx(strong * 0.1, rel=1e-4)


def detector_of(network: Network) -> Detector:
    return Detector(
        ModelInfo("tiny", "path", "0", True), network, Calibration(calibrated=True), 0.5,
        torch.device("cpu"),
    )  # fmt: skip


def test_explain_gives_a_map_of_the_crop_with_figures(network: Network) -> None:
    face = make_face(3)
    heatmaps = explain_all(detector_of(network), face)
    assert list(heatmaps) == list(PAPER)
    for name, heatmap in heatmaps.items():
        assert heatmap.method == name
        assert heatmap.values.shape == face.crop.shape[:2]
        assert sum(heatmap.regions.values()) == pytest.approx(1, abs=1e-5)
        assert heatmap.sign == "pasted"
        steady = heatmap.values.max() > 0 and heatmap.trust["stability"] >= LEAST_STABILITY
        assert heatmap.trust["reliable"] is (None if steady else False)
        assert 0 <= heatmap.trust["inside"] <= 1
        assert describe_trust(heatmap.trust, heatmap.sign)
        assert describe_regions(heatmap.regions)


def test_explain_person_is_the_mean_in_the_faces_own_coordinates(network: Network) -> None:
    person = Person(1, tuple(make_face(n) for n in range(3)))
    values, mean_face = explain_person(detector_of(network), person)
    assert values.shape == (SIDE, SIDE)
    assert mean_face.shape == (SIDE, SIDE, 3)
    same = Person(1, (person.faces[0],) * 3)
    alone = Person(1, person.faces[:1])
    ours, theirs = (explain_person(detector_of(network), p)[0] for p in (same, alone))
    assert ours == pytest.approx(theirs, abs=1e-6)
    with pytest.raises(UserError):
        explain_person(detector_of(network), Person(1, (make_face(0, unfit="too small"),)))


@pytest.mark.parametrize(
    ("face", "method", "code"),
    [
        (make_face(0), "crystal-ball", "unknown_method"),
        (make_face(0, unfit="too blurred"), "gradcam", "unfit_face"),
    ],
)
def test_bad_questions(network: Network, face: Face, method: str, code: str) -> None:
    with pytest.raises(UserError) as caught:
        explain(detector_of(network), face, method=method)
    assert caught.value.code == code


def test_a_true_map_beats_chance_and_a_wrong_one_does_not() -> None:
    """The score is the brightness of the lower left: a map of it is right, its opposite wrong."""
    side = 64
    picture = torch.from_numpy(np.random.default_rng(0).random((3, side, side), np.float32))
    where = np.zeros((side, side), np.float32)
    where[32:, :32] = 1
    picture[:, 32:, :32] += torch.from_numpy(
        (np.indices((32, 32)).sum(0) % 2).astype(np.float32) * 3
    )

    def score(pictures: torch.Tensor) -> np.ndarray:
        part = pictures[:, :, 32:, :32]
        return part.flatten(1).std(1).numpy() / 2

    maps = {"right": where, "wrong": 1 - where}
    figures = judge_maps(picture, maps, [maps], score)
    assert figures["right"]["reliable"] is True
    assert figures["wrong"]["reliable"] is False
    assert figures["right"]["deletion"] < figures["right"]["deletion_random"]
    assert figures["right"]["stability"] == pytest.approx(1)
    assert figures["right"]["agreement"] < 0


def test_a_map_of_a_pasted_face_is_judged_by_its_stability_alone() -> None:
    """The score falls wherever the picture is changed, as with a paste: blurring tells nothing."""
    picture = torch.from_numpy(np.random.default_rng(0).random((3, 64, 64), np.float32))
    maps = {name: random_map(64, np.random.default_rng(n)) for n, name in enumerate("ab")}

    def score(pictures: torch.Tensor) -> np.ndarray:
        return np.full(len(pictures), 0.9)

    disturbed = {"a": maps["a"], "b": -maps["b"]}
    figures = judge_maps(picture, maps, [maps, disturbed], score, pasted=True)
    assert figures["a"]["reliable"] is None
    assert figures["b"]["reliable"] is False
    assert "Not tested" in describe_trust(figures["a"], "pasted")
    assert "another map comes out" in describe_trust(figures["b"], "pasted")


def test_a_disturbed_faces_map_is_brought_back() -> None:
    values = np.zeros((60, 60), np.float32)
    values[20:30, 10:25] = 1
    crop = np.repeat((values * 255).astype(np.uint8)[..., None], 3, axis=2)
    for alter, restore in DISTURBANCES:
        altered = alter(crop)
        assert not np.array_equal(altered, crop)
        back = restore(altered[..., 0].astype(np.float32) / 255)
        assert np.abs(back - values).mean() < 0.02


def test_rank_correlation_by_hand() -> None:
    values = random_map(64, np.random.default_rng(0))
    assert rank_correlation(values, values * 3 + 1) == pytest.approx(1)
    assert rank_correlation(values, -values) == pytest.approx(-1)
    assert rank_correlation(values, np.ones((64, 64), np.float32)) == 0


def test_equal_values_have_equal_ranks() -> None:
    """Two maps that are zero but for one corner each: where they lie in the array is no order."""
    first, second = np.zeros((2, 32, 32), np.float32)
    first[:8, :8], second[-8:, -8:] = 1, 1
    expected = spearmanr(first.ravel(), second.ravel()).statistic
    assert rank_correlation(first, second) == pytest.approx(expected)
    assert rank_correlation(first[::-1], second[::-1]) == pytest.approx(expected)


def test_every_pixel_lies_in_one_region() -> None:
    masks = region_masks(make_face(0), 96)
    assert (np.sum([m.astype(int) for m in masks.values()], axis=0) == 1).all()
    assert all(mask.any() for mask in masks.values())
    mouth = np.where(masks["mouth"], 1.0, 0.0).astype(np.float32)
    assert share_regions(mouth, make_face(0))["mouth"] == pytest.approx(1)
    assert "around the mouth" in describe_regions(share_regions(mouth, make_face(0)))
    empty = share_regions(np.zeros((96, 96), np.float32), make_face(0))
    assert "empty" in describe_regions(empty)


def test_map_outside_the_face_is_said() -> None:
    outside = region_masks(make_face(0), 96)["outside"].astype(np.float32)
    assert "outside the face" in describe_regions(share_regions(outside, make_face(0)))


def test_weak_map_is_drawn_weak_beside_a_strong_one() -> None:
    weak, strong = np.full((4, 4), 0.1), np.full((4, 4), 1.0)
    assert colour_heatmap(weak, 1.0).mean() < colour_heatmap(strong, 1.0).mean()
    image = np.full((4, 4, 3), 100, np.uint8)
    assert np.array_equal(overlay(image, np.zeros((4, 4))), image)


def test_the_map_is_of_the_sign_asked_for_or_of_the_stronger_one() -> None:
    torch.manual_seed(0)
    network = build_network("test_efficientnet", signs=SIGNS)
    head = network.backbone.get_classifier()
    with torch.no_grad():
        head.weight.normal_(std=0.5)
        head.bias.copy_(torch.tensor([-9.0, 9.0]))
    info = ModelInfo("test", "path", "0", False)
    two = Detector(info, network.eval(), Calibration(signs=SIGNS), 0.3, torch.device("cpu"))
    face = make_face(0)
    strongest = explain(two, face, method="gradcam")
    pasted, drawn = (explain(two, face, method="gradcam", sign=sign) for sign in SIGNS)
    assert strongest.sign == drawn.sign == "drawn"
    assert pasted.sign == "pasted"
    assert np.array_equal(strongest.values, drawn.values)
    assert not np.allclose(pasted.values, drawn.values)
    with pytest.raises(UserError, match="not 'voice'"):
        explain(two, face, method="gradcam", sign="voice")
