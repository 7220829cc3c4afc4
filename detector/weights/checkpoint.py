"""Checkpoint files: write, read, verify, convert, average.

A checkpoint is one safetensors file with its metadata in its header, and a self-test: a picture and
the logit that the network gives it.
"""

import json
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from detector.architectures import ARCHITECTURES, Network, build_network, find_architecture
from detector.errors import UserError
from detector.faces import CROP_MARGIN
from detector.provenance import hash_file
from detector.records import SIGNS, Calibration
from detector.scoring import autocast

HEADER = "unmask"  # the key of the header that holds the metadata
CLASSES = ("real", "fake")
GOLDEN = "golden."  # prefix of the self-test's input and logit, which are not weights
GOLDEN_TOLERANCE = 0.05  # logits; kernels of other processors round differently
SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file and its metadata."""

    name: str
    path: Path
    source: str
    """embedded, path, cache or hub."""
    sha256: str
    metadata: dict[str, Any] = field(repr=False)


def save_checkpoint(
    path: Path,
    network: Network,
    *,
    margin: float,
    calibration: Calibration | None = None,
    about: Mapping[str, Any] | None = None,
) -> str:
    """Write a network as an fp16 safetensors file with metadata and a self-test.

    Args:
        path: the file; an existing one is replaced only after the new one is complete.
        network: the network.
        margin: share of the face's box that crops show around it.
        calibration: temperature, bias and thresholds; uncalibrated by default.
        about: further metadata: training data, figures, licence.

    Returns:
        The file's sha256.

    Raises:
        UserError: `disk_full`, `weights_corrupt` if the weights are not finite.
    """
    architecture = network.architecture
    network = network.cpu()
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    rounded = build_network(
        architecture.name, side=architecture.side, contrast=architecture.contrast,
        signs=architecture.signs, textures=architecture.textures,
    )  # fmt: skip
    _load_tensors(rounded, tensors, path)
    picture = golden_input(architecture.side)
    metadata = {
        "schema": SCHEMA,
        "architecture": architecture.name,
        "side": architecture.side,
        "mean": architecture.mean,
        "std": architecture.std,
        "contrast": architecture.contrast,
        "signs": architecture.signs,
        "textures": architecture.textures,
        "margin": margin,
        "classes": CLASSES,
        "calibration": asdict(calibration or Calibration()),
        "created": datetime.now(UTC).date().isoformat(),
        **(about or {}),
    }
    tensors[GOLDEN + "input"] = torch.from_numpy(picture)
    tensors[GOLDEN + "logit"] = torch.tensor([_golden_logit(rounded, picture)])
    content = save(tensors, metadata={HEADER: json.dumps(metadata)})
    write_atomically(path, content)
    return hash_file(path)


def recalibrate(
    checkpoint: Checkpoint,
    path: Path,
    calibration: Calibration,
    figures: Mapping[str, Any],
    scales: Sequence[tuple[float, float]] = (),
) -> str:
    """Write a copy of a checkpoint with another calibration and the figures measured with it.

    Args:
        checkpoint: the checkpoint to copy.
        path: the file to write.
        calibration: the new calibration.
        figures: what `evaluate` returns.
        scales: temperature and bias of each sign's logit, folded into the last layers.

    Returns:
        The new file's sha256.

    Raises:
        UserError: as `load_network` and `save_checkpoint`.
    """
    network = load_network(checkpoint)
    if scales:
        head = network.backbone.get_classifier()  # type: ignore[operator]
        temperatures, biases = torch.tensor(scales).T
        with torch.no_grad():
            for layer in (head, network.texture_head):
                if layer is not None:
                    layer.weight /= temperatures[:, None]
                    layer.bias /= temperatures
            head.bias += biases
    about = {
        **{k: v for k, v in checkpoint.metadata.items() if k not in ("calibration", "created")},
        "figures": {**checkpoint.metadata.get("figures", {}), **_select_figures(figures)},
    }
    return save_checkpoint(
        path,
        network,
        margin=float(checkpoint.metadata["margin"]),
        calibration=calibration,
        about=about,
    )


def average_checkpoints(checkpoints: Sequence[Checkpoint], path: Path) -> str:
    """Write the mean of several checkpoints' weights, uncalibrated.

    They should have been trained from the same weights: the mean of unrelated networks is useless.

    Args:
        checkpoints: at least one.
        path: the file to write.

    Returns:
        The file's sha256.

    Raises:
        UserError: `weights_mismatch` if architecture, input or signs differ; `disk_full`.
    """
    # Files written before texture heads existed do not mention them.
    first, *others = ({"textures": 0, **checkpoint.metadata} for checkpoint in checkpoints)
    for checkpoint, other in zip(checkpoints[1:], others, strict=True):
        for name in ("architecture", "side", "margin", "signs", "contrast", "textures"):
            if other.get(name) != first.get(name):
                raise UserError("weights_mismatch", f"{checkpoint.path} has another {name}.")
    networks = [load_network(checkpoint) for checkpoint in checkpoints]
    states = [network.state_dict() for network in networks]
    mean = {
        name: torch.stack([state[name].float() for state in states]).mean(0).to(value.dtype)
        for name, value in states[0].items()
    }
    networks[0].load_state_dict(mean)
    parts = [checkpoint.metadata.get("training", {}) for checkpoint in checkpoints]
    left_out = set.intersection(*(set(part.get("left_out", ())) for part in parts))
    training = {"mean_of": parts, "left_out": sorted(left_out)}
    about = {"training": training, "licence": first.get("licence", "")}
    return save_checkpoint(path, networks[0], margin=float(first["margin"]), about=about)


def convert_state(
    source: Path, architecture: str, path: Path, *, margin: float = CROP_MARGIN
) -> str:
    """Convert a plain state dict into an uncalibrated checkpoint.

    The prefixes `module.` and `backbone.` are removed from the names.

    Args:
        source: a .pth or .safetensors file; code in a .pth file is not run.
        architecture: the architecture that the weights are of.
        path: the file to write.
        margin: share of the face's box that crops showed around it in training.

    Returns:
        The new file's sha256.

    Raises:
        UserError: `missing_file`, `unknown_model`, `weights_corrupt`, `weights_mismatch`,
            `disk_full`.
    """
    if not source.is_file():
        raise UserError("missing_file", f"There is no file {source}.")
    try:
        if source.suffix == ".safetensors":
            state = _read_tensors(source)
        else:
            loaded = torch.load(source, map_location="cpu", weights_only=True)
            state = loaded.get("state_dict", loaded)
    except (pickle.UnpicklingError, EOFError, RuntimeError, AttributeError) as error:
        raise UserError("weights_corrupt", f"{source} holds no plain tensors: {error}") from error
    network = build_network(architecture)
    names = {n.removeprefix("module.").removeprefix("backbone."): t for n, t in state.items()}
    _load_tensors(network, {f"backbone.{n}": t for n, t in names.items()}, source)
    return save_checkpoint(path, network, margin=margin, about={"converted_from": source.name})


def read_metadata(path: Path) -> dict[str, Any]:
    """Read a checkpoint's metadata; raises UserError `weights_corrupt` or `weights_mismatch`."""
    try:
        with safe_open(path, "pt") as opened:
            stored = (opened.metadata() or {}).get(HEADER)
        metadata = json.loads(stored) if stored else None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            "weights_corrupt", f"{path} is damaged or not a safetensors file: {error}."
        ) from error
    if not isinstance(metadata, dict) or metadata.get("schema") != SCHEMA:
        raise UserError("weights_mismatch", f"{path} is not a checkpoint of this program.")
    if tuple(metadata.get("classes", ())) != CLASSES:
        raise UserError("weights_mismatch", f"{path} has other classes than {CLASSES}.")
    return metadata


