import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from detector.architectures import ARCHITECTURES, build_network
from detector.errors import UserError
from detector.provenance import hash_file
from detector.records import SIGNS, Calibration
from detector.scoring import Ensemble
from detector.weights import (
    Catalogue,
    Entry,
    convert_state,
    find_source,
    golden_input,
    load_detector,
    push_checkpoint,
    read_catalogue,
    read_metadata,
    resolve_weights,
    save_checkpoint,
    verify_checkpoint,
    write_whole,
)


def code_of(caught: pytest.ExceptionInfo[UserError]) -> str:
    return caught.value.code


def catalogue_of(folder: Path, **entries: Entry) -> Catalogue:
    return Catalogue(next(iter(entries)), entries, folder)


def tiny_entry(checkpoint: Path, **changes: str | None) -> Entry:
    values = {"file": checkpoint.name, "sha256": hash_file(checkpoint), **changes}
    return Entry("tiny", "test_efficientnet", "Tiny", **values)


def test_checkpoint_explains_itself(checkpoint: Path) -> None:
    metadata = read_metadata(checkpoint)
    assert metadata["architecture"] == "test_efficientnet"
    assert metadata["classes"] == ["real", "fake"]
    assert metadata["calibration"]["upper"] == 0.7
    with safe_open(checkpoint, "pt") as opened:
        assert opened.get_tensor("backbone.conv_stem.weight").dtype == torch.float16


def test_verify_accepts_the_sound_one(checkpoint: Path) -> None:
    assert verify_checkpoint(resolve_weights(path=checkpoint)) < 1e-3


def test_verify_notices_other_weights_under_the_same_golden_answer(
    checkpoint: Path, tmp_path: Path
) -> None:
    with safe_open(checkpoint, "pt") as opened:
        tensors = {n: opened.get_tensor(n) for n in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata()
    tensors["backbone.classifier.bias"] = tensors["backbone.classifier.bias"] + 1
    path = tmp_path / "other.safetensors"
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(UserError) as caught:
        verify_checkpoint(resolve_weights(path=path))
    assert code_of(caught) == "weights_corrupt"


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_damaged_files_are_refused(checkpoint: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bad.safetensors"
    whole = checkpoint.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"no", "empty": b""}[damage])
    with pytest.raises(UserError) as caught:
        load_detector(weights=path)
    assert code_of(caught) == "weights_corrupt"


def test_tampered_embedded_file_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    data = bytearray(checkpoint.read_bytes())
    data[-5] ^= 1
    (tmp_path / checkpoint.name).write_bytes(data)
    with pytest.raises(UserError) as caught:
        resolve_weights("tiny", catalogue=catalogue_of(tmp_path, tiny=tiny_entry(checkpoint)))
    assert code_of(caught) == "weights_corrupt"


def test_other_architecture_is_refused(checkpoint: Path) -> None:
    with pytest.raises(UserError) as caught:
        resolve_weights("xception", checkpoint)
    assert code_of(caught) == "weights_mismatch"


def test_header_of_another_architecture_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with safe_open(checkpoint, "pt") as opened:
        tensors = {n: opened.get_tensor(n) for n in opened.keys()}  # noqa: SIM118
        metadata = json.loads(opened.metadata()["unmask"])
    metadata |= {"architecture": "plain_cnn", "mean": [0.5] * 3, "std": [0.5] * 3}
    path = tmp_path / "lying.safetensors"
    save_file(tensors, path, metadata={"unmask": json.dumps(metadata)})
    with pytest.raises(UserError) as caught:
        load_detector(weights=path)
    assert code_of(caught) == "weights_mismatch"


def test_model_without_weights_says_how_to_get_them() -> None:
    with pytest.raises(UserError, match="Train it") as caught:
        load_detector("xception")
    assert code_of(caught) == "no_weights"


def test_unknown_model_lists_the_known() -> None:
    with pytest.raises(UserError, match="efficientnet_lite0") as caught:
        load_detector("resnet_of_dreams")
    assert code_of(caught) == "unknown_model"


def test_missing_file() -> None:
    with pytest.raises(UserError) as caught:
        load_detector(weights="/nowhere/at/all.safetensors")
    assert code_of(caught) == "missing_file"


def test_catalogue_is_whole() -> None:
    catalogue = read_catalogue()
    for entry in catalogue.entries.values():
        assert entry.members or entry.architecture in ARCHITECTURES or "rnn" in entry.name
        assert set(entry.members) <= set(catalogue.entries)
    assert find_source(catalogue.find("default"))


@pytest.mark.parametrize("name", ["default", "efficientnet_lite2"])
def test_embedded_checkpoint_is_sound_and_tells_two_signs_apart(name: str) -> None:
    checkpoint = resolve_weights(name)
    assert tuple(checkpoint.metadata["signs"]) == SIGNS
    assert checkpoint.source == "embedded"
    assert verify_checkpoint(checkpoint) < 0.05
    assert checkpoint.metadata["calibration"]["calibrated"]


