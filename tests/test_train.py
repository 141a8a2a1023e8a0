"""Training learns, resumes to the bit, and answers a user's mistake with one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from embodied.cli import main
from embodied.errors import EmbodiedError, SpecMismatchError
from policies.checkpoint import CONFIG, WEIGHTS, load_checkpoint
from policies.model import PolicyModel
from policies.token import TokenPolicy
from policies.train import Given, TrainConfig, dry_run, train
from policies.training.folder import LOG, STATE
from policies.training.saving import FILE, newest
from policies.training.start import Data, _strides, begin, mix
from tests import toy_world
from tests.policy_contract import random_observation
from tests.tiny_policy import PLAN, TOY_PLAN, record_toy, tiny_checkpoint

Say = Callable[[str], None]
STEPS = 6


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_toy(tmp_path_factory.mktemp("toy") / "toy_data")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a tiny model of random weights, so that a run takes no time."""
    folder = tmp_path_factory.mktemp("start") / "tiny"
    tiny_checkpoint(TOY_PLAN).save(folder)
    return folder


@pytest.fixture
def config(dataset: Path, start: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig((Given(dataset),), tmp_path / "run", STEPS, batch=4, save_every=3, start=start)


def quiet(line: str) -> None:
    """Say nothing."""


def interrupt_at(report: int) -> Say:
    """Return what a user's Ctrl-C at the n-th line said amounts to."""
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == report:
            raise KeyboardInterrupt

    return say


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / WEIGHTS, state_of(folder))}


def state_of(folder: Path) -> Path:
    state = newest(folder / STATE)
    assert state is not None
    return state / FILE


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def interrupted(config: TrainConfig) -> TrainConfig:
    with pytest.raises(KeyboardInterrupt):
        train(config, say=interrupt_at(2))  # the sizes, the report of step 3, the report of step 6
    return config


def test_the_loss_goes_down(config: TrainConfig) -> None:
    train(replace(config, steps=30, save_every=10, batch=8, learning_rate=2e-2), say=quiet)
    losses = [entry["loss"] for entry in log_of(config.out)]
    assert len(losses) == 3 and losses[0] > losses[1] > losses[2]


def test_a_run_leaves_a_checkpoint_that_acts(config: TrainConfig) -> None:
    policy = TokenPolicy(load_checkpoint(train(config, say=quiet)), horizon=2)
    spec = toy_world.make().spec
    policy.reset("reach the target", spec)
    assert len(policy.act(random_observation(spec, 0, ""))) == 2


def test_a_checkpoint_says_how_it_was_trained_and_nothing_of_the_machine(config: TrainConfig, tmp_path: Path) -> None:
    train(config, say=quiet)
    trained = load_checkpoint(config.out).trained
    assert (trained["dataset"], trained["start"], trained["step"]) == ("toy_data", "tiny", STEPS)
    assert (trained["samples"], trained["seed"], trained["batch"]) == (4 * STEPS, 0, 4)
    assert str(tmp_path.parent) not in (config.out / CONFIG).read_text()


def test_the_same_config_gives_the_same_weights(config: TrainConfig, tmp_path: Path) -> None:
    other = replace(config, out=tmp_path / "other")
    assert files(train(config, say=quiet)) == files(train(other, say=quiet))
    seeded = replace(config, out=tmp_path / "seeded", seed=1)
    assert files(train(seeded, say=quiet)) != files(config.out)


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(config: TrainConfig, tmp_path: Path) -> None:
    whole = train(replace(config, out=tmp_path / "whole"), say=quiet)
    interrupted(config)
    assert load_checkpoint(config.out).trained["step"] == 3
    assert files(config.out) != files(whole)
    train(config, resume=True, say=quiet)
    assert files(config.out) == files(whole)
    assert (config.out / CONFIG).read_bytes() == (whole / CONFIG).read_bytes()