def load_network(checkpoint: Checkpoint) -> Network:
    """Build a checkpoint's network and load its weights, in evaluation mode.

    Raises:
        UserError: `unknown_model`, `weights_mismatch`, `weights_corrupt`.
    """
    metadata = checkpoint.metadata
    if metadata["architecture"] not in ARCHITECTURES:
        raise UserError(
            "unknown_model", f"{checkpoint.path} needs {metadata['architecture']}: update Unmask."
        )
    architecture = find_architecture(metadata["architecture"])
    same = (
        tuple(metadata["mean"]) == architecture.mean and tuple(metadata["std"]) == architecture.std
    )
    if not same:
        raise UserError("weights_mismatch", f"{checkpoint.path} expects another normalisation.")
    network = build_network(
        architecture.name, side=int(metadata["side"]), contrast=metadata.get("contrast"),
        signs=tuple(metadata.get("signs", SIGNS[:1])), textures=int(metadata.get("textures", 0)),
    )  # fmt: skip
    _load_tensors(network, _read_tensors(checkpoint.path), checkpoint.path)
    return network.eval()


def verify_checkpoint(checkpoint: Checkpoint) -> float:
    """Run a checkpoint's self-test, in the precision of a scan on this machine's processor.

    Returns:
        The difference from the logit that was stored with the checkpoint, computed in fp32.

    Raises:
        UserError: `weights_mismatch` if there is no golden input, `weights_corrupt` if the
            difference is too large.
    """
    tensors = _read_tensors(checkpoint.path)
    if GOLDEN + "input" not in tensors:
        raise UserError("weights_mismatch", f"{checkpoint.path} carries no golden input.")
    logit = _golden_logit(load_network(checkpoint), tensors[GOLDEN + "input"].numpy(), half=True)
    expected = float(tensors[GOLDEN + "logit"][0])
    difference = abs(logit - expected)
    if not difference <= GOLDEN_TOLERANCE:  # also true of a logit that is no number
        raise UserError(
            "weights_corrupt",
            f"{checkpoint.path} gives {logit:.3f} on its golden input, not {expected:.3f}.",
        )
    return difference


