"""Weights: the catalogue, checkpoint files, the Hub, and loading a detector."""

from detector.weights.catalogue import FOLDER, Catalogue, Entry, how_to_get, read_catalogue
from detector.weights.checkpoint import (
    Checkpoint,
    average_checkpoints,
    convert_state,
    golden_input,
    load_network,
    read_metadata,
    recalibrate,
    save_checkpoint,
    verify_checkpoint,
    write_atomically,
)
from detector.weights.hub import push_checkpoint
from detector.weights.loading import (
    find_source,
    list_models,
    load_detector,
    parse_metadata,
    resolve_weights,
)

__all__ = [
    "FOLDER",
    "Catalogue",
    "Checkpoint",
    "Entry",
    "average_checkpoints",
    "convert_state",
    "find_source",
    "golden_input",
    "how_to_get",
    "list_models",
    "load_detector",
    "load_network",
    "parse_metadata",
    "push_checkpoint",
    "read_catalogue",
    "read_metadata",
    "recalibrate",
    "resolve_weights",
    "save_checkpoint",
    "verify_checkpoint",
    "write_atomically",
]