def test_a_report_that_fails_loses_no_step(config: TrainConfig) -> None:
    def say(line: str) -> None:
        if line.startswith("step 6"):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        train(config, say=say)
    assert state_of(config.out).parent.name == "00000006"
    assert load_checkpoint(config.out).trained["step"] == STEPS


def test_a_run_that_ended_before_its_first_save_may_be_begun_again(config: TrainConfig, tmp_path: Path) -> None:
    def say(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, say=say)
    (config.out / STATE).mkdir(exist_ok=True)
    (config.out / STATE / "00000003.partial").mkdir()  # as a kill during the first save leaves it
    (config.out / "config.json.part").touch()
    with pytest.raises(EmbodiedError, match="had saved nothing; leave out --resume to begin again"):
        train(config, resume=True, say=quiet)
    again, other = train(config, say=quiet), train(replace(config, out=tmp_path / "other"), say=quiet)
    assert files(again) == files(other)
    assert [entry["step"] for entry in log_of(again)] == [3, 6]


def test_a_short_run_is_saved_at_every_tenth_of_its_steps_and_a_long_one_every_500(config: TrainConfig) -> None:
    usual = replace(config, save_every=0)
    assert [replace(usual, steps=steps).save_steps for steps in (1, 99, 2001, 20_000)] == [10, 10, 201, 500]
    train(replace(usual, steps=12), say=quiet)
    assert [entry["step"] for entry in log_of(config.out)] == [10, 12]


def test_a_policy_without_a_state_is_neither_overwritten_nor_a_dead_end(config: TrainConfig) -> None:
    train(config, say=quiet)
    shutil.rmtree(config.out / STATE)
    for resume in (False, True):
        with pytest.raises(EmbodiedError, match=r"it has a policy, from which --start .* with another --out goes on"):
            train(config, resume=resume, say=quiet)


def test_a_run_is_resumed_without_the_checkpoint_it_began_from(config: TrainConfig) -> None:
    train(replace(interrupted(config), start=None), resume=True, say=quiet)
    assert load_checkpoint(config.out).trained["step"] == STEPS


def test_a_finished_run_may_be_lengthened(config: TrainConfig) -> None:
    train(config, say=quiet)
    train(replace(config, steps=STEPS + 3), resume=True, say=quiet)
    assert [entry["step"] for entry in log_of(config.out)] == [3, 6, 9]


def test_a_fresh_model_is_made_for_the_dataset(dataset: Path, tmp_path: Path) -> None:
    config = TrainConfig((Given(dataset),), tmp_path / "run", steps=1, batch=2, chunk=3, latents=2)
    plan = load_checkpoint(train(config, say=quiet)).plan
    assert (plan.spec, plan.chunk, plan.latents) == (toy_world.make().spec, 3, 2)
    assert [label.name for label in plan.labels] == ["target_position"]


