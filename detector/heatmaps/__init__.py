"""Heatmaps of the evidence in a face, by several methods, and tests of their reliability."""

import copy
import importlib
from dataclasses import replace

import cv2
import numpy as np
import torch

from detector.architectures import InContext, Network, OneSign, SequenceNetwork
from detector.errors import UserError
from detector.faces import align
from detector.heatmaps.base import Method, frozen
from detector.heatmaps.regions import landmarks_in_crop, share_regions
from detector.heatmaps.smoothgrad import smoothgrad
from detector.heatmaps.trust import DISTURBANCES, judge_maps
from detector.records import Face, Heatmap, Image, Person
from detector.scoring import Detector, Ensemble


def _import_lazily(module: str, name: str) -> Method:
    """A method of a module that imports pytorch-grad-cam, which loads scikit-learn and matplotlib.

    A scan without a heatmap needs none of them.
    """

    def explain_evidence(network: Network, pictures: torch.Tensor) -> np.ndarray:
        method: Method = getattr(importlib.import_module(f"detector.heatmaps.{module}"), name)
        return method(network, pictures)

    return explain_evidence


METHODS: dict[str, Method] = {
    "smoothgrad": smoothgrad,
    "gradcam": _import_lazily("activation", "gradcam"),
    "gradcam++": _import_lazily("activation", "gradcam_plus_plus"),
    "faster-scorecam": _import_lazily("scorecam", "faster_scorecam"),
    "layercam": _import_lazily("activation", "layercam"),
    "hirescam": _import_lazily("activation", "hirescam"),
    "scorecam": _import_lazily("scorecam", "scorecam"),
}
"""The methods by name; PAPER lists those of the paper."""

PAPER = ("smoothgrad", "gradcam", "gradcam++", "faster-scorecam")
TITLES = {
    "smoothgrad": "SmoothGrad",
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "faster-scorecam": "Faster Score-CAM",
    "layercam": "Layer-CAM",
    "hirescam": "HiRes-CAM",
    "scorecam": "Score-CAM",
}


def explain(
    detector: Detector | Ensemble,
    face: Face,
    *,
    method: str = "gradcam",
    trust: bool = False,
    person: Person | None = None,
    sign: str | None = None,
) -> Heatmap:
    """Compute the heatmap of one face.

    Args:
        detector: the detector whose logit is explained.
        face: a face of a scan.
        method: a key of METHODS.
        trust: also test the map against random maps and the paper's other methods.
        person: the face's person; a recurrent network needs the person's other faces.
        sign: pasted or drawn; by default the sign with the larger logit.

    Raises:
        UserError: `unknown_method`, `unfit_face`, `bad_setting`.
    """
    check_method(method)
    check_fit(face)
    if trust:
        methods = tuple(dict.fromkeys((*PAPER, method)))
        return explain_all(detector, face, methods=methods, person=person, sign=sign)[method]
    detector, sign = _of_one_sign(_in_context(detector, face, person), face, sign)
    values = _mean_maps(detector, face, {method: METHODS[method]})[method]
    values = _resize_to_crop(_scale_to_probability(values, _probability(detector, face)), face)
    return Heatmap(method, face, values, {}, share_regions(values, face), sign)


def explain_all(
    detector: Detector | Ensemble,
    face: Face,
    *,
    methods: tuple[str, ...] = PAPER,
    person: Person | None = None,
    sign: str | None = None,
) -> dict[str, Heatmap]:
    """The heatmaps of one face by several methods, each with its trust figures."""
    for method in methods:
        check_method(method)
    check_fit(face)
    detector, sign = _of_one_sign(_in_context(detector, face, person), face, sign)
    chosen = {name: METHODS[name] for name in methods}
    maps = _mean_maps(detector, face, chosen)
    disturbed = []
    for alter, restore in DISTURBANCES:
        made = _mean_maps(detector, replace(face, crop=alter(face.crop)), chosen)
        disturbed.append({name: restore(values) for name, values in made.items()})
    first = _members(detector)[0]

    def score(pictures: torch.Tensor) -> np.ndarray:
        crops = (pictures * 255).round().clamp(0, 255).to(torch.uint8)
        arrays = list(crops.permute(0, 2, 3, 1).cpu().numpy())
        return _probabilities(detector, arrays)

    picture = first.prepare([face.crop])[0]
    figures = judge_maps(picture, maps, disturbed, score, pasted=sign == "pasted")
    heatmaps, suspicion = {}, _probability(detector, face)
    for name, values in maps.items():
        values = _resize_to_crop(_scale_to_probability(values, suspicion), face)
        shares = share_regions(values, face)
        inside = sum(shares.values()) - shares["outside"]
        trust = {**figures[name], "inside": inside}
        heatmaps[name] = Heatmap(name, face, values, trust, shares, sign)
    return heatmaps


