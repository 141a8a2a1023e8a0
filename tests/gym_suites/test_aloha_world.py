"""ALOHA as a Robot, in its own environment: `.venv-gym/bin/pytest tests/gym_suites`; skipped elsewhere."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

if not any(importlib.metadata.distributions(name="gym-aloha")):
    pytest.skip("gym-aloha lives in .venv-gym: `make gym`", allow_module_level=True)

from embodied.errors import ProtocolError
from embodied.recording.demonstration import demonstrate
from embodied.safety import SafeRobot
from embodied.types import Observation, PoseAction, Robot
from envs.aloha import ACTION, FOVY_DEG, LABEL_SIZES, expert, make
from envs.aloha_arm import ArmKinematics, Pose
from envs.aloha_expert import PITCH_RAD, facing
from envs.aloha_scene import CAMERA, AlohaScene
from envs.suite_robot import SuiteRobot
from tests.robot_contract import RobotContract, assert_same_observation, assert_same_step

ROOT = Path(__file__).parents[2]
Aloha = SuiteRobot[AlohaScene]
TASKS = ("transfer_cube", "insertion")


@pytest.fixture(scope="module")
def body() -> Iterator[Aloha]:
    robot = make(size=32)
    yield robot.body
    robot.close()


@pytest.fixture(scope="module")
def blind() -> Iterator[SafeRobot[Aloha]]:
    robot = make(render=False)
    yield robot
    robot.close()


class TestAloha(RobotContract):
    @pytest.fixture
    def robot(self, body: Aloha) -> Robot:
        return SafeRobot(body)

    @pytest.fixture
    def own(self) -> Iterator[Robot]:
        robot = make(size=32)
        yield robot
        robot.close()

    def test_close_may_come_twice_and_after_it_nothing_is_carried_out(self, own: Robot) -> None:
        super().test_close_may_come_twice_and_after_it_nothing_is_carried_out(own)


def noise(robot: Robot, count: int, seed: int = 0) -> list[PoseAction]:
    """Return actions that stray about the pose in which every episode begins."""
    begin = robot.reset(0, "transfer_cube").state
    steps = np.cumsum(np.random.default_rng(seed).normal(0, 0.02, (count, 14)), axis=0)
    low, high = np.array([(f.low, f.high) for f in ACTION]).T
    return [PoseAction(values.astype(np.float32)) for values in np.clip(begin + steps, low, high)]


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_begins_by_its_seed_alone_whatever_was_done_before(blind: SafeRobot[Aloha], task: str) -> None:
    actions, others = noise(blind, 20), noise(blind, 40, seed=1)
    first = blind.reset(11, task)
    world = blind.body.scene.data.qpos.tobytes()
    steps = [blind.step(action, frames=False) for action in actions]
    blind.reset(12, task)
    assert blind.body.scene.data.qpos.tobytes() != world
    blind.step(*others, frames=False)
    assert_same_observation(blind.reset(11, task), first)
    assert blind.body.scene.data.qpos.tobytes() == world
    for before, action in zip(steps, actions, strict=True):
        assert_same_step(blind.step(action, frames=False), before)


@pytest.mark.parametrize("task", TASKS)
def test_no_place_of_an_object_reaches_what_a_policy_sees(
    blind: SafeRobot[Aloha], task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = noise(blind, 10)

    def observations() -> list[Observation]:
        return [blind.reset(5, task), *(blind.step(action).observation for action in actions)]

    honest = observations()
    data = blind.body.scene.data
    lies = np.random.default_rng(0)
    observe = blind.body._observe

    def deceived(*, frames: bool) -> tuple[Observation, dict[str, int]]:
        true, data.qpos[16:] = data.qpos[16:].copy(), lies.uniform(-9, 9, len(data.qpos) - 16)
        seen = observe(frames=frames)
        data.qpos[16:] = true
        return seen

    monkeypatch.setattr(blind.body, "_observe", deceived)
    for true, lied in zip(honest, observations(), strict=True):
        assert_same_observation(true, lied)


def test_commands_that_no_arm_could_follow_end_the_episode_as_a_failure_and_the_next_is_whole(
    blind: SafeRobot[Aloha],
) -> None:
    low, high = np.array([(f.low, f.high) for f in ACTION]).T
    rng, first = np.random.default_rng(4), blind.reset(11, "transfer_cube")
    blind.reset(4, "transfer_cube")
    for _ in range(399):
        step = blind.step(PoseAction(rng.uniform(low, high).astype(np.float32)), frames=False)
        if step.done:
            break
    assert step.terminated and not step.success and not step.truncated
    assert np.isfinite(step.observation.state).all()
    assert_same_observation(blind.reset(11, "transfer_cube"), first)


def test_the_ranges_are_those_of_the_models_actuators(blind: SafeRobot[Aloha]) -> None:
    blind.reset(0, "transfer_cube")
    model = blind.body.scene.model
    arms = [i for i in range(model.nu) if i % 8 < 6]
    fields = [f for f in ACTION if "gripper" not in f.name]
    np.testing.assert_allclose(model.actuator_ctrlrange[arms], [(f.low, f.high) for f in fields])


@pytest.mark.parametrize("task", TASKS)
def test_with_effects_a_frame_is_the_middle_of_gym_alohas_but_for_rounding(task: str) -> None:
    robot = make(size=480, effects=True)
    frame = robot.reset(3, task).frames[CAMERA]
    assert robot.body.scene.fovy_deg == FOVY_DEG == robot.spec.camera(CAMERA).fovy_deg
    wide = robot.body.scene._env.physics.render(height=480, width=640, camera_id="top")
    off = np.abs(frame.astype(int) - wide[:, 80:560])  # at edges, where the wider picture's samples lie elsewhere
    assert (off > 0).mean() < 1e-3 and off.max() < 16
    robot.close()


def test_labels_point_at_what_they_name() -> None:
    robot = make(size=240)
    frame = robot.reset(4, "insertion").frames[CAMERA].astype(int)
    labels = robot.body.labels()
    for name, channel in (("target", 0), ("goal", 2)):  # a red peg, a blue socket
        y1, x1, y2, x2 = labels[f"{name}_box"] * 240
        pixel = frame[round((y1 + y2) / 2), round((x1 + x2) / 2)]
        assert pixel[channel] == pixel.max() > 2 * np.delete(pixel, channel).max()
    robot.reset(4, "transfer_cube")
    assert set(robot.body.labels()) == {"target_position", "target_box"}
    robot.close()


def test_the_arms_come_to_wherever_there_is_something_to_grasp(blind: SafeRobot[Aloha]) -> None:
    blind.reset(0, "transfer_cube")
    scene = blind.body.scene
    rng = np.random.default_rng(0)
    for side, (low, high) in {"left": (-0.2, -0.1), "right": (0.0, 0.2)}.items():
        arm, begin = ArmKinematics(scene.model, side), scene.joints_rad(side)
        for _ in range(10):
            place = np.array([rng.uniform(low, high), rng.uniform(0.4, 0.6), rng.uniform(0.02, 0.2)])
            aim = Pose(place, facing(side, PITCH_RAD))
            shift, turn = arm.pose(arm.solve(aim, arm.solve(aim, begin))).to(aim)
            assert np.linalg.norm(shift) < 1e-3 and np.linalg.norm(turn) < 1e-2


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_succeeds_and_success_ends_the_episode(blind: SafeRobot[Aloha], task: str) -> None:
    episode = demonstrate(blind, expert(blind), task=task, seed=2000, label_sizes=LABEL_SIZES, frames=False)
    assert episode.succeeded and len(episode) < 250
    assert {name: values.shape[1] for name, values in episode.labels.items()} == LABEL_SIZES
    assert np.isnan(episode.labels["goal_position"]).all() == (task == "transfer_cube")


def test_the_400th_step_ends_an_episode(blind: SafeRobot[Aloha]) -> None:
    state = blind.reset(1, "transfer_cube").state
    step = blind.step(*[PoseAction(state)] * 401, frames=False)
    assert step.executed == 400 and step.truncated and not step.terminated and not step.success


def test_a_seed_beyond_its_generators_range_is_refused(blind: SafeRobot[Aloha]) -> None:
    with pytest.raises(ProtocolError, match="a seed is 0 to 4294967295"):
        blind.reset(2**32, "insertion")


def test_a_robot_left_open_says_nothing_when_python_exits() -> None:
    program = "import envs.aloha as m; r = m.make(size=16); r.reset(0, 'insertion')"
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (ran.returncode, ran.stderr) == (0, "")
