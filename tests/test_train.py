import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from codes import raises_code

from detector.architectures import Architecture, Network, build_network
from detector.training.losses import paired_loss, per_cell_loss, weighted_loss
from detector.training.metrics import class_weights
from detector.training.train import TrainingSample, TrainSettings, Validation, train

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
    "OMP_NUM_THREADS": "1",
}  # fmt: skip
"""For a process that imports this file."""

SIDE = 64
FAST = TrainSettings(
    "test_efficientnet", steps=40, batch=8, learning_rate=3e-3, ema_decay=0.9, validate_every=20,
    workers=0, dropout=0.0, label_smoothing=0.0,
)  # fmt: skip


QUICK = replace(FAST, steps=2, validate_every=2)


def make(number: int) -> TrainingSample:
    """A bright and a dark picture: anything can learn to tell them apart."""
    rng = np.random.default_rng(number)
    dark = rng.integers(0, 120, (SIDE, SIDE, 3), np.uint8)
    return TrainingSample(np.stack([dark, dark + 100]), np.array([0, 1], np.float32))


def validation() -> Validation:
    pairs = [make(10_000 + n) for n in range(20)]
    return Validation(np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs]))


def run(out: Path, settings: TrainSettings = FAST, **options: object) -> list[dict[str, float]]:
    torch.manual_seed(0)
    return train(
        build_network("test_efficientnet"), make, 2, {"held": validation()}, out, settings,
        **options,
    )  # type: ignore[arg-type]  # fmt: skip


def test_training_learns_logs_and_keeps_the_best(tmp_path: Path) -> None:
    kept = []
    log = run(tmp_path, keep=lambda network, row, step: kept.append((step, row["held"])))
    assert log[-1]["held"] > 0.95
    assert log[-1]["loss"] < log[0]["loss"]
    assert kept[-1][1] == max(row["held"] for row in log)
    with (tmp_path / "log.csv").open() as file:
        assert [float(r["step"]) for r in csv.DictReader(file)] == [20, 40]