def explain_person(
    detector: Detector | Ensemble, person: Person, *, method: str = "gradcam"
) -> tuple[np.ndarray, np.ndarray]:
    """(mean map, mean face) over a person's fit faces, aligned by their landmarks.

    Evidence at the same position of the face in every frame remains; the rest averages out.
    """
    check_method(method)
    fit = [face for face in person.faces if face.unfit is None]
    if not fit:
        raise UserError("unfit_face", "No face of this person can be judged or explained.")
    maps, faces = [], []
    for face in fit:
        single, _ = _of_one_sign(_in_context(detector, face, person), face, None)
        values = _mean_maps(single, face, {method: METHODS[method]})[method]
        values = _scale_to_probability(values, _probability(single, face))
        side = values.shape[0]
        maps.append(align(values, landmarks_in_crop(face, side), side))
        faces.append(align(face.crop, landmarks_in_crop(face, face.crop.shape[0]), side))
    return np.mean(maps, axis=0), np.mean(faces, axis=0).round().astype(np.uint8)


def check_method(method: str) -> None:
    """Raise UserError `unknown_method` for an unknown name."""
    if method not in METHODS:
        raise UserError(
            "unknown_method", f"There is no method {method!r}. Known are: {', '.join(METHODS)}."
        )


def check_fit(face: Face) -> None:
    """Raise UserError `unfit_face` for a face that the detector does not judge."""
    if face.unfit is not None:
        raise UserError("unfit_face", f"This face cannot be explained: it is {face.unfit}.")


def _in_context(
    detector: Detector | Ensemble, face: Face, person: Person | None
) -> Detector | Ensemble:
    """The detector as a function of this face; a recurrent one keeps the person's others fixed."""
    if isinstance(detector, Ensemble):
        members = tuple(_member_in_context(m, face, person) for m in detector.members)
        return replace(detector, members=members)
    return _member_in_context(detector, face, person)


def _member_in_context(detector: Detector, face: Face, person: Person | None) -> Detector:
    if not isinstance(detector.network, SequenceNetwork):
        return detector
    fit = [f for f in (person.faces if person else ()) if f.unfit is None]
    faces = fit if any(f is face for f in fit) else [face]
    position = next(number for number, f in enumerate(faces) if f is face)
    pictures = detector.prepare([f.crop for f in faces])
    network = InContext(detector.network.eval(), pictures, position)
    return replace(detector, network=network.eval())


def _of_one_sign(
    detector: Detector | Ensemble, face: Face, sign: str | None
) -> tuple[Detector | Ensemble, str]:
    """(detector restricted to one sign, that sign); by default the sign with the larger logit."""
    signs = detector.calibration.signs
    if sign is None:
        sign = signs[int(detector.score_signs([face.crop], mirror=False)[0].argmax())]
    if sign not in signs:
        raise UserError(
            "bad_setting", f"This network looks for signs of {', '.join(signs)}, not {sign!r}."
        )
    if len(signs) == 1:
        return detector, sign
    number = signs.index(sign)
    if isinstance(detector, Ensemble):
        members = tuple(
            replace(m, network=OneSign(m.network, number).eval()) for m in detector.members
        )
        return replace(detector, members=members), sign
    return replace(detector, network=OneSign(detector.network, number).eval()), sign


def _members(detector: Detector | Ensemble) -> tuple[Detector, ...]:
    return detector.members if isinstance(detector, Ensemble) else (detector,)


def _mean_maps(
    detector: Detector | Ensemble, face: Face, methods: dict[str, Method]
) -> dict[str, np.ndarray]:
    """Each method's map at the network's input size, averaged over an ensemble's members.

    Members are weighted as in the ensemble's logit.
    """
    members = _members(detector)
    side = members[0].side
    sums: dict[str, np.ndarray] = {}
    for member in members:
        pictures = member.prepare([face.crop])
        weight = 1 / (len(members) * member.calibration.temperature)
        for name, method in methods.items():
            with frozen(copy.deepcopy(member.network)) as network:  # hooks sit on it
                made = method(network, pictures)[0]
            if made.shape[0] != side:
                made = cv2.resize(made, (side, side), interpolation=cv2.INTER_LINEAR)
            sums[name] = sums.get(name, 0) + weight * made
    return sums


def _probabilities(detector: Detector | Ensemble, crops: list[Image]) -> np.ndarray:
    logits, c = detector.score(crops, mirror=False), detector.calibration
    return 1 / (1 + np.exp(-(logits / c.temperature + c.bias)))


def _probability(detector: Detector | Ensemble, face: Face) -> float:
    return float(_probabilities(detector, [face.crop])[0])


def _scale_to_probability(values: np.ndarray, suspicion: float) -> np.ndarray:
    """Scale a map so that its peak equals the face's probability.

    The methods' own units are not comparable between faces; the probability is.
    """
    peak = float(values.max())
    return values * (suspicion / peak) if peak > 0 else values


def _resize_to_crop(values: np.ndarray, face: Face) -> np.ndarray:
    height, width = face.crop.shape[:2]
    return cv2.resize(values.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