def golden_input(side: int) -> np.ndarray:
    """The picture of the self-test, the same on every machine: (1, side, side, 3) uint8."""
    y, x = np.mgrid[0:side, 0:side].astype(np.int64)
    rings = ((x - side // 2) ** 2 + (y - side // 3) ** 2) // max(1, side // 4)
    picture = np.stack([(rings * 3) % 256, (x * 5 + rings) % 256, (y * 7 + x) % 256], axis=-1)
    return picture.astype(np.uint8)[None]


def _golden_logit(network: Network, picture: np.ndarray, *, half: bool = False) -> float:
    """The largest logit of the golden input; with `half`, in the precision of scans."""
    pixels = torch.from_numpy(picture).permute(0, 3, 1, 2).float() / 255
    network = network.float().cpu().eval()
    with torch.inference_mode(), autocast(pixels.device, half):
        return float(network(pixels)[0])


def _select_figures(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Select the figures of an evaluation that are stored in the checkpoint."""
    return {
        "video AUC": figures["auc"],
        **{f"video AUC, {kind}": value for kind, value in figures["auc_by_kind"].items()},
        **{f"video AUC, {name}": value for name, value in figures["auc_by_dataset"].items()},
        "real clips called manipulated": figures["verdicts"]["real"]["manipulated"],
    }


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file; raises UserError `weights_corrupt`."""
    try:
        with safe_open(path, "pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError("weights_corrupt", f"{path} is damaged: {error}.") from error


def _load_tensors(network: Network, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load tensors, without the self-test's, into a network; errors name the file `path`.

    Raises:
        UserError: `weights_mismatch`, `weights_corrupt`.
    """
    weights = {n: t for n, t in tensors.items() if not n.startswith(GOLDEN)}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(
            "weights_mismatch",
            f"{path} does not fit {network.architecture.title}: {first[:200]}",
        ) from error
    if not all(bool(torch.isfinite(t).all()) for t in weights.values() if t.is_floating_point()):
        raise UserError("weights_corrupt", f"{path} contains numbers that are not finite.")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically; raises UserError `disk_full`."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError("disk_full", f"{path} could not be written: {error.strerror}.") from error
