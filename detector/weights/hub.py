"""The Hub: fetch and upload checkpoints. The only importer of huggingface_hub."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from detector.architectures import find_architecture
from detector.errors import UserError
from detector.provenance import hash_file
from detector.records import SIGNS
from detector.weights.catalogue import Entry
from detector.weights.checkpoint import read_metadata


def fetch(entry: Entry, download: bool) -> tuple[Path, str]:
    """Get a model's file from the Hub's cache, or from the Hub.

    Args:
        entry: a model with a repository.
        download: fetch the file if it is not in the cache.

    Returns:
        The file, and where it came from: cache or hub.

    Raises:
        UserError: `no_weights` if it is not in the cache and not to be fetched, `no_network`.
    """
    repository, file, revision = str(entry.repository), str(entry.file), entry.revision
    cached = try_to_load_from_cache(repository, file, revision=revision)
    if isinstance(cached, str):
        return Path(cached), "cache"
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


def push_checkpoint(path: Path, repository: str, token: str | None) -> tuple[str, dict[str, str]]:
    """Upload a checkpoint with its model card.

    Args:
        path: the checkpoint. The card is the MODEL_CARD.md beside it, or made from its header.
        repository: OWNER/NAME on the Hub; made if it does not exist.
        token: a Hub token that may write to it.

    Returns:
        The URL of the commit, and the entry for weights/catalogue.json.

    Raises:
        UserError: `no_token`, `no_network`, `weights_corrupt`, `weights_mismatch`.
    """
    if not token:
        raise UserError("no_token", "Set HF_TOKEN to a token that may write to the repository.")
    metadata = read_metadata(path)
    sha256 = hash_file(path)
    written = path.parent / "MODEL_CARD.md"
    if written.is_file():
        card = written.read_text(encoding="utf-8")
    else:
        card = describe_checkpoint(metadata)
    api = HfApi(token=token)
    try:
        api.create_repo(repository, exist_ok=True)
        api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=repository)
        commit = api.upload_file(path_or_fileobj=path, path_in_repo=path.name, repo_id=repository)
    except (HfHubHTTPError, OSError) as error:
        raise UserError("no_network", f"The upload to {repository} failed: {error}.") from error
    entry = {
        "architecture": str(metadata["architecture"]), "file": path.name, "sha256": sha256,
        "repository": repository, "revision": str(commit.oid),
    }  # fmt: skip
    return str(commit.commit_url), entry


def describe_checkpoint(metadata: Mapping[str, Any]) -> str:
    """A model card made from a checkpoint's metadata."""
    licence = metadata.get("licence") or "not stated"
    figures = metadata.get("figures") or {}
    training = json.dumps(metadata.get("training", {}), indent=1)
    lines = [
        "---", f"license: {'apache-2.0' if licence == 'Apache-2.0' else 'other'}",
        "pipeline_tag: image-classification", "---",
        f"# {find_architecture(metadata['architecture']).title}", "",
        "A deepfake detector for Unmask. A verdict is evidence, not proof.", "",
        f"- Licence: {licence}",
        f"- Answers: {', '.join(metadata.get('signs', SIGNS[:1]))}",
        f"- Input: {metadata['side']} pixels, {metadata['margin']} of the face's box around it",
        f"- Calibrated: {'yes' if metadata['calibration'].get('calibrated') else 'no'}",
        f"- Made: {metadata['created']}",
        *(f"- {name}: {value}" for name, value in figures.items()),
        "", "## Training", "", "```json", training, "```",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"
