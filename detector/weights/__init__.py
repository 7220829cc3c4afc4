"""Weights: the catalogue, checkpoint files, the Hub, and loading a detector."""

from detector.weights.catalogue import FOLDER, Catalogue, Entry, read_catalogue, way_to_get
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
    write_whole,
)
from detector.weights.hub import push_checkpoint
from detector.weights.loading import (
    find_source,
    introduce,
    list_models,
    load_detector,
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
    "introduce",
    "list_models",
    "load_detector",
    "load_network",
    "push_checkpoint",
    "read_catalogue",
    "read_metadata",
    "recalibrate",
    "resolve_weights",
    "save_checkpoint",
    "verify_checkpoint",
    "way_to_get",
    "write_whole",
]
