"""PushT as a Robot, in its own environment: `.venv-gym/bin/pytest tests/gym_suites`; skipped elsewhere."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

import numpy as np
import pytest

if not any(importlib.metadata.distributions(name="gym-pusht")):
    pytest.skip("gym-pusht lives in .venv-gym: `make gym`", allow_module_level=True)

from embodied.recording.demonstration import demonstrate
from embodied.safety import SafeRobot
from embodied.types import Observation, PoseAction, Robot
from envs.pusht import CAMERA, TASK, expert, make
from envs.pusht_scene import PushTScene
from envs.pusht_tee import push
from envs.suite_robot import SuiteRobot
from tests.robot_contract import RobotContract, assert_same_observation, assert_same_step

PushT = SuiteRobot[PushTScene]


@pytest.fixture(scope="module")
def blind() -> Iterator[SafeRobot[PushT]]:
    robot = make(render=False)
    yield robot
    robot.close()


class TestPushT(RobotContract):
    @pytest.fixture
    def robot(self) -> Iterator[Robot]:
        robot = make(size=32)
        yield robot
        robot.close()


def noise(count: int, seed: int = 0) -> list[PoseAction]:
    return [PoseAction(a) for a in np.random.default_rng(seed).uniform(0, 512, (count, 2)).astype(np.float32)]


def test_an_episode_begins_by_its_seed_alone_whatever_was_done_before(blind: SafeRobot[PushT]) -> None:
    first, pose = blind.reset(11, TASK), blind.body.scene.block_pose
    steps = [blind.step(action, frames=False) for action in noise(40)]
    blind.reset(12, TASK)
    assert blind.body.scene.block_pose.tolist() != pose.tolist()
    blind.step(*noise(40, seed=1), frames=False)
    assert_same_observation(blind.reset(11, TASK), first)
    assert blind.body.scene.block_pose.tobytes() == pose.tobytes()
    for before, action in zip(steps, noise(40), strict=True):
        assert_same_step(blind.step(action, frames=False), before)


def test_the_begin_is_that_of_gym_pusht_for_the_same_seed(blind: SafeRobot[PushT]) -> None:
    from gym_pusht.envs.pusht import PushTEnv

    seen, _ = PushTEnv(obs_type="state").reset(seed=1_000_003)
    state = blind.reset(1_000_003, TASK).state
    np.testing.assert_array_equal(state, seen[:2].astype(np.float32))
    np.testing.assert_array_equal(blind.body.scene.block_pose[:2], seen[2:4])


def test_where_the_t_lies_reaches_what_a_policy_sees_by_the_frame_alone(
    blind: SafeRobot[PushT], monkeypatch: pytest.MonkeyPatch
) -> None:
    def observations() -> list[Observation]:
        return [blind.reset(5, TASK), *(blind.step(action).observation for action in noise(60))]

    honest, pose = observations(), blind.body.scene.block_pose
    env = blind.body.scene.env
    begin = env._set_state
    monkeypatch.setattr(env, "_set_state", lambda state: begin([*state[:2], 150.0, 350.0, state[4] + 2.0]))
    for true, elsewhere in zip(honest, observations(), strict=True):
        assert_same_observation(true, elsewhere)
    assert not np.allclose(blind.body.scene.block_pose, pose, atol=5.0)


def test_a_frame_is_that_of_gym_pusht_and_shows_the_t_in_its_box() -> None:
    robot = make(size=96)
    frame = robot.reset(3, TASK).frames[CAMERA]
    env = robot.body.scene.env
    np.testing.assert_array_equal(frame, env._get_img(env._draw(), 96, 96))
    grey = np.abs(frame.astype(int) - [142, 158, 174]).sum(-1) < 40
    rows, columns = np.nonzero(grey)
    y1, x1, y2, x2 = robot.body.labels()["block_box"] * 96
    seen = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    np.testing.assert_allclose(seen, [y1, x1, y2, x2], atol=2.5)
    robot.close()


def test_the_experts_own_mechanics_are_those_of_the_simulator(blind: SafeRobot[PushT]) -> None:
    env = blind.body.scene.env
    blind.reset(2, TASK)
    env.block.angle, env.block.position = 0.7, (250.0, 240.0)
    env.agent.position = (330.0, 300.0)
    pose, pusher = blind.body.scene.block_pose[None], blind.body.scene.pusher[None]
    end = np.array([255.0, 300.0])
    for _ in range(15):
        blind.step(PoseAction(end.astype(np.float32)), frames=False)
    way = (end - pusher) / 75
    for _ in range(75):
        pose, pusher = push(pose, pusher, way), pusher + way
    true = blind.body.scene.block_pose
    assert abs(true[2] - 0.7) > 0.1
    np.testing.assert_allclose(pose[0], true, atol=0.6)


def test_the_expert_brings_the_t_home_from_where_it_was_not_tuned_on(blind: SafeRobot[PushT]) -> None:
    episode = demonstrate(blind, expert(blind), task=TASK, seed=2000, frames=False)
    assert episode.succeeded and len(episode) < 200


def test_a_disturbed_expert_still_succeeds_and_its_labels_have_their_sizes(blind: SafeRobot[PushT]) -> None:
    sizes = blind.body.label_sizes
    episode = demonstrate(blind, expert(blind), task=TASK, seed=3, perturb=1.0, label_sizes=sizes, frames=False)
    assert episode.succeeded and episode.perturbed.any() and not episode.perturbed.all()
    assert {name: values.shape[1] for name, values in episode.labels.items()} == sizes


def test_the_300th_step_ends_an_episode(blind: SafeRobot[PushT]) -> None:
    state = blind.reset(1, TASK).state
    step = blind.step(*[PoseAction(state)] * 301, frames=False)
    assert step.executed == 300 and step.truncated and not step.terminated and not step.success
