"""Meta-World as a Robot, in its own environment: `.venv-metaworld/bin/pytest tests/metaworld`; skipped elsewhere."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

if not any(importlib.metadata.distributions(name="metaworld")):  # this folder itself could be imported by that name
    pytest.skip("Meta-World lives in .venv-metaworld: `make metaworld`", allow_module_level=True)

from embodied.cli import main
from embodied.recording.demonstration import demonstrate
from embodied.safety import SafeRobot
from embodied.types import Observation, PoseAction, Robot, Step
from envs.metaworld import expert, make
from envs.metaworld_scene import HAND_CAMERA, MetaWorldScene
from envs.suite_robot import SuiteRobot
from tests.robot_contract import RobotContract, assert_same_observation, assert_same_step

ROOT = Path(__file__).parents[2]
CAMERA = "corner2"
SOME = ("pick-place-v3", "door-lock-v3", "stick-pull-v3")
MetaWorld = SuiteRobot[MetaWorldScene]
EVERY = tuple(make(render=False).spec.tasks)


@pytest.fixture(scope="module")
def body() -> Iterator[MetaWorld]:
    robot = make(size=32, hand=16)
    yield robot.body
    robot.close()


@pytest.fixture(scope="module")
def blind() -> Iterator[SafeRobot[MetaWorld]]:
    robot = make(render=False)
    yield robot
    robot.close()


class TestMetaWorld(RobotContract):
    @pytest.fixture
    def robot(self, body: MetaWorld) -> Robot:
        return SafeRobot(body)

    @pytest.fixture
    def own(self) -> Iterator[Robot]:
        robot = make(size=32)
        yield robot
        robot.close()

    def test_close_may_come_twice_and_after_it_nothing_is_carried_out(self, own: Robot) -> None:
        super().test_close_may_come_twice_and_after_it_nothing_is_carried_out(own)

    def test_every_task_can_be_begun_and_has_an_instruction(self, robot: Robot) -> None:
        for task in SOME:
            assert robot.reset(self.seed, task).instruction.strip()


def noise(count: int, seed: int = 0) -> list[PoseAction]:
    return [PoseAction(a) for a in np.random.default_rng(seed).uniform(-1, 1, (count, 4)).astype(np.float32)]


def play(robot: Robot, task: str, seed: int) -> list[Step]:
    """Return the steps of the expert's episode."""
    observation = robot.reset(seed, task)
    script = expert(robot)
    script.reset(observation.instruction, robot.spec)
    steps: list[Step] = []
    while not steps or not steps[-1].done:
        steps.append(robot.step(*script.act(observation), frames=False))
        observation = steps[-1].observation
    return steps


def world_of(robot: SafeRobot[MetaWorld]) -> tuple[bytes, ...]:
    env = robot.body.scene.env
    arrays = (env.data.qpos, env.data.qvel, env.data.mocap_pos, env.model.body_pos, env.model.site_pos)
    return (robot.body.scene.seen.tobytes(), *(a.tobytes() for a in arrays))


def begins_by_seed_alone(robot: SafeRobot[MetaWorld], task: str) -> None:
    first = robot.reset(11, task)
    world, steps = world_of(robot), [robot.step(action, frames=False) for action in noise(20)]
    robot.reset(12, task)
    assert world_of(robot)[0] != world[0]
    robot.step(*noise(40, seed=1), frames=False)
    assert_same_observation(robot.reset(11, task), first)
    assert world_of(robot) == world
    for before, action in zip(steps, noise(20), strict=True):
        assert_same_step(robot.step(action, frames=False), before)


@pytest.mark.parametrize("task", SOME)
def test_an_episode_begins_by_its_seed_alone_whatever_was_done_before(blind: SafeRobot[MetaWorld], task: str) -> None:
    begins_by_seed_alone(blind, task)


@pytest.mark.slow
@pytest.mark.parametrize("task", EVERY)
def test_every_task_begins_by_its_seed_alone_and_its_expert_succeeds(blind: SafeRobot[MetaWorld], task: str) -> None:
    begins_by_seed_alone(blind, task)
    assert sum(play(blind, task, seed)[-1].success for seed in range(5)) >= 3


def observations(robot: Robot, task: str) -> list[Observation]:
    return [robot.reset(5, task), *(robot.step(action).observation for action in noise(5))]


