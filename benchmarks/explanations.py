"""How fast explanations are, whether they follow the network, whether they point at forgery.

    python -m benchmarks.explanations FACES [--forgeries 200] [--only PART]

FACES is a folder of real faces. Prints tables of the sign "pasted", in parts:

speed     time of each method as a ratio to one forward pass
sanity    rank correlation of each map with that of the network whose weights were randomised layer
          by layer, from the last to the first (Adebayo et al., 2018: it must fall)
twins     on forgeries whose altered pixels are known and whose genuine twins are not suspected: how
          often a map passes the deletion and insertion test by the twin's pixels and by blurring,
          and how stable it is
pointing  how well each method points at the altered pixels, beside random maps, the face's centre,
          and occlusion and LIME over superpixels; and how far the methods agree with one another
"""

import argparse
import copy
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.segmentation import slic
from sklearn.linear_model import Ridge
from torch import nn

from benchmarks.tables import print_head, print_row
from detector.architectures import Network, OneSign
from detector.heatmaps import METHODS, PAPER, explain_all
from detector.heatmaps.base import frozen
from detector.heatmaps.scorecam import faster_scorecam
from detector.heatmaps.trust import (
    DISTURBANCES,
    RANDOM_MAPS,
    beats_random,
    blur,
    centre_map,
    measure_areas,
    random_map,
    rank_correlation,
)
from detector.pipeline import find_face, scan
from detector.scoring import Detector, autocast
from detector.settings import Settings
from detector.training.forgery import Forger, Sample
from detector.training.portraits import find_portraits, split_portraits
from detector.weights import load_detector

EXAMPLE = Path(__file__).parent.parent / "examples" / "manipulated.mp4"
POINTED = [m for m in METHODS if m != "scorecam"]
SUPERPIXELS = 60
LIME_SAMPLES = 150
PARTS = "speed", "sanity", "twins", "pointing"
KINDS = {"self": 0.3, "swap": 0.3, "bottleneck": 0.2, "part": 0.2}


def timed(call: object, rounds: int = 3) -> float:
    """Median seconds of a call."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()  # type: ignore[operator]
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def forward(network: Network, picture: torch.Tensor) -> None:
    """One plain forward pass, as scoring does it."""
    with torch.inference_mode(), autocast(picture.device):
        network(picture)


def speed(network: Network, picture: torch.Tensor) -> None:
    """The time of each method."""
    forward(network, picture)
    once = timed(lambda: forward(network, picture), 9)
    print_head("method", "forward passes' time")
    for name in (*PAPER, "layercam", "hirescam"):
        method = METHODS[name]
        method(network, picture)
        print_row(name, f"{timed(lambda m=method: m(network, picture)) / once:.1f}")
    many = timed(lambda: faster_scorecam(network, picture, 32))
    full = timed(lambda: METHODS["scorecam"](network, picture), 1)
    print_row("faster-scorecam, N = 32", f"{many / once:.1f}")
    print_row("scorecam (pytorch-grad-cam's)", f"{full / once:.1f}")
    agreement = rank_correlation(
        faster_scorecam(network, picture, 32)[0], METHODS["scorecam"](network, picture)[0]
    )
    print(f"\nFaster Score-CAM, N = 32: {full / many:.1f} times faster than Score-CAM, ", end="")
    print(f"rank correlation {agreement:.2f}\n")


def whole(detector: Detector) -> None:
    """What a user waits for: all four of the paper's methods with their trust figures."""
    _, face = find_face(scan(EXAMPLE, Settings(key_frames=4), detector=detector))
    explain_all(detector, face)
    once = timed(lambda: detector.score([face.crop], mirror=False), 9)
    seconds = timed(lambda: explain_all(detector, face))
    print(
        f"All four with their trust figures: {seconds:.1f} s, {seconds / once:.0f} times ", end=""
    )
    print("the scoring of one face\n")


