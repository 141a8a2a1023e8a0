"""A rollout's recording holds what the policy said and what it saw, whatever came of it."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from embodied.errors import InvalidActionError
from embodied.loop import run_episode
from embodied.realtime import RealTimeRobot
from embodied.recording.reader import DatasetReader
from embodied.recording.rollout import RolloutRecorder, join
from embodied.types import Action, Observation, PoseAction, RobotSpec, TextAction
from tests import live_robot
from tests.dummy_robot import HORIZON, DummyRobot
from tests.test_loop import LateRobot
from tests.toy_world import ToyRobot


class Reacher:
    """Answers with chunks of three, every third action beyond the joint's range; remembers what it said."""

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        self.limit, self.said = np.array([f.high for f in spec.action], np.float32), list[np.ndarray]()

    def act(self, observation: Observation) -> Sequence[Action]:
        chunk = [0.2 * self.limit, 0.3 * self.limit, 2.0 * self.limit]
        self.said += chunk
        return [PoseAction(values) for values in chunk]


class Talker(Reacher):
    def act(self, observation: Observation) -> Sequence[Action]:
        return [TextAction("move up")]


def record(path: Path, robot, policy, *, task: str, seed: int = 0, max_steps: int = 100) -> Path:
    spool = path.with_suffix(".arrow")
    with RolloutRecorder(spool, robot.spec, task=task, seed=seed) as recorder:
        run_episode(robot, policy, task=task, seed=seed, max_steps=max_steps, observers=[recorder])
    join([spool], path, {})
    return path


def test_every_row_is_an_observation_and_the_action_that_answered_it(tmp_path):
    robot, policy = DummyRobot(), Reacher()
    reader = DatasetReader(record(tmp_path / "one", robot, policy, task="wait", seed=7))
    assert len(reader) == HORIZON and reader.spec == robot.spec
    assert np.array_equal(reader.action, np.stack(policy.said[:HORIZON]))
    again = DummyRobot()
    assert np.array_equal(reader.state[0], again.reset(7, "wait").state)
    step = again.step(PoseAction(policy.said[0]))
    assert np.array_equal(reader.state[1], step.observation.state)
    assert np.abs(reader.frame("front", 1).astype(int) - step.observation.frames["front"]).mean() < 10  # noise in JPEG


def test_a_row_whose_action_the_safety_layer_changed_is_perturbed(tmp_path):
    reader = DatasetReader(record(tmp_path / "one", DummyRobot(), Reacher(), task="wait"))
    assert np.array_equal(np.flatnonzero(reader.perturbed), np.arange(2, HORIZON, 3))


def test_a_row_whose_action_was_dropped_is_perturbed_too(tmp_path):
    robot = LateRobot([False, False, True] * HORIZON)
    reader = DatasetReader(record(tmp_path / "one", robot, Reacher(), task="wait", max_steps=6))
    assert reader.perturbed.tolist() == [False, False, True] * 2
    assert np.array_equal(reader.state[3], reader.state[2])  # for nothing moved


def test_a_failure_is_recorded_as_one(tmp_path):
    reader = DatasetReader(record(tmp_path / "one", DummyRobot(), Reacher(), task="wait"))
    assert not reader.success.any() and not reader.episodes[0].success
    assert np.flatnonzero(reader.done).tolist() == [HORIZON - 1]


def test_labels_are_the_steps_own_so_the_first_row_has_none(tmp_path):
    reader = DatasetReader(record(tmp_path / "one", ToyRobot(16, -1), Reacher(), task="push", max_steps=5))
    assert np.isnan(reader.labels["target_position"][0]).all()
    assert reader.labels["target_position"][1:, 2].tolist() == [1, 2, 3, 4]  # the steps made when the row was seen


def test_a_policy_that_talks_cannot_be_recorded(tmp_path):
    with pytest.raises(InvalidActionError, match="takes poses, and the policy said TextAction"):
        record(tmp_path / "one", DummyRobot(), Talker(), task="wait")
    assert not (tmp_path / "one").exists()


class Mute(ToyRobot):
    """Its simulator tells another truth."""

    def labels(self):
        return {"distance": np.array([self.steps], np.float32)}


def test_parts_are_joined_in_the_order_given_and_a_label_that_one_lacks_is_nan(tmp_path):
    robots = [ToyRobot(16, -1), Mute(16, -1)]
    for seed, robot in zip((9, 3), robots, strict=True):
        record(tmp_path / f"{seed}", robot, Reacher(), task="reach", seed=seed, max_steps=4)
    assert join([tmp_path / "9.arrow", tmp_path / "3.arrow"], tmp_path / "both", {"why": "a test"}) == []
    reader = DatasetReader(tmp_path / "both")
    assert [e.seed for e in reader.episodes] == [9, 3] and reader.collection == {"why": "a test"}
    assert np.isfinite(reader.labels["target_position"]).all(1).tolist() == [False, True, True, True] + 4 * [False]
    assert reader.labels["distance"][5:, 0].tolist() == [1, 2, 3] and np.isnan(reader.labels["distance"][:5]).all()


def live(path: Path, *actions: PoseAction, horizon_s: float = 60.0, wait_s: float = 0.0) -> DatasetReader:
    """Record actions on a robot whose time passes, waiting before the last until wait_s of its episode."""
    with (
        contextlib.closing(RealTimeRobot(lambda: live_robot.make(str(path / "e"), horizon_s=horizon_s))) as robot,
        RolloutRecorder(path / "1.arrow", robot.spec, task="sweep", seed=0) as recorder,
    ):
        recorder.began(robot.reset(0, "sweep"))
        for index, action in enumerate(actions):
            while index == len(actions) - 1 and robot.observe(frames=False).time_ns < wait_s * 1e9:
                time.sleep(0.01)
            recorder.stepped(action, robot.step(action))
        recorder.ended(False)
    join([path / "1.arrow"], path / "d", {})
    return DatasetReader(path / "d")


def at(pan: float) -> PoseAction:
    return PoseAction(np.array([pan, 0.0], np.float32))


def test_where_time_is_real_the_row_whose_action_was_changed_is_perturbed_not_only_that_which_tells(tmp_path):
    reader = live(tmp_path, at(0.0), at(0.0), at(0.9), at(0.9), at(0.9), at(0.9), at(0.9), at(0.9))
    assert reader.perturbed[2] and not reader.perturbed[0] and not reader.perturbed[7]


def test_a_row_whose_action_came_after_the_end_is_perturbed(tmp_path):
    reader = live(tmp_path, at(0.0), at(0.05), at(0.1), horizon_s=0.5, wait_s=0.5)
    assert reader.perturbed[-1] and reader.done[-1] and not reader.perturbed[0]
