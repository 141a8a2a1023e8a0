"""Two processes, parts of a batch, and another number of processes than before learn what one process learns."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embodied.cli import main
from policies.checkpoint import load_checkpoint
from policies.training.folder import STATE
from policies.training.saving import newest
from tests.tiny_policy import TOY_PLAN, record_toy, tiny_checkpoint
from tests.training_data import Material, finish, losses_of, start_team

STEPS = 6
TOLERANCE = 2e-5  # of a loss: sums are taken in another order, in float32
RUNS = {  # what two processes run; each more arguments for the same command
    "ddp": ("--steps", "6"),
    "fsdp": ("--steps", "6", "--shard"),
    "ddp in parts": ("--steps", "6", "--accumulate", "2"),
    "fsdp in parts": ("--steps", "6", "--accumulate", "2", "--shard"),
    "begun by two": ("--steps", "6", "--save-every", "3", "--shard"),
}


@pytest.fixture(scope="module")
def alone(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main(material.arguments(out, "--steps", str(STEPS), "--save-every", "3")) == 0
    return out


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Make a model with weights of a single row, of which a second process has none, and others of no numbers."""
    folder = tmp_path_factory.mktemp("thin")
    tiny_checkpoint(replace(TOY_PLAN, labels=(), latents=1)).save(folder / "tiny")
    (folder / "texts.txt").write_text("wait\n")
    return Material(record_toy(folder / "toy_data", episodes=1, labels=False), folder / "tiny", folder / "texts.txt")


@pytest.fixture(scope="module")
def together(material: Material, thin: Material, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Train in two processes, once in each way, and resume with two what one began."""
    folder = tmp_path_factory.mktemp("together")
    outs = {name: folder / name for name in RUNS}
    one, empty = folder / "begun by one", folder / "empty shards"
    assert main(material.arguments(one, "--steps", "3", "--decay", "0")) == 0
    assert main(thin.arguments(empty, "--steps", "1", "--decay", "0")) == 0
    commands = [material.arguments(outs[name], *more) for name, more in RUNS.items()]
    commands.append(material.arguments(one, "--steps", str(STEPS), "--decay", "0", "--resume", "--shard"))
    commands.append(material.arguments(folder / "steady", "--steps", str(STEPS), "--decay", "0"))
    commands.append(thin.arguments(empty, "--steps", "2", "--decay", "0", "--resume", "--shard"))
    commands.append(material.arguments(folder / "dry", "--steps", "2", "--dry-run"))
    team = start_team(commands, folder / "log")
    assert [finish(process) for process in team] == [0, 0], (folder / "log.0").read_text()
    return {**outs, "begun by one": one, "steady": folder / "steady", "empty shards": empty, "log": folder / "log"}


def curve(out: Path) -> list[float]:
    return [entry["loss"] for entry in losses_of(out)]


def weights(out: Path) -> dict[str, np.ndarray]:
    return {name: tensor.float().numpy() for name, tensor in load_checkpoint(out).model.state_dict().items()}


@pytest.mark.parametrize("name", ["ddp", "fsdp", "ddp in parts", "fsdp in parts"])
def test_two_processes_have_the_loss_curve_of_one(together: dict[str, Path], alone: Path, name: str) -> None:
    assert len(curve(together[name])) == STEPS
    np.testing.assert_allclose(curve(together[name]), curve(alone), rtol=TOLERANCE)


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_two_processes_leave_the_policy_that_one_leaves(together: dict[str, Path], alone: Path, name: str) -> None:
    theirs, its = weights(together[name]), weights(alone)
    for key in its:
        np.testing.assert_allclose(theirs[key], its[key], atol=2e-3, err_msg=key)  # bfloat16 rounds them


def test_a_batch_learnt_in_parts_has_the_same_loss_curve(material: Material, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    assert main(material.arguments(out, "--steps", str(STEPS), "--accumulate", "4")) == 0
    np.testing.assert_allclose(curve(out), curve(alone), rtol=TOLERANCE)


def test_shards_leave_a_file_for_each_process(together: dict[str, Path]) -> None:
    state = newest(together["fsdp"] / STATE)
    assert state is not None and len(list(state.glob("*.safetensors"))) == 2


def test_one_process_goes_on_with_what_two_began(material: Material, together: dict[str, Path]) -> None:
    out = together["begun by two"]
    assert main(material.arguments(out, "--steps", str(STEPS + 2), "--resume")) == 0
    assert [entry["step"] for entry in losses_of(out)] == list(range(1, STEPS + 3))


def test_two_processes_go_on_with_what_one_began(together: dict[str, Path]) -> None:
    np.testing.assert_allclose(curve(together["begun by one"]), curve(together["steady"]), rtol=TOLERANCE)


def test_a_process_that_holds_none_of_a_weight_goes_on_with_what_one_began(together: dict[str, Path]) -> None:
    assert [entry["step"] for entry in losses_of(together["empty shards"])] == [1, 2]


def test_one_process_alone_tells_what_came_of_it(together: dict[str, Path]) -> None:
    first, second = (Path(f"{together['log']}.{rank}").read_text() for rank in (0, 1))
    assert "wrote" in first and "parameters" in first
    assert "wrote" not in second and "parameters" not in second


def test_shards_without_processes_are_refused(
    material: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(material.arguments(tmp_path / "run", "--steps", "1", "--shard")) == 2
    assert "torchrun --nproc-per-node" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_batch_that_cannot_be_split_is_refused(
    material: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(material.arguments(tmp_path / "run", "--steps", "1", "--accumulate", "3")) == 2
    assert "it takes a multiple of 3" in capsys.readouterr().err


def test_more_processes_than_gpus_are_told_how_many_there_can_be(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert main(material.arguments(tmp_path / "run", "--steps", "1")) == 2
    assert "process 1 of this machine has no GPU of its own: torchrun --nproc-per-node 1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--shard",)])
def test_torchrun_starts_the_same_command(
    material: Material, alone: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*torchrun, "-m", "--", "embodied", *material.arguments(out, "--steps", str(STEPS), *more)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(curve(out), curve(alone), rtol=TOLERANCE)