def sanity(network: Network, pictures: torch.Tensor) -> None:
    """How far each map depends on the network's weights."""
    layers = _find_layers(network)
    names = [n for n in METHODS if n != "scorecam"]
    first = {n: METHODS[n](network, pictures) for n in names}
    shares = (0.02, 0.1, 0.3, 1.0)
    table: dict[str, list[float]] = {n: [] for n in names}
    for share in shares:
        broken = copy.deepcopy(network)
        generator = torch.Generator().manual_seed(0)
        for layer in _find_layers(broken)[-max(1, round(share * len(layers))) :]:
            with torch.no_grad():
                noise = torch.randn(layer.weight.shape, generator=generator)
                layer.weight.copy_(noise * layer.weight.std())
        for name in names:
            maps = METHODS[name](broken, pictures)
            pairs = zip(first[name], maps, strict=True)
            table[name].append(float(np.mean([rank_correlation(a, b) for a, b in pairs])))
    print_head("method", *(f"last {share:.0%} of layers random" for share in shares))
    for name, values in table.items():
        print_row(name, *(f"{v:.2f}" for v in values))
    print()


def _find_layers(network: Network) -> list[nn.Conv2d | nn.Linear]:
    """The layers of the backbone, in order; the texture head has no place in the picture."""
    return [m for m in network.backbone.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def superpixels(crop: np.ndarray) -> np.ndarray:
    """The number of the patch of like colour that each pixel lies in, from 0."""
    return slic(crop, n_segments=SUPERPIXELS, compactness=10, start_label=0)


def hide(crop: np.ndarray, masks: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The crop, blurred beyond recognition where each mask says so."""
    soft = cv2.GaussianBlur(crop, (0, 0), crop.shape[0] * 0.08)
    return [np.where(mask[..., None], soft, crop) for mask in masks]


def occlusion(detector: Detector, crop: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """How much the logit falls when a superpixel is blurred."""
    made = [crop, *hide(crop, (patches == n for n in range(patches.max() + 1)))]
    logits = detector.score(made, mirror=False)
    return np.maximum(logits[0] - logits[1:], 0)[patches].astype(np.float32)


def lime(detector: Detector, crop: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """Weights of a linear model of the logit over superpixels that are blurred at random.

    Samples that leave more of the crop as it is count for more (Ribeiro et al., 2016).
    """
    rng = np.random.default_rng(0)
    kept = rng.random((LIME_SAMPLES, patches.max() + 1)) < rng.uniform(0.2, 1, (LIME_SAMPLES, 1))
    logits = detector.score(hide(crop, (~row[patches] for row in kept)), mirror=False)
    near = np.exp(-(((1 - np.sqrt(kept.mean(axis=1))) / 0.25) ** 2))
    model = Ridge(alpha=1.0).fit(kept.astype(float), logits, sample_weight=near)
    return np.maximum(model.coef_, 0)[patches].astype(np.float32)


def best_overlap(values: np.ndarray, mask: np.ndarray) -> float:
    """Intersection over union at the best of ten thresholds."""
    best = 0.0
    for level in np.quantile(values, np.linspace(0.5, 0.98, 10)):
        marked = values > level
        union = int((marked | mask).sum())
        best = max(best, int((marked & mask).sum()) / union if union else 0.0)
    return best


def find_forgeries(
    detector: Detector, forger: Forger, wanted: int, *, cleared: bool = False
) -> Iterator[tuple[int, Sample, Sample, np.ndarray]]:
    """(number, genuine twin, forgery, altered pixels) of forgeries that the detector finds.

    With `cleared`, only those whose twin it does not suspect.
    """
    found = 0
    for number in range(wanted * 20):
        twin, fake = forger.pair(number, (77, number))
        mask = fake.mask > 0.5 * max(float(fake.mask.max()), 1e-6)
        suspected, innocent = detector.score([fake.image, twin.image]) * (1, -1)
        if 0.01 < mask.mean() < 0.5 and suspected >= 0 and (innocent > 0 or not cleared):
            found += 1
            yield number, twin, fake, mask
        if found == wanted:
            return


def twins(detector: Detector, forger: Forger, wanted: int) -> None:
    """Deletion and insertion by the genuine twin's pixels, and by blurring."""
    rng = np.random.default_rng(0)
    figures: dict[str, list[tuple[float, ...]]] = {}

    def score(pictures: torch.Tensor) -> np.ndarray:
        with torch.inference_mode(), autocast(pictures.device):
            logits = torch.cat([detector.network(p) for p in pictures.split(detector.batch)])
        return torch.sigmoid(logits.float()).cpu().numpy()

    def draw(crop: np.ndarray) -> dict[str, np.ndarray]:
        return {n: METHODS[n](detector.network, detector.prepare([crop]))[0] for n in PAPER}

    for _, twin, fake, _ in find_forgeries(detector, forger, wanted, cleared=True):
        genuine, picture = detector.prepare([twin.image, fake.image])
        side = picture.shape[-1]
        true = cv2.resize(fake.mask, (side, side)).astype(np.float32)
        maps = draw(fake.image)
        restored = [
            {name: restore(made) for name, made in draw(alter(fake.image)).items()}
            for alter, restore in DISTURBANCES
        ]
        maps |= {"true mask": true, "its inverse": 1 - true, "centre": centre_map(side)}
        chance = [random_map(side, rng) for _ in range(RANDOM_MAPS)]
        passed = []
        for without in (genuine, blur(picture)):
            areas = measure_areas(picture, without, [*maps.values(), *chance], score)
            passed.append([beats_random(a, areas[len(maps) :].mean(0)) for a in areas[: len(maps)]])
        for name, by_twin, by_blur in zip(maps, *passed, strict=True):
            stable = [rank_correlation(maps[name], m[name]) for m in restored if name in m]
            figures.setdefault(name, []).append(
                (by_twin, by_blur, float(np.mean(stable)) if stable else float("nan"))
            )
    print_head("map", "passes by the twin's pixels", "passes by blurring", "stability")
    for name, rows in figures.items():
        by_twin, by_blur, stability = np.mean(rows, axis=0)
        shown = "" if np.isnan(stability) else f"{stability:.2f}"
        print_row(name, f"{by_twin:.2f}", f"{by_blur:.2f}", shown)
    print()


def pointing(detector: Detector, forger: Forger, wanted: int) -> None:
    """How well maps point at forged pixels, and agree, on forgeries that the detector finds."""
    rng = np.random.default_rng(0)
    names = [*POINTED, "occlusion", "lime", "random", "centre"]
    figures: dict[str, list[tuple[float, float, float]]] = {n: [] for n in names}
    agreement = np.zeros((len(POINTED), len(POINTED)))
    found = tried = 0
    for number, _, fake, mask in find_forgeries(detector, forger, wanted):
        found, tried = found + 1, number + 1
        picture = detector.prepare([fake.image])
        maps = {n: METHODS[n](detector.network, picture)[0] for n in POINTED}
        patches = superpixels(fake.image)
        maps["occlusion"] = occlusion(detector, fake.image, patches)
        maps["lime"] = lime(detector, fake.image, patches)
        maps["random"] = np.maximum(random_map(fake.image.shape[0], rng), 0)
        maps["centre"] = centre_map(fake.image.shape[0])
        for row, first in enumerate(POINTED):
            for column, second in enumerate(POINTED):
                agreement[row, column] += rank_correlation(maps[first], maps[second])
        for name, values in maps.items():
            peak = np.unravel_index(int(np.argmax(values)), values.shape)
            total = float(values.sum())
            inside = float(values[mask].sum()) / total if total else 0.0
            figures[name].append((float(mask[peak]), inside, best_overlap(values, mask)))
    print(f"{found} forgeries that the detector finds, of {tried}\n")
    print_head("method", "pointing game", "mass inside the mask", "IoU, best threshold")
    for name, rows in figures.items():
        print_row(name, *(f"{v:.2f}" for v in np.mean(rows, axis=0)))
    print()
    print_head("mean rank correlation", *POINTED)
    for name, values in zip(POINTED, agreement / max(1, found), strict=True):
        print_row(name, *(f"{v:.2f}" for v in values))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--forgeries", type=int, default=200)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--model", default="default")
    parser.add_argument("--weights")
    options = parser.parse_args()
    detector = load_detector(options.model, weights=options.weights, device="cpu")
    if not isinstance(detector, Detector):
        raise SystemExit("An ensemble's members are measured one by one.")
    _, held = split_portraits(find_portraits(options.faces))
    forger = Forger(held, side=detector.side, margin=detector.margin, kinds=KINDS, degrade=False)
    number = detector.calibration.signs.index("pasted")
    one = replace(detector, network=OneSign(detector.network, number).eval())
    parts = PARTS if options.only is None else (options.only,)
    with frozen(one.network) as network:
        crops = [forger.pair(n, (5, n))[1].image for n in range(4)]
        if "speed" in parts:
            speed(network, one.prepare(crops[:1]))
            whole(detector)
        if "sanity" in parts:
            sanity(network, one.prepare(crops))
        if "twins" in parts:
            twins(one, forger, options.forgeries)
        if "pointing" in parts:
            pointing(one, forger, options.forgeries)


if __name__ == "__main__":
    main()