def test_with_a_constant_rate_the_average_weighs_late_steps_most(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    name = "backbone.classifier.weight"

    def look(stage: str, fraction: float) -> None:
        state = torch.load(tmp_path / "resume.pt", weights_only=True)
        seen.append(state["network"][name])
        if fraction == 1:
            # The mean of order k gives step t the weight t (t+1) ... (t+k-1), here k = 3.
            shares = torch.tensor([float(t * (t + 1) * (t + 2)) for t in range(1, 11)])
            mean = (torch.stack(seen) * (shares / shares.sum())[:, None, None]).sum(0)
            torch.testing.assert_close(state["averaged"][name], mean)

    settings = replace(FAST, steps=10, constant_lr=True, validate_every=5, save_every=0.0)
    log = run(tmp_path, settings, progress=look)
    assert len(seen) == 10
    assert [row["rate"] for row in log] == [FAST.learning_rate] * 2


def test_workers_start_after_pictures_were_worked_on(tmp_path: Path) -> None:
    script = """
import sys
from dataclasses import replace
from pathlib import Path
import cv2
import numpy as np
from test_train import QUICK, run
cv2.setNumThreads(2)
cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.float32), (0, 0), 5)
run(Path(sys.argv[1]), replace(QUICK, workers=1))
assert cv2.getNumThreads() == 2
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    subprocess.run(command, check=True, timeout=100, env=ENVIRONMENT)


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", keep=None)

    class Killed(Exception):
        pass

    def kill(stage: str, fraction: float) -> None:
        if fraction > 0.7:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "killed", progress=kill)
    state = torch.load(tmp_path / "killed" / "resume.pt", weights_only=True)
    assert state["step"] == 20
    resumed = run(tmp_path / "killed", resume=True)
    assert resumed[-1]["loss"] == pytest.approx(whole[-1]["loss"], abs=1e-3)
    assert resumed[-1]["held"] == pytest.approx(whole[-1]["held"], abs=1e-3)


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path, QUICK)
    with raises_code("bad_run"):
        run(tmp_path, QUICK)


def test_a_full_disk_keeps_the_previous_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, QUICK)
    before = (tmp_path / "resume.pt").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    longer = replace(QUICK, steps=4)
    with raises_code("disk_full"):
        run(tmp_path, longer, resume=True)
    assert (tmp_path / "resume.pt").read_bytes() == before


def test_resuming_another_architecture_is_refused(tmp_path: Path) -> None:
    run(tmp_path, QUICK)
    other = replace(QUICK, architecture="plain_cnn")
    with raises_code("bad_run"):
        train(build_network("plain_cnn"), make, 2, {}, tmp_path, other, resume=True)


def test_class_weights_are_in_the_loss() -> None:
    logits, labels = torch.tensor([0.5, -1.0, 2.0, 0.1]), torch.tensor([0.0, 0.0, 0.0, 1.0])
    weights = class_weights(labels.numpy())
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, labels, weight=torch.tensor([2 / 3, 2 / 3, 2 / 3, 2.0])
    )
    assert weighted_loss(logits, labels, tuple(weights)).item() == pytest.approx(expected.item())


def test_focal_loss_dwells_on_the_hard() -> None:
    labels = torch.ones(1)
    easy, hard = (
        weighted_loss(torch.tensor([x]), labels, (1, 1), focal=2.0)
        / weighted_loss(torch.tensor([x]), labels, (1, 1))
        for x in (3.0, -3.0)
    )
    assert easy < 0.01 < 0.8 < hard


def test_frozen_layers_stay(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network("test_efficientnet")
    before = network.backbone.conv_stem.weight.clone()
    settings = replace(FAST, frozen="conv_stem", steps=3)
    train(network, make, 2, {}, tmp_path, settings)
    assert torch.equal(before, network.backbone.conv_stem.weight)


def test_resume_pt_holds_the_settings(tmp_path: Path) -> None:
    run(tmp_path, QUICK)
    state = torch.load(tmp_path / "resume.pt", weights_only=True)
    assert json.loads(state["settings"])["architecture"] == "test_efficientnet"


ONE_OF_TWO = """
import os, sys
from pathlib import Path
from test_train import train_flat_network

train_flat_network(Path(sys.argv[1]) / f"rank{os.environ['RANK']}")
"""


def train_flat_network(out: Path) -> dict[str, torch.Tensor]:
    """The weights after four steps, which are also written to final.pt."""
    network = flat_network()
    train(network, make, 2, {}, out, replace(FAST, steps=4))
    torch.save(network.state_dict(), out / "final.pt")
    return network.state_dict()


def flat_network() -> Network:
    """Without batch statistics, which each process takes of its own share."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 5, stride=4), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, stride=2),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 1),
    )  # fmt: skip
    architecture = Architecture(
        "test_efficientnet", "Flat", None, SIDE, (0.5,) * 3, (0.5,) * 3, "0"
    )
    return Network(architecture, layers)


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(ONE_OF_TWO, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", str(script), str(tmp_path / "two")],
        capture_output=True, text=True, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    one = train_flat_network(tmp_path / "one")
    for rank in ("rank0", "rank1"):
        two = torch.load(tmp_path / "two" / rank / "final.pt", weights_only=True)
        for name, value in one.items():
            assert torch.allclose(value, two[name], atol=2e-3), name
    start = flat_network().state_dict()
    assert not torch.allclose(start["backbone.0.weight"], one["backbone.0.weight"], atol=4e-3)


def test_paired_loss_by_hand() -> None:
    labels = torch.tensor([0.0, 1.0, 0.0, 0.0])
    logits = torch.tensor([-1.0, 2.0, -2.0, -4.0])  # the second pair holds two real halves
    order = torch.nn.functional.softplus(torch.tensor(-3.0)) / 2
    away = 0.2 * (1.0 + 0.0 + 4.0) / 3
    assert paired_loss(logits, labels, -2.0).item() == pytest.approx(order.item() + away, abs=1e-6)


def test_a_pair_that_cannot_be_told_apart_ends_at_the_target() -> None:
    """Where cross-entropy would answer with even odds, far above a clean real face."""
    labels = torch.tensor([0.0, 1.0])
    z = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.SGD([z], lr=0.1)
    for _ in range(300):
        loss = paired_loss(z.repeat(2), labels, -2.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert z.item() == pytest.approx(-2, abs=0.01)


def test_per_cell_loss_by_hand() -> None:
    maps = torch.tensor([[[-2.0, -1.0]], [[1.0, -2.0]]])
    mask_grid = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]]])  # the left cell of the second was forged
    order = torch.nn.functional.softplus(torch.tensor(-3.0)).item()
    away = 0.1 * (0.0 + 1.0 + 0.0 + 0.0) / 2
    assert per_cell_loss(maps, mask_grid, -2.0).item() == pytest.approx(order + away, abs=1e-6)


def test_the_map_rises_where_the_forgery_is(tmp_path: Path) -> None:
    """A bright square in one half of the picture: the map rises there, and not beside it."""

    def located_pair(number: int) -> TrainingSample:
        rng = np.random.default_rng(number)
        plain = rng.integers(60, 160, (SIDE, SIDE, 3), np.uint8)
        forged, mask = plain.copy(), np.zeros((2, 4, 4), np.float32)
        half = int(rng.integers(2))
        forged[:, half * 32 : half * 32 + 32] += 90
        mask[1, :, half * 2 : half * 2 + 2] = 1
        return TrainingSample(np.stack([plain, forged]), np.array([0, 1], np.float32), mask)

    torch.manual_seed(0)
    network = build_network("test_efficientnet")
    settings = replace(FAST, steps=120, real_target_logit=-2.0, per_cell_loss=True)
    train(network, located_pair, 2, {}, tmp_path, settings)
    inside, beside = [], []
    for number in range(10_000, 10_020):
        crops, _, mask_grid = located_pair(number)
        with torch.inference_mode():
            pictures = torch.from_numpy(crops[1:]).permute(0, 3, 1, 2) / 255
            (found,) = network.eval().locate(pictures)
        mask = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(mask_grid[1:]), found.shape)
        inside.append(found[mask[0] > 0.5].mean().item())
        beside.append(found[mask[0] < 0.5].mean().item())
    assert np.mean(inside) > np.mean(beside) + 1
