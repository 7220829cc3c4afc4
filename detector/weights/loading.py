"""A model's name or a file -> a verified checkpoint, or a detector.

A checkpoint is looked for in this order: the given path, `weights/`, the Hub's cache, the Hub.
Nothing is ever substituted silently.
"""

import os
from pathlib import Path

import torch

from detector.architectures import fold_norms
from detector.errors import UserError
from detector.provenance import hash_file
from detector.records import SIGNS, Calibration, ModelInfo
from detector.scoring import Detector, Ensemble, choose_device, to_device
from detector.weights.catalogue import Catalogue, Entry, how_to_get, read_catalogue
from detector.weights.checkpoint import Checkpoint, load_network, read_metadata
from detector.weights.hub import fetch


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

    Returns:
        The checkpoint, its header read and its architecture checked.

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


def list_models(*, installed: bool = False) -> list[str]:
    """The names of the catalogue's models; with `installed`, of those whose weights are here."""
    catalogue = read_catalogue()
    return [
        name
        for name, entry in catalogue.entries.items()
        if not installed or find_source(entry, catalogue)
    ]


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

    Returns:
        The detector, ready to score; an Ensemble for the name of an ensemble.

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
    network = load_network(checkpoint)
    fold_norms(network)
    network = to_device(network, chosen)
    info, calibration, margin = parse_metadata(checkpoint)
    return Detector(info, network, calibration, margin, chosen)


def parse_metadata(checkpoint: Checkpoint) -> tuple[ModelInfo, Calibration, float]:
    """A checkpoint's metadata as records: (model, calibration, crop margin)."""
    metadata = checkpoint.metadata
    stored = dict(metadata["calibration"])
    stored["real_logits"] = tuple(stored.get("real_logits", ()))
    stored["signs"] = tuple(metadata.get("signs", SIGNS[:1]))
    calibration = Calibration(**stored)
    info = ModelInfo(
        checkpoint.name, checkpoint.source, checkpoint.sha256, calibration.calibrated,
        metadata.get("figures", {}),
    )  # fmt: skip
    return info, calibration, float(metadata["margin"])


def _locate(entry: Entry, catalogue: Catalogue, download: bool) -> tuple[Path, str]:
    """A model's file, and where it was found: embedded, cache or hub."""
    if entry.file and entry.sha256:
        embedded = catalogue.folder / entry.file
        if embedded.is_file():
            return embedded, "embedded"
        if entry.repository:
            return fetch(entry, download)
    raise UserError(
        "no_weights",
        f"{entry.title} has no weights yet. Train it ({how_to_get(entry)}) and pass the file "
        "with --weights, or choose another model.",
    )
