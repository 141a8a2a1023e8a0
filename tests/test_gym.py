"""The tasks are gymnasium environments, and gymnasium environments are robots."""

from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401 - registers the environments
from embodied.safety import SafeRobot
from embodied.types import PoseAction, TextAction
from envs.gymnasium_robot import GymnasiumRobot, UnfitEnvironmentError, make
from tests.robot_contract import RobotContract

IDS = ("embodied/Reach-v0", "embodied/Push-v0", "embodied/PickPlace-v0", "embodied/Stack-v0")


@pytest.mark.parametrize("id", IDS)
@pytest.mark.filterwarnings("ignore:.*normalized space.*")
def test_every_task_passes_gymnasiums_own_checker(id: str) -> None:
    env = gymnasium.make(id, size=32, render_mode="rgb_array")
    check_env(env.unwrapped)
    env.close()


def test_every_task_of_the_robot_is_registered() -> None:
    assert {id for id in gymnasium.registry if id.startswith("embodied/")} == set(IDS)


def test_an_environments_episode_is_the_robots() -> None:
    env = gymnasium.make("embodied/Push-v0", size=32)
    seen, info = env.reset(seed=5)
    direct = env.unwrapped.robot.reset(5, "push")
    assert seen["instruction"] == direct.instruction and info["seed"] == 5
    np.testing.assert_array_equal(seen["state"], direct.state)
    env.close()


class TestPendulumAsRobot(RobotContract):
    @pytest.fixture
    def robot(self) -> Iterator[SafeRobot[GymnasiumRobot]]:
        robot = make("Pendulum-v1")
        yield robot
        robot.close()


class TestTaskEnvAsRobot(RobotContract):
    @pytest.fixture
    def robot(self) -> Iterator[SafeRobot[GymnasiumRobot]]:
        robot = make("embodied/Reach-v0", absolute=True)
        yield robot
        robot.close()


def test_images_become_cameras_and_words_the_instruction() -> None:
    robot = make("embodied/Stack-v0")
    assert [c.name for c in robot.spec.cameras] == ["front", "wrist"]
    assert len(robot.spec.state) == len(robot.spec.action) == 6
    assert " on " in robot.reset(1, "embodied/Stack-v0").instruction
    robot.close()


def test_what_the_environment_renders_can_be_a_camera() -> None:
    robot = make("embodied/Reach-v0", rendered=True)
    frames = robot.reset(0, "embodied/Reach-v0").frames
    np.testing.assert_array_equal(frames["render"], frames["front"])
    robot.close()


def test_a_word_is_nothing_the_environment_knows() -> None:
    robot = make("Pendulum-v1")
    robot.reset(0, "Pendulum-v1")
    (intervention,) = robot.step(TextAction("swing up")).interventions
    assert intervention.kind == "unknown_verb"
    robot.close()


@pytest.mark.parametrize(
    ("id", "message"),
    [("CartPole-v1", "needs a Box"), ("MountainCar-v0", "needs a Box"), ("Nowhere-v0", "cannot make")],
)
def test_an_environment_that_is_no_robot_is_refused(id: str, message: str) -> None:
    with pytest.raises(UnfitEnvironmentError, match=message):
        make(id)


class Endless(gymnasium.Env):
    """A number without bounds, moved by an action."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.at = np.zeros(1, np.float32)
        return self.at, {}

    def step(self, action):
        self.at = self.at + action
        return self.at, 0.5, bool(self.at[0] > 1), False, {"success": bool(self.at[0] > 1)}


def test_a_range_without_end_needs_a_bound() -> None:
    gymnasium.register("EndlessForTest-v0", entry_point=Endless)
    with pytest.raises(UnfitEnvironmentError, match="control_hz"):
        make("EndlessForTest-v0")
    with pytest.raises(UnfitEnvironmentError, match=r"state_0.*bound"):
        make("EndlessForTest-v0", control_hz=10)
    robot = make("EndlessForTest-v0", control_hz=10, bound=5)
    assert (robot.spec.state[0].low, robot.spec.state[0].high) == (-5, 5)
    robot.reset(0, "EndlessForTest-v0")
    step = robot.step(*[PoseAction(np.array([0.6], np.float32))] * 5)
    assert step.executed == 2 and step.success and step.terminated and step.reward == 1.0
    assert step.observation.time_ns == 200_000_000
    del gymnasium.registry["EndlessForTest-v0"]
