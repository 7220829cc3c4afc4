"""Checkpoints: find, verify, load, write and upload them. The only importer of huggingface_hub.

A checkpoint is one safetensors file with its metadata in its header. It is looked for in this
order: the given path, `weights/`, the Hub's cache, the Hub. Nothing is ever substituted silently.
"""

import json
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from detector.architectures import ARCHITECTURES, Network, build_network, find_architecture
from detector.assets import find_folder
from detector.errors import UserError
from detector.faces import CROP_MARGIN
from detector.provenance import hash_file
from detector.records import SIGNS, Calibration, ModelInfo
from detector.scoring import Detector, Ensemble, choose_device, to_device

FOLDER = find_folder("weights")
HEADER = "unmask"  # the key of the header that holds the metadata
CLASSES = ("real", "fake")
GOLDEN = "golden."  # prefix of the self-test's tensors, which are not weights
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


@dataclass(frozen=True)
class Entry:
    """A model in the catalogue."""

    name: str
    architecture: str
    title: str
    file: str | None = None
    sha256: str | None = None
    repository: str | None = None
    revision: str | None = None
    members: tuple[str, ...] = ()
    """The models that an ensemble averages."""


@dataclass(frozen=True)
class Catalogue:
    """The content of weights/catalogue.json."""

    default: str
    entries: dict[str, Entry]
    folder: Path

    def find(self, name: str) -> Entry:
        """A model's entry; `default` is the model that the app uses unless told otherwise."""
        wanted = self.default if name == "default" else name
        if wanted not in self.entries:
            known = ", ".join(self.entries)
            raise UserError("unknown_model", f"There is no model {name!r}. Known are: {known}.")
        return self.entries[wanted]


@cache
def read_catalogue(folder: Path = FOLDER) -> Catalogue:
    """Read catalogue.json of a folder of weights."""
    stored = json.loads((folder / "catalogue.json").read_text(encoding="utf-8"))
    entries = {
        name: Entry(
            name=name,
            architecture=values.get("architecture", name),
            title=values["title"],
            file=values.get("file"),
            sha256=values.get("sha256"),
            repository=values.get("repository"),
            revision=values.get("revision"),
            members=tuple(values.get("members", ())),
        )
        for name, values in stored["models"].items()
    }
    return Catalogue(stored["default"], entries, folder)


def list_models(*, installed: bool = False) -> list[str]:
    """The names of the catalogue's models; with `installed`, of those whose weights are here."""
    catalogue = read_catalogue()
    return [
        name
        for name, entry in catalogue.entries.items()
        if not installed or find_source(entry, catalogue)
    ]