def test_failed_write_keeps_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"precious")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError) as caught:
        write_whole(path, b"new")
    assert code_of(caught) == "disk_full"
    assert path.read_bytes() == b"precious"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_ensemble_is_the_mean_of_its_calibrated_members(tmp_path: Path) -> None:
    entries = {}
    for number in (1, 2):
        torch.manual_seed(number)
        path = tmp_path / f"{number}.safetensors"
        calibration = Calibration(number, 0.1 * number, 0.2, 0.8, True, (0.0, 1.0))
        save_checkpoint(
            path, build_network("test_efficientnet"), margin=0.5, calibration=calibration
        )
        entries[f"m{number}"] = Entry(
            f"m{number}", "test_efficientnet", "M", file=path.name, sha256=hash_file(path)
        )
    entries["both"] = Entry("both", "both", "Both", members=("m1", "m2"))
    catalogue = catalogue_of(tmp_path, **entries)
    both = load_detector("both", catalogue=catalogue, device="cpu")
    assert isinstance(both, Ensemble)
    crops = list(golden_input(80))
    expected = [
        float(m.score(crops)[0]) / m.calibration.temperature + m.calibration.bias
        for m in both.members
    ]
    assert both.score(crops)[0] == pytest.approx(sum(expected) / 2, abs=1e-3)
    assert both.calibration.real_logits == pytest.approx((0.15, 0.15 + 0.75))


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as a download needs."""

    content = b""
    commit = "a" * 40

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()
        self.wfile.write(self.content)

    def answer(self) -> None:
        if "/resolve/" not in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", '"etag"')
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[http.server.HTTPServer]:
    """A local stand-in for the Hub that holds the tiny checkpoint."""
    Hub.content = checkpoint.read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    import huggingface_hub.constants as constants
    import huggingface_hub.file_download as download

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )  # fmt: skip
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    if hasattr(download, "HUGGINGFACE_CO_URL_TEMPLATE"):
        monkeypatch.setattr(
            download, "HUGGINGFACE_CO_URL_TEMPLATE", constants.HUGGINGFACE_CO_URL_TEMPLATE
        )
    yield server
    server.shutdown()
    server.server_close()


def hub_catalogue(checkpoint: Path, folder: Path, **changes: str | None) -> Catalogue:
    entry = tiny_entry(checkpoint, repository="some/one", revision=Hub.commit, **changes)
    return catalogue_of(folder, tiny=entry)


def test_download_then_cache(hub: http.server.HTTPServer, checkpoint: Path, tmp_path: Path) -> None:
    catalogue = hub_catalogue(checkpoint, tmp_path)
    with pytest.raises(UserError) as caught:
        resolve_weights("tiny", download=False, catalogue=catalogue)
    assert code_of(caught) == "no_weights"
    assert resolve_weights("tiny", catalogue=catalogue).source == "hub"
    assert resolve_weights("tiny", download=False, catalogue=catalogue).source == "cache"


def test_download_with_a_wrong_hash_is_refused(
    hub: http.server.HTTPServer, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        resolve_weights("tiny", catalogue=hub_catalogue(checkpoint, tmp_path, sha256="0" * 64))
    assert code_of(caught) == "weights_corrupt"


def test_no_network_is_said(hub: http.server.HTTPServer, checkpoint: Path, tmp_path: Path) -> None:
    hub.shutdown()
    hub.server_close()
    with pytest.raises(UserError) as caught:
        resolve_weights("tiny", catalogue=hub_catalogue(checkpoint, tmp_path))
    assert code_of(caught) == "no_network"


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_convert_a_bare_state(tmp_path: Path, prefix: str) -> None:
    network = build_network("plain_cnn")
    state = {prefix + name: value for name, value in network.backbone.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "bare.pth")
    out = tmp_path / "made.safetensors"
    convert_state(tmp_path / "bare.pth", "plain_cnn", out)
    assert verify_checkpoint(resolve_weights(path=out)) < 1e-2
    with pytest.raises(UserError) as caught:
        convert_state(tmp_path / "bare.pth", "test_efficientnet", out)
    assert code_of(caught) == "weights_mismatch"


def test_convert_runs_no_code_from_a_pickle(tmp_path: Path) -> None:
    torch.save({"network": Catalogue}, tmp_path / "code.pth")
    with pytest.raises(UserError) as caught:
        convert_state(tmp_path / "code.pth", "plain_cnn", tmp_path / "out.safetensors")
    assert code_of(caught) == "weights_corrupt"


def test_push_without_a_token_uploads_nothing(checkpoint: Path) -> None:
    with pytest.raises(UserError) as caught:
        push_checkpoint(checkpoint, "some/one", None)
    assert code_of(caught) == "no_token"


def test_push_uploads_checkpoint_and_card(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(checkpoint.read_bytes())
    (tmp_path / "MODEL_CARD.md").write_text("# Card", encoding="utf-8")
    sent = []

    class StandIn:
        def __init__(self, token: str) -> None:
            sent.append(token)

        def create_repo(self, repository: str, exist_ok: bool) -> None:
            sent.append(repository)

        def upload_file(self, *, path_in_repo: str, **_: object) -> object:
            sent.append(path_in_repo)
            return type("Commit", (), {"commit_url": "address"})

    monkeypatch.setattr("detector.weights.hub.HfApi", StandIn)
    assert push_checkpoint(path, "some/one", "secret") == "address"
    assert sent == ["secret", "some/one", "README.md", "tiny.safetensors"]