@pytest.mark.parametrize("task", SOME)
def test_no_position_of_an_object_or_goal_reaches_what_a_policy_sees(
    body: MetaWorld, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = SafeRobot(body)
    honest = observations(robot, task)
    lies = np.random.default_rng(0)

    def lie(call: Callable[..., object]) -> Callable[..., object]:
        def lying(argument: object) -> object:
            answer = call(argument)
            scene.seen = np.concatenate([scene.seen[:4], lies.uniform(-9, 9, len(scene.seen) - 4)])
            return answer

        return lying

    scene = body.scene
    monkeypatch.setattr(scene, "begin", lie(scene.begin))
    monkeypatch.setattr(scene, "step", lie(scene.step))
    for true, deceived in zip(honest, observations(robot, task), strict=True):
        assert_same_observation(true, deceived)


def test_the_state_is_the_hand_and_how_far_its_fingers_are_apart(blind: SafeRobot[MetaWorld]) -> None:
    blind.reset(3, "pick-place-v3")
    for action in noise(10):
        state = blind.step(action, frames=False).observation.state
        data = blind.body.scene.env.data
        fingers_m = np.linalg.norm(data.body("rightclaw").xpos - data.body("leftclaw").xpos)
        np.testing.assert_allclose(state, [*data.body("hand").xpos, min(fingers_m / 0.1, 1.0)], atol=1e-6)


def test_with_effects_a_frame_is_that_of_lerobots_environment_to_the_pixel() -> None:
    from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer  # it imports mujoco

    robot = make(size=480, effects=True)
    frame = robot.reset(3, "pick-place-v3").frames[CAMERA]
    env = robot.body.scene.env
    assert env.model.cam_pos[2].tolist() == [0.75, 0.075, 0.7] and env.model.camera(CAMERA).id == 2
    assert env.model.camera(CAMERA).fovy[0] == robot.spec.camera(CAMERA).fovy_deg
    reference = MujocoRenderer(env.model, env.data, width=480, height=480, camera_name=CAMERA)
    np.testing.assert_array_equal(frame, np.flip(reference.render("rgb_array"), (0, 1)))
    reference.close()
    robot.close()


def test_the_first_frame_shows_this_episodes_scene_and_its_labels_point_at_it(body: MetaWorld) -> None:
    robot = make(size=240)
    for seed in range(3):  # the goal of reach is a red ball
        frame = robot.reset(seed, "reach-v3").frames[CAMERA].astype(int)
        y1, x1, y2, x2 = robot.body.labels()["goal_box"] * 240
        red, green, blue = frame[round((y1 + y2) / 2), round((x1 + x2) / 2)]
        assert red > 2 * green and red > 2 * blue
    robot.close()


def test_the_tables_view_is_a_part_of_the_whole_picture_and_its_labels_are_too() -> None:
    whole, table = make(size=200), make(size=140, view="table")
    seen, part = (robot.reset(4, "soccer-v3").frames[CAMERA] for robot in (whole, table))
    np.testing.assert_array_equal(part, seen[50:190, 50:190])
    boxes, parts = whole.body.labels(), table.body.labels()
    for name in ("target_box", "goal_box"):
        np.testing.assert_allclose(0.25 + 0.7 * parts[name], boxes[name], atol=1e-6)
    assert table.spec.camera(CAMERA).fovy_deg < whole.spec.camera(CAMERA).fovy_deg == 60.0
    whole.close()
    table.close()


def test_the_frame_around_the_hand_is_a_part_of_the_picture_drawn_twice_as_fine_and_its_boxes_are_too() -> None:
    plain, robot, whole = make(size=120), make(size=120, hand=80), make(size=240)
    for action in ([0.0] * 4, [1.0, 1.0, -1.0, 0.0], [-1.0, -1.0, 1.0, 0.0]):
        steps = []
        for each in (plain, robot, whole):
            each.reset(4, "soccer-v3")
            steps.append(each.step(*[PoseAction(np.array(action, np.float32))] * 30))
        once, both, twice = (step.observation.frames for step in steps)
        window = robot.body.scene.hand_window()
        top, left = round(240 * window.top), round(240 * window.left)
        np.testing.assert_array_equal(both[HAND_CAMERA], twice[CAMERA][top : top + 80, left : left + 80])
        assert np.abs(both[CAMERA].astype(int) - once[CAMERA]).mean() < 6  # smoother, and the same
        boxes = robot.body.labels()
        for name in ("target", "goal"):
            if (box := boxes.get(f"{name}_box_{HAND_CAMERA}")) is not None and box.min() > 0 and box.max() < 1:
                at = np.array([window.top, window.left] * 2) + window.side * box
                np.testing.assert_allclose(at, boxes[f"{name}_box"], atol=1e-5)
    for each in (plain, robot, whole):
        each.close()


def test_the_hand_is_in_the_frame_around_it_and_what_it_holds_too() -> None:
    robot = make(size=96, view="table", hand=64)
    held = 0
    for seed in range(3):
        observation = robot.reset(seed, "pick-place-v3")
        script = expert(robot)
        script.reset(observation.instruction, robot.spec)
        step = robot.step(*script.act(observation), frames=False)
        while not step.done:
            step = robot.step(*script.act(step.observation), frames=False)
        names = robot.body.labels()
        held += {f"{name}_box_{HAND_CAMERA}" for name in ("target", "goal")} <= set(names)
        scene = robot.body.scene
        place = scene.hand_window().inside(scene.edges(step.observation.state[None, :3].astype(float)))
        assert place[:2] == pytest.approx([1 / 3, 1 / 2], abs=0.02)
        assert scene.hand_window().side == 64 / (2 * 137)
    assert held == 3
    robot.close()


@pytest.mark.parametrize("task", SOME)
def test_what_is_not_drawn_of_the_robot_would_not_be_seen_in_the_tables_view(task: str) -> None:
    robots = [make(size=144, view="table") for _ in range(2)]
    for robot in robots:
        robot.reset(5, task)
    untouched = MetaWorldScene(task, size=16, view="whole", hand=0, effects=False).env.model
    robots[1].body.scene.env.model.geom_rgba[:] = untouched.geom_rgba
    rng = np.random.default_rng(0)
    for seed in range(3):
        frames = [robot.reset(seed, task).frames[CAMERA] for robot in robots]
        np.testing.assert_array_equal(*frames)
        for action in rng.uniform(-1, 1, (6, 4)).astype(np.float32):
            steps = [robot.step(*[PoseAction(action)] * 15) for robot in robots]
            np.testing.assert_array_equal(*(step.observation.frames[CAMERA] for step in steps))
    for robot in robots:
        robot.close()


def test_in_the_tables_view_lies_what_every_task_is_about() -> None:
    robot = make(view="table", render=False)
    for task in EVERY:
        robot.reset(7, task)
        for name, box in robot.body.labels().items():
            if name.endswith("_box"):
                assert (box[2:] - box[:2] > 0.02).all(), (task, name, box)
    robot.close()


def test_success_ends_an_episode_and_so_does_the_500th_step(blind: SafeRobot[MetaWorld]) -> None:
    steps = play(blind, "reach-v3", 1)
    assert steps[-1].success and steps[-1].terminated and not steps[-1].truncated and 10 < len(steps) < 200
    assert not any(step.success for step in steps[:-1])
    blind.reset(1, "reach-v3")
    step = blind.step(*[PoseAction(np.zeros(4, np.float32))] * 501, frames=False)
    assert step.executed == 500 and step.truncated and not step.terminated and not step.success


def test_a_disturbed_expert_still_succeeds_and_its_labels_have_their_sizes(body: MetaWorld) -> None:
    robot = SafeRobot(body)
    episode = demonstrate(
        robot, expert(robot), task="drawer-open-v3", seed=2, perturb=1.0, label_sizes=body.label_sizes
    )
    assert episode.succeeded and episode.perturbed.any() and not episode.perturbed.all()
    assert np.abs(episode.action).max() <= 1.0
    assert {name: values.shape[1] for name, values in episode.labels.items()} == body.label_sizes
    assert np.isfinite(episode.labels["target_position"]).all() and np.isnan(episode.labels["other_box"]).all()


def test_a_misspelt_task_is_one_line_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--robot",
        "envs.metaworld",
        "--task",
        "pick-plase-v3",
        "--episodes",
        "1",
        "--out",
        str(tmp_path / "a"),
    ]
    assert main(["collect", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "no task 'pick-plase-v3'" in line and "'pick-place-v3'" in line
    assert not (tmp_path / "a").exists()


def test_a_robot_left_open_says_nothing_when_python_exits() -> None:
    program = "import envs.metaworld as m; r = m.make(size=16); r.reset(0, 'reach-v3')"
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_pinned_simulator_is_the_one_that_runs() -> None:
    assert importlib.metadata.version("mujoco") == "3.3.0"
