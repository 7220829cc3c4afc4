"""The Hub: fetch and upload checkpoints. The only importer of huggingface_hub."""

from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from detector.errors import UserError
from detector.weights.catalogue import Entry
from detector.weights.checkpoint import read_metadata


def fetch(entry: Entry, download: bool) -> tuple[Path, str]:
    """(file, cache or hub) of a model; raises UserError `no_weights` or `no_network`."""
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