def test_a_frame_beside_the_first_has_coarser_cells_but_where_it_is_half_as_wide() -> None:
    front, wrist = PLAN.spec.cameras
    for width, stride in ((front.width, 8), (front.width // 2, 4)):
        cameras = (front, replace(wrist, height=width, width=width))
        assert _strides([replace(PLAN, spec=replace(PLAN.spec, cameras=cameras))], 2) == (4, stride)


def test_a_dataset_without_labels_can_be_learnt_from(tmp_path: Path) -> None:
    dataset = record_toy(tmp_path / "bare", episodes=1, labels=False)
    plan = replace(TOY_PLAN, labels=())
    tiny_checkpoint(plan).save(tmp_path / "tiny")
    config = TrainConfig((Given(dataset),), tmp_path / "run", 2, batch=2, start=tmp_path / "tiny")
    train(config, say=quiet)
    train(replace(config, steps=3), resume=True, say=quiet)
    assert np.isfinite([entry["loss"] for entry in log_of(config.out)]).all()


def test_another_robots_checkpoint_is_refused_and_nothing_is_written(config: TrainConfig, tmp_path: Path) -> None:
    tiny_checkpoint().save(tmp_path / "dummy")
    with pytest.raises(SpecMismatchError, match="name: expected dummy, found toy"):
        train(replace(config, start=tmp_path / "dummy"), say=quiet)
    assert not config.out.exists()


def test_a_robot_of_the_start_that_is_not_in_the_data_stays_as_it_was(config: TrainConfig, tmp_path: Path) -> None:
    one = tiny_checkpoint(TOY_PLAN)
    plans = [TOY_PLAN, replace(TOY_PLAN, spec=replace(TOY_PLAN.spec, name="other"))]
    start = replace(one, model=PolicyModel(plans, one.model.config, one.vocabulary.size))
    start.save(tmp_path / "two")
    out = train(replace(config, start=tmp_path / "two", weight_decay=0.5, learning_rate=0.1, warmup=0), say=quiet)
    before, after = (load_checkpoint(folder).model.state_dict() for folder in (tmp_path / "two", out))
    still = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
    assert still == {name for name in after if name.startswith("ports.other.")}
    train(replace(config, start=None, steps=STEPS + 1), resume=True, say=quiet)


def test_a_folder_with_something_in_it_is_refused_and_left_alone(config: TrainConfig) -> None:
    config.out.mkdir()
    (config.out / "thesis.txt").write_text("years of work")
    with pytest.raises(EmbodiedError, match="is not empty"):
        train(config, say=quiet)
    assert [path.name for path in config.out.iterdir()] == ["thesis.txt"]


def test_resuming_with_another_batch_seed_chunk_or_latents_is_refused(config: TrainConfig) -> None:
    interrupted(config)
    before = files(config.out)
    with pytest.raises(EmbodiedError, match=r"batch 4, not 5, seed 0, not 1, chunk 4, not 3, latents 2, not 7"):
        train(replace(config, batch=5, seed=1, chunk=3, latents=7), resume=True, say=quiet)
    assert files(config.out) == before


def test_what_a_resumed_run_does_otherwise_is_told(config: TrainConfig) -> None:
    began = replace(config, learning_rate=4e-4, warmup=2, objective=replace(config.objective, pose=2.0))
    interrupted(began)
    assert dry_run(began, resume=True).startswith("parameters")
    said: list[str] = []
    train(replace(config, start=None), resume=True, say=said.append)
    told = said[0].partition(" began: ")[2]
    assert "learning_rate is 0.001 and was 0.0004, warmup is 200 and was 2, objective is {'pose': 1.0" in told
    assert "start" not in told and "steps" not in told and "batch" not in told


def test_what_sees_by_a_camera_that_the_data_lacks_stays_as_it_was(config: TrainConfig, tmp_path: Path) -> None:
    (front,), rebuild = TOY_PLAN.spec.cameras, 2
    spec = replace(TOY_PLAN.spec, cameras=(front, replace(front, name="wrist")))
    tiny_checkpoint(replace(TOY_PLAN, spec=spec, rebuild=rebuild)).save(tmp_path / "two")
    two = replace(config, start=tmp_path / "two", weight_decay=0.5, learning_rate=0.1, warmup=0)
    before, after = (load_checkpoint(folder).model.state_dict() for folder in (tmp_path / "two", train(two, say=quiet)))
    still = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
    unused = ("stems.1.", "resamplers.1.", "to_trunk.1.", "state_head.", "cells_head.")
    assert still == {name for name in after if name.startswith(unused)}


@pytest.mark.parametrize("content", [b"", b"state", None])
def test_a_damaged_state_is_named(config: TrainConfig, content: bytes | None) -> None:
    state = state_of(interrupted(config).out)
    state.write_bytes(state.read_bytes()[:-50] if content is None else content)
    with pytest.raises(EmbodiedError, match=r"state/00000003 is damaged"):
        train(config, resume=True, say=quiet)


def test_a_model_may_look_at_smaller_frames_when_learning_and_acting_and_at_whole_ones_later(
    config: TrainConfig, tmp_path: Path
) -> None:
    small = replace(config, shrink=0.5, steps=1, out=tmp_path / "small")
    made = load_checkpoint(train(small, say=quiet))
    assert made.model.config.shrink == made.trained["shrink"] == 0.5
    batch = mix(config, data := Data.open(config.data), made).batch(0, size=4, seed=0)
    frames = batch.parts[0].frames[0]
    blocks = frames.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).float().mean((2, 4)) / 255
    torch.testing.assert_close(made.model._pixels(frames), blocks.permute(0, 3, 1, 2))
    (answers,) = made.model.eval()(batch)
    whole = begin(replace(config, start=small.out, shrink=1.0), data)
    assert whole.model.config.shrink == 1.0
    (others,) = whole.model.eval()(batch)
    assert [side // 2 for side in others.looked[0].shape[-2:]] == [*answers.looked[0].shape[-2:]]
    assert begin(replace(config, start=small.out), data).model.config.shrink == 0.5
    with pytest.raises(EmbodiedError, match=r"began with shrink 0.5, not 1.0"):
        train(replace(small, shrink=1.0, steps=2), resume=True, say=quiet)


def mistakes(dataset: Path, tmp_path: Path) -> dict[str, tuple[list[object], str]]:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    good = ["--dataset", dataset, "--out", tmp_path / "run", "--steps", 1]
    return {
        "a dataset that is not there": (["--dataset", tmp_path / "none", *good[2:]], "none: no such dataset"),
        "a folder that is no dataset": (["--dataset", tmp_path / "full", *good[2:]], r"info.json: no such file"),
        "an out that is full": ([*good, "--out", tmp_path / "full"], "is not empty"),
        "an out that is a file": ([*good, "--out", tmp_path / "full" / "file"], "is a file"),
        "an out within a file": ([*good, "--out", tmp_path / "full" / "file" / "run"], "cannot write to"),
        "nothing to resume": ([*good, "--resume"], "nothing to resume"),
        "a start that is not there": ([*good, "--start", tmp_path / "none"], "no such folder"),
        "a start that is no checkpoint": ([*good, "--start", tmp_path / "full"], "no model.safetensors"),
        "a learning rate of nothing": ([*good, "--learning-rate", "0"], "the learning rate is 0"),
        "frames shrunk to nothing": (
            [*good, "--shrink", "0"],
            "the shrink is 0.0; it takes a number from above 0 to 1",
        ),
        "frames shrunk to less than a cell": (
            [*good, "--shrink", "0.01"],
            "--shrink 0.01 leaves 0 pixels a side of 'front'",
        ),
        "rollouts of no robot": ([*good, "--rollout-task", "push"], "--rollout-task goes with --rollout"),
        "a learning rate that is no number": ([*good, "--learning-rate", "nan"], "the learning rate is nan"),
        "a negative weight decay": ([*good, "--weight-decay", "-1"], "the weight decay is -1"),
        "no steps": ([*good, "--steps", "0"], "must be at least 1"),
        "a batch of text": ([*good, "--batch", "many"], "must be a whole number"),
    }


def test_a_mistake_on_the_command_line_is_one_line_and_status_2(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for what, (arguments, said) in mistakes(dataset, tmp_path).items():
        assert main(["finetune", *map(str, arguments)]) == 2, what
        error = capsys.readouterr().err
        assert "Traceback" not in error and said in error.strip().splitlines()[-1], (what, error)
        assert not (tmp_path / "run").exists(), what


def test_the_command_line_trains_and_resumes(
    config: TrainConfig, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["finetune", "--dataset", str(dataset), "--out", str(config.out), "--batch", "2", "--save-every", "1"]
    assert main([*command, "--start", str(config.start), "--steps", "1"]) == 0
    assert f"wrote {config.out}" in capsys.readouterr().out
    assert main([*command, "--steps", "2", "--resume"]) == 0
    assert [entry["step"] for entry in log_of(config.out)] == [1, 2]