def golden_input(side: int) -> np.ndarray:
    """The picture of the self-test, the same on every machine: (1, side, side, 3) uint8."""
    y, x = np.mgrid[0:side, 0:side].astype(np.int64)
    rings = ((x - side // 2) ** 2 + (y - side // 3) ** 2) // max(1, side // 4)
    picture = np.stack([(rings * 3) % 256, (x * 5 + rings) % 256, (y * 7 + x) % 256], axis=-1)
    return picture.astype(np.uint8)[None]


def _golden_logit(network: Network, picture: np.ndarray) -> float:
    pixels = torch.from_numpy(picture).permute(0, 3, 1, 2).float() / 255
    network = network.float().cpu().eval()
    with torch.inference_mode():
        return float(network(pixels)[0])


def save_checkpoint(
    path: Path,
    network: Network,
    *,
    margin: float,
    calibration: Calibration | None = None,
    about: Mapping[str, Any] | None = None,
) -> str:
    """Write a network as an fp16 safetensors file with metadata, and return its sha256.

    Args:
        path: the file; an existing one is replaced only after the new one is complete.
        network: the network.
        margin: share of the face's box that crops show around it.
        calibration: temperature, bias and thresholds; uncalibrated by default.
        about: further metadata: training data, figures, licence.
    """
    architecture = network.architecture
    network = network.cpu()
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    rounded = build_network(
        architecture.name, side=architecture.side, contrast=architecture.contrast,
        signs=architecture.signs,
    )  # fmt: skip
    _fill(rounded, tensors, path)
    picture = golden_input(architecture.side)
    metadata = {
        "schema": SCHEMA,
        "architecture": architecture.name,
        "side": architecture.side,
        "mean": architecture.mean,
        "std": architecture.std,
        "contrast": architecture.contrast,
        "signs": architecture.signs,
        "margin": margin,
        "classes": CLASSES,
        "calibration": asdict(calibration or Calibration()),
        "created": datetime.now(UTC).date().isoformat(),
        **(about or {}),
    }
    tensors[GOLDEN + "input"] = torch.from_numpy(picture)
    tensors[GOLDEN + "logit"] = torch.tensor([_golden_logit(rounded, picture)])
    content = save(tensors, metadata={HEADER: json.dumps(metadata)})
    write_whole(path, content)
    return hash_file(path)


def recalibrate(
    checkpoint: Checkpoint,
    path: Path,
    calibration: Calibration,
    figures: Mapping[str, Any],
    scales: Sequence[tuple[float, float]] = (),
) -> str:
    """Write a copy of a checkpoint with another calibration and its figures; its sha256.

    `scales` are a temperature and a bias for each sign; they are folded into the last layer.
    """
    network = load_network(checkpoint)
    if scales:
        head = network.backbone.get_classifier()  # type: ignore[operator]
        temperatures, biases = torch.tensor(scales).T
        with torch.no_grad():
            head.weight /= temperatures[:, None]
            head.bias /= temperatures
            head.bias += biases
    about = {
        **{k: v for k, v in checkpoint.metadata.items() if k not in ("calibration", "created")},
        "figures": {**checkpoint.metadata.get("figures", {}), **_brief(figures)},
    }
    return save_checkpoint(
        path,
        network,
        margin=float(checkpoint.metadata["margin"]),
        calibration=calibration,
        about=about,
    )


def average_checkpoints(checkpoints: Sequence[Checkpoint], path: Path) -> str:
    """Write the mean of several checkpoints' weights, uncalibrated; its sha256.

    The checkpoints must share the architecture, and should share the weights that training began
    with: the mean of unrelated networks is useless.
    """
    first = checkpoints[0].metadata
    for other in checkpoints[1:]:
        for name in ("architecture", "side", "margin", "signs", "contrast"):
            if other.metadata.get(name) != first.get(name):
                raise UserError("weights_mismatch", f"{other.path} has another {name}.")
    networks = [load_network(checkpoint) for checkpoint in checkpoints]
    states = [network.state_dict() for network in networks]
    mean = {
        name: torch.stack([state[name].float() for state in states]).mean(0).to(value.dtype)
        for name, value in states[0].items()
    }
    networks[0].load_state_dict(mean)
    parts = [checkpoint.metadata.get("training", {}) for checkpoint in checkpoints]
    never = set.intersection(*(set(part.get("left_out", ())) for part in parts))
    training = {"mean_of": parts, "left_out": sorted(never)}
    about = {"training": training, "licence": first.get("licence", "")}
    return save_checkpoint(path, networks[0], margin=float(first["margin"]), about=about)


def _brief(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of an evaluation that are stored in the checkpoint."""
    return {
        "video AUC": figures["auc"],
        **{f"video AUC, {kind}": value for kind, value in figures["auc_by_kind"].items()},
        **{f"video AUC, {name}": value for name, value in figures["auc_by_dataset"].items()},
        "real clips called manipulated": figures["verdicts"]["real"]["manipulated"],
    }


def convert_state(
    source: Path, architecture: str, path: Path, *, margin: float = CROP_MARGIN
) -> str:
    """Convert a plain state dict (.pth or .safetensors) into a checkpoint; its sha256.

    The prefixes `module.` and `backbone.` are removed from the names.
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
    _fill(network, {f"backbone.{n}": t for n, t in names.items()}, source)
    return save_checkpoint(path, network, margin=margin, about={"converted_from": source.name})


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically; raises UserError `disk_full`."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError("disk_full", f"{path} could not be written: {error.strerror}.") from error


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
        raise UserError("weights_mismatch", f"{path} tells other classes apart than {CLASSES}.")
    return metadata


def resolve_weights(
    name: str = "default",
    path: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    catalogue: Catalogue | None = None,
) -> Checkpoint:
    """Find a model's checkpoint and check its hash.

    Args:
        name: a model of the catalogue, or `default`.
        path: a checkpoint file to use in place of the catalogue's.
        download: fetch it from the Hub if it is not on this machine.
        catalogue: another catalogue than the embedded one.

    Raises:
        UserError: `missing_file`, `unknown_model`, `no_weights`, `no_network`, `weights_corrupt`,
            `weights_mismatch`; the message says what to do.
    """
    if path is not None:
        given = Path(path)
        if not given.is_file():
            raise UserError("missing_file", f"There is no weights file {given}.")
        metadata = read_metadata(given)
        if name not in ("default", metadata["architecture"]):
            raise UserError(
                "weights_mismatch",
                f"{given} holds weights of {metadata['architecture']}, not of {name}.",
            )
        return Checkpoint(metadata["architecture"], given, "path", hash_file(given), metadata)
    catalogue = catalogue or read_catalogue()
    entry = catalogue.find(name)
    file, source = _locate(entry, catalogue, download)
    sha256 = hash_file(file)
    if sha256 != entry.sha256:
        raise UserError(
            "weights_corrupt",
            f"{file} is not the file that the catalogue names (sha256 {sha256[:12]}…, "
            f"expected {str(entry.sha256)[:12]}…). Delete it and fetch it again.",
        )
    metadata = read_metadata(file)
    if metadata["architecture"] != entry.architecture:
        raise UserError("weights_mismatch", f"{file} holds weights of {metadata['architecture']}.")
    return Checkpoint(entry.name, file, source, sha256, metadata)


def _locate(entry: Entry, catalogue: Catalogue, download: bool) -> tuple[Path, str]:
    if entry.file and entry.sha256:
        embedded = catalogue.folder / entry.file
        if embedded.is_file():
            return embedded, "embedded"
        if entry.repository:
            return _fetch(entry, download)
    raise UserError(
        "no_weights",
        f"{entry.title} has no weights yet. Train it (python -m detector train --recipes) and "
        "pass the file with --weights, or choose another model.",
    )


def _fetch(entry: Entry, download: bool) -> tuple[Path, str]:
    repository, file, revision = str(entry.repository), str(entry.file), entry.revision
    held = try_to_load_from_cache(repository, file, revision=revision)
    if isinstance(held, str):
        return Path(held), "cache"
    if not download:
        raise UserError(
            "no_weights",
            f"{entry.title} is not on this machine: python -m detector weights download "
            f"{entry.name}",
        )
    try:
        return Path(hf_hub_download(repository, file, revision=revision)), "hub"
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            "no_network",
            f"The weights of {entry.title} could not be fetched from the Hub: "
            f"{type(error).__name__}. Connect to the network, or choose a model that is embedded.",
        ) from error


def find_source(entry: Entry, catalogue: Catalogue | None = None) -> str | None:
    """Where a model's weights are: embedded, cache or ensemble; None if not on this machine."""
    catalogue = catalogue or read_catalogue()
    if entry.members:
        found = [find_source(catalogue.find(m), catalogue) for m in entry.members]
        return "ensemble" if all(found) else None
    try:
        return _locate(entry, catalogue, download=False)[1]
    except UserError:
        return None


def load_network(checkpoint: Checkpoint) -> Network:
    """Build a checkpoint's network and load its weights, in evaluation mode."""
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
        signs=tuple(metadata.get("signs", SIGNS[:1])),
    )  # fmt: skip
    _fill(network, _read_tensors(checkpoint.path), checkpoint.path)
    return network.eval()


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, "pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError("weights_corrupt", f"{path} is damaged: {error}.") from error


def _fill(network: Network, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
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


def verify_checkpoint(checkpoint: Checkpoint) -> float:
    """Run a checkpoint's self-test; the difference from the logit stored with it."""
    tensors = _read_tensors(checkpoint.path)
    if GOLDEN + "input" not in tensors:
        raise UserError("weights_mismatch", f"{checkpoint.path} carries no golden input.")
    logit = _golden_logit(load_network(checkpoint), tensors[GOLDEN + "input"].numpy())
    off = abs(logit - float(tensors[GOLDEN + "logit"][0]))
    if not off <= GOLDEN_TOLERANCE:
        raise UserError(
            "weights_corrupt",
            f"{checkpoint.path} gives {logit:.3f} on its golden input, not "
            f"{float(tensors[GOLDEN + 'logit'][0]):.3f}.",
        )
    return off


def load_detector(
    name: str = "default",
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    catalogue: Catalogue | None = None,
) -> Detector | Ensemble:
    """Load a detector or an ensemble.

    Args:
        name: a model of the catalogue, or `default`.
        weights: a checkpoint file to use in place of the catalogue's.
        device: auto, cpu, cuda or mps.
        catalogue: another catalogue than the embedded one.

    Raises:
        UserError: see `resolve_weights`; `no_device`.
    """
    chosen = torch.device(choose_device(device))
    if weights is None:
        catalogue = catalogue or read_catalogue()
        entry = catalogue.find(name)
        if entry.members:
            members = [
                load_detector(member, device=device, catalogue=catalogue)
                for member in entry.members
            ]
            return Ensemble.join(entry.name, [m for m in members if isinstance(m, Detector)])
    checkpoint = resolve_weights(name, weights, catalogue=catalogue)
    network = to_device(load_network(checkpoint), chosen)
    stored = dict(checkpoint.metadata["calibration"])
    stored["real_logits"] = tuple(stored.get("real_logits", ()))
    stored["signs"] = network.architecture.signs
    calibration = Calibration(**stored)
    info = ModelInfo(
        checkpoint.name, checkpoint.source, checkpoint.sha256, calibration.calibrated,
        checkpoint.metadata.get("figures", {}),
    )  # fmt: skip
    return Detector(info, network, calibration, float(checkpoint.metadata["margin"]), chosen)


def push_checkpoint(path: Path, repository: str, token: str | None) -> str:
    """Upload a checkpoint and the MODEL_CARD.md beside it; the URL of the commit."""
    if not token:
        raise UserError("no_token", "Set HF_TOKEN to a token that may write to the repository.")
    read_metadata(path)
    api = HfApi(token=token)
    try:
        api.create_repo(repository, exist_ok=True)
        card = path.parent / "MODEL_CARD.md"
        if card.is_file():
            api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repository)
        commit = api.upload_file(path_or_fileobj=path, path_in_repo=path.name, repo_id=repository)
    except (HfHubHTTPError, OSError) as error:
        raise UserError("no_network", f"The upload to {repository} failed: {error}.") from error
    return str(commit.commit_url)
