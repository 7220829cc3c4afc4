import base64
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from codes import raises_code
from huggingface_hub import constants
from huggingface_hub import file_download as download
from safetensors import safe_open
from safetensors.torch import save_file

from detector import scoring
from detector.__main__ import main
from detector.architectures import ARCHITECTURES, build_network
from detector.errors import UserError
from detector.provenance import hash_file
from detector.records import SIGNS, Calibration
from detector.scoring import Ensemble
from detector.training.recipes import RECIPES
from detector.weights import (
    Catalogue,
    Entry,
    convert_state,
    find_source,
    golden_input,
    how_to_get,
    load_detector,
    push_checkpoint,
    read_catalogue,
    read_metadata,
    resolve_weights,
    save_checkpoint,
    verify_checkpoint,
    write_atomically,
)


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


def test_verify_accepts_a_sound_checkpoint(checkpoint: Path) -> None:
    assert verify_checkpoint(resolve_weights(path=checkpoint)) < 0.02  # computed in bf16


def test_verify_computes_in_the_precision_of_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where scans compute in bf16, the self-test of the embedded detector does, and passes."""
    off = []
    for half in (False, True):
        monkeypatch.setattr(scoring, "has_fast_half", lambda _, half=half: half)
        off.append(verify_checkpoint(resolve_weights("default")))
    assert off[0] < 1e-3 < off[1]


def test_verify_notices_other_weights_under_the_same_golden_answer(
    checkpoint: Path, tmp_path: Path
) -> None:
    with safe_open(checkpoint, "pt") as opened:
        tensors = {n: opened.get_tensor(n) for n in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata()
    tensors["backbone.classifier.bias"] = tensors["backbone.classifier.bias"] + 1
    path = tmp_path / "other.safetensors"
    save_file(tensors, path, metadata=metadata)
    with raises_code("weights_corrupt"):
        verify_checkpoint(resolve_weights(path=path))


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_damaged_files_are_refused(checkpoint: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bad.safetensors"
    whole = checkpoint.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"no", "empty": b""}[damage])
    with raises_code("weights_corrupt"):
        load_detector(weights=path)


def test_tampered_embedded_file_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    data = bytearray(checkpoint.read_bytes())
    data[-5] ^= 1
    (tmp_path / checkpoint.name).write_bytes(data)
    with raises_code("weights_corrupt"):
        resolve_weights("tiny", catalogue=catalogue_of(tmp_path, tiny=tiny_entry(checkpoint)))


def test_other_architecture_is_refused(checkpoint: Path) -> None:
    with raises_code("weights_mismatch"):
        resolve_weights("xception", checkpoint)


def test_header_of_another_architecture_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with safe_open(checkpoint, "pt") as opened:
        tensors = {n: opened.get_tensor(n) for n in opened.keys()}  # noqa: SIM118
        metadata = json.loads(opened.metadata()["unmask"])
    metadata |= {"architecture": "plain_cnn", "mean": [0.5] * 3, "std": [0.5] * 3}
    path = tmp_path / "lying.safetensors"
    save_file(tensors, path, metadata={"unmask": json.dumps(metadata)})
    with raises_code("weights_mismatch"):
        load_detector(weights=path)


def test_model_without_weights_says_how_to_get_them() -> None:
    with raises_code("no_weights", match="Train it"):
        load_detector("xception")


def test_unknown_model_lists_the_known() -> None:
    with raises_code("unknown_model", match="efficientnet_lite0"):
        load_detector("resnet_of_dreams")


def test_missing_file() -> None:
    with raises_code("missing_file"):
        load_detector(weights="/nowhere/at/all.safetensors")


def test_the_catalogue_names_known_architectures_and_members() -> None:
    catalogue = read_catalogue()
    for entry in catalogue.entries.values():
        assert entry.members or entry.architecture in ARCHITECTURES
        assert set(entry.members) <= set(catalogue.entries)
    assert find_source(catalogue.find("default"))


def test_every_model_names_the_command_that_gets_its_weights() -> None:
    for entry in read_catalogue().entries.values():
        way = how_to_get(entry)
        if not entry.members:
            assert way.startswith("python -m detector train ")
            assert way.endswith(" --data DIR --out RUN")
            recipe = RECIPES[way.split()[4]]
            assert recipe.settings.architecture == entry.architecture
    assert way == "densenet201 + inception_v3"
    on_hub = Entry("tiny", "test_efficientnet", "Tiny", repository="some/one")
    assert how_to_get(on_hub) == "python -m detector weights download tiny"


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
    with raises_code("disk_full"):
        write_atomically(path, b"new")
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
    with raises_code("no_weights"):
        resolve_weights("tiny", download=False, catalogue=catalogue)
    assert resolve_weights("tiny", catalogue=catalogue).source == "hub"
    assert resolve_weights("tiny", download=False, catalogue=catalogue).source == "cache"


def test_download_with_a_wrong_hash_is_refused(
    hub: http.server.HTTPServer, checkpoint: Path, tmp_path: Path
) -> None:
    with raises_code("weights_corrupt"):
        resolve_weights("tiny", catalogue=hub_catalogue(checkpoint, tmp_path, sha256="0" * 64))


def test_a_download_without_a_network_says_so(
    hub: http.server.HTTPServer, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the Hub's client waits between its tries
    hub.shutdown()
    hub.server_close()
    with raises_code("no_network"):
        resolve_weights("tiny", catalogue=hub_catalogue(checkpoint, tmp_path))


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_convert_a_bare_state(tmp_path: Path, prefix: str) -> None:
    network = build_network("plain_cnn")
    state = {prefix + name: value for name, value in network.backbone.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "bare.pth")
    out = tmp_path / "made.safetensors"
    convert_state(tmp_path / "bare.pth", "plain_cnn", out)
    assert verify_checkpoint(resolve_weights(path=out)) < 1e-2
    with raises_code("weights_mismatch"):
        convert_state(tmp_path / "bare.pth", "test_efficientnet", out)


def test_convert_runs_no_code_from_a_pickle(tmp_path: Path) -> None:
    torch.save({"network": Catalogue}, tmp_path / "code.pth")
    with raises_code("weights_corrupt"):
        convert_state(tmp_path / "code.pth", "plain_cnn", tmp_path / "out.safetensors")


def test_push_without_a_token_uploads_nothing(checkpoint: Path) -> None:
    with raises_code("no_token"):
        push_checkpoint(checkpoint, "some/one", None)


class WritableHub(Hub):
    """As much of the Hub as an upload needs: each commit holds all files so far."""

    commits: ClassVar[dict[str, dict[str, bytes]]] = {}
    tokens: ClassVar[set[str | None]] = set()

    def do_GET(self) -> None:
        if self.answer_file():
            self.wfile.write(self.content)

    def do_HEAD(self) -> None:
        self.answer_file()

    def answer_file(self) -> bool:
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        files = self.commits.get(revision, {})
        if repository != "some/one" or name not in files:
            self.send_error(404)
            return False
        self.content, self.commit = files[name], revision
        self.answer()
        return True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.tokens.add(self.headers.get("Authorization"))
        here = f"http://{self.headers['Host']}/some/one"
        if self.path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            self.reply({"files": modes})
        elif self.path.endswith("/commit/main"):
            files = dict(list(self.commits.values())[-1]) if self.commits else {}
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            oid = f"{len(self.commits) + 1:040x}"
            self.commits[oid] = files
            self.reply({"commitUrl": f"{here}/commit/{oid}", "commitOid": oid, "success": True})
        elif self.path == "/api/repos/create":
            self.reply({"url": here, "name": "some/one", "id": "1"})
        else:
            self.reply({})

    def reply(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.mark.parametrize("own_card", [True, False])
def test_what_is_pushed_is_found_by_the_catalogue(
    hub: http.server.HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], own_card: bool,
) -> None:  # fmt: skip
    """The Hub's own client, from the command line to the network that was downloaded."""
    monkeypatch.setattr(hub, "RequestHandlerClass", WritableHub)
    monkeypatch.setattr(WritableHub, "commits", {})
    monkeypatch.setenv("HF_TOKEN", "secret")
    path = tmp_path / "mine" / "tiny.safetensors"
    path.parent.mkdir()
    figures = {"val": 0.834, "val_accuracy": 0.71}
    about = {"figures": figures, "licence": "research only", "training": {"recipe": "tiny"}}
    save_checkpoint(path, build_network("test_efficientnet"), margin=0.5, about=about)
    if own_card:
        (path.parent / "MODEL_CARD.md").write_text("# Own card", encoding="utf-8")
    assert main(["weights", "push", str(path), "some/one", "--yes"]) == 0
    address, said = capsys.readouterr().out.splitlines()
    entry = json.loads(said)
    assert address.endswith(entry["revision"])
    assert entry["sha256"] == hash_file(path)
    assert set(entry) == {"architecture", "file", "sha256", "repository", "revision"}
    assert WritableHub.tokens == {"Bearer secret"}
    card = WritableHub.commits[entry["revision"]]["README.md"].decode()
    if own_card:
        assert card == "# Own card"
    else:
        assert card.startswith("---\nlicense: other\n")
        assert "- Licence: research only\n" in card
        assert "- val: 0.834\n- val_accuracy: 0.71\n" in card
        assert '"recipe": "tiny"' in card
    models = {"tiny": {"title": "Tiny", **entry}}
    (tmp_path / "catalogue.json").write_text(
        json.dumps({"default": "tiny", "models": models}), encoding="utf-8"
    )
    catalogue = read_catalogue(tmp_path)
    assert find_source(catalogue.find("tiny"), catalogue) is None
    monkeypatch.setattr("detector.weights.loading.read_catalogue", lambda: catalogue)
    assert main(["weights", "download", "tiny"]) == 0
    assert capsys.readouterr().out.endswith("(hub)\n")
    found = resolve_weights("tiny", download=False, catalogue=catalogue)
    assert (found.source, found.sha256) == ("cache", entry["sha256"])
    assert found.metadata["figures"] == figures
    assert find_source(catalogue.find("tiny"), catalogue) == "cache"
    assert verify_checkpoint(found) < 1e-3
    other = {**entry, "revision": "f" * 40}
    models["tiny"] |= other
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "catalogue.json").write_text(
        json.dumps({"default": "tiny", "models": models}), encoding="utf-8"
    )
    with pytest.raises(UserError) as caught:  # the revision is pinned
        resolve_weights("tiny", catalogue=read_catalogue(tmp_path / "other"))
    assert caught.value.code == "no_network"
