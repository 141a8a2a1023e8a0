"""The simulated SO-101 keeps the Robot contract, repeats itself exactly, and obeys only its own verbs."""

from collections.abc import Iterator

import numpy as np
import pytest

from embodied.errors import ProtocolError
from embodied.safety import SafeRobot
from embodied.types import PoseAction, SkillCall, TextAction
from embodied.words import MOVES
from envs.sizes import InvalidSizeError
from envs.so101 import HOME_RAD, SO101, make
from envs.verbs import VERBS, verb_for
from tests.robot_contract import RobotContract, assert_same_observation, assert_same_step

Arm = SafeRobot[SO101]


@pytest.fixture
def robot() -> Iterator[Arm]:
    robot = make(size=32)
    yield robot
    robot.close()


@pytest.fixture
def blind() -> Iterator[Arm]:
    robot = make(render=False)
    yield robot
    robot.close()


class TestSO101(RobotContract):
    pass


def hold(robot: Arm) -> PoseAction:
    return PoseAction(robot.body.scene.target_rad.astype(np.float32))


@pytest.mark.parametrize("task", ["reach", "push", "pick_place", "stack"])
def test_another_robot_repeats_an_episode_to_the_last_bit(task: str, robot: Arm) -> None:
    other = make(size=32)
    other.reset(3, "reach")  # what came before must not show
    assert_same_observation(robot.reset(11, task), other.reset(11, task))
    rng = np.random.default_rng(0)
    for _ in range(15):
        action = PoseAction((hold(robot).values + rng.normal(0, 0.1, 6)).astype(np.float32))
        assert_same_step(robot.step(action), other.step(action))
    other.close()


def test_an_episode_that_nobody_finishes_lasts_its_horizon(blind: Arm) -> None:
    blind.reset(0, "reach")
    step = blind.step(*[hold(blind)] * 100, frames=False)
    assert step.truncated and not step.terminated and step.executed == 60


def test_success_ends_the_episode_once_it_has_lasted_three_steps(blind: Arm) -> None:
    blind.reset(0, "pick_place")
    blind.body.scene.place("cube_0", np.add(blind.body.scene.position("bowl_0"), [0, 0, 0.019]))
    steps = [blind.step(hold(blind))]
    while not steps[-1].done:
        steps.append(blind.step(hold(blind)))
    assert 3 <= len(steps) <= 6
    assert steps[-1].success and steps[-1].terminated and not steps[-1].truncated
    assert [s.reward for s in steps] == [0.0] * (len(steps) - 1) + [1.0]


def test_time_is_simulated_time(blind: Arm) -> None:
    assert blind.reset(0, "reach").time_ns == 0
    assert blind.step(hold(blind), hold(blind)).observation.time_ns == 200_000_000


def test_a_robot_that_does_not_render_shows_nothing(blind: Arm) -> None:
    assert blind.reset(0, "reach").frames == {}
    assert blind.step(hold(blind)).observation.frames == {}


def test_labels_are_there_from_the_reset_on(blind: Arm) -> None:
    with pytest.raises(ProtocolError):
        blind.body.labels()
    blind.reset(0, "push")
    labels = blind.body.labels()
    assert {k: v.shape for k, v in labels.items()} == {
        "target_position": (3,),
        "goal_position": (3,),
        "target_box": (4,),
        "goal_box": (4,),
    }
    for name in ("target_box", "goal_box"):
        y1, x1, y2, x2 = labels[name]
        assert 0 <= y1 < y2 <= 1 and 0 <= x1 < x2 <= 1
    step = blind.step(hold(blind))
    assert step.labels["target_position"] == pytest.approx(labels["target_position"], abs=1e-3)


@pytest.mark.parametrize("task", ["reach", "push", "pick_place", "stack"])
def test_a_misdirected_instruction_changes_the_words_and_nothing_else(task: str) -> None:
    honest, misdirected = make(render=False), make(render=False, misdirect=True)
    for seed in range(10):
        one, other = honest.reset(seed, task), misdirected.reset(seed, task)
        layout = honest.body.scene.shown
        assert layout == misdirected.body.scene.shown
        assert layout.item(layout.target).colour in one.instruction
        wrong_target, _ = layout.misdirected()
        assert layout.item(wrong_target).colour in other.instruction
        if layout.item(layout.goal).kind != "cube" or task == "reach":
            assert layout.item(layout.goal).colour not in other.instruction
        np.testing.assert_array_equal(one.state, other.state)


def test_no_episode_begins_with_the_arm_among_the_objects(blind: Arm) -> None:
    for seed in range(30):
        blind.reset(seed, "stack")
        assert blind.body.scene.gripper_position[2] > 0.1


@pytest.mark.parametrize("verb", MOVES)
def test_a_move_goes_its_way_and_is_described_by_its_own_name(verb: str, blind: Arm) -> None:
    blind.reset(0, "reach")
    blind.step(*[SkillCall("home")] * 10)
    start = blind.body.scene.gripper_position
    step = blind.step(*[TextAction(verb)] * 2, TextAction("wait"), TextAction("wait"))
    assert step.interventions == ()
    moved = blind.body.scene.gripper_position - start
    assert moved == pytest.approx(0.04 * np.array(MOVES[verb]), abs=0.008)
    assert verb_for(moved, 0.0) == verb


def test_the_gripper_opens_and_closes_on_a_word(blind: Arm) -> None:
    blind.reset(0, "reach")
    blind.step(*[SkillCall("home")] * 10)
    for verb, sign in (("open gripper", 1), ("close gripper", -1)):
        before = blind.body.scene.arm_rad[5]
        blind.step(TextAction(verb), TextAction("wait"))
        change = blind.body.scene.arm_rad[5] - before
        assert change * sign > 0.2
        assert verb_for(np.zeros(3), change) == verb
    assert verb_for(np.zeros(3), 0.0) == "wait"


def test_home_comes_home_and_stop_stays(blind: Arm) -> None:
    blind.reset(0, "reach")
    blind.step(*[SkillCall("home")] * 20)
    assert blind.body.scene.arm_rad == pytest.approx(HOME_RAD, abs=0.03)
    step = blind.step(SkillCall("stop"), SkillCall("stop"))
    assert step.interventions == ()
    assert blind.body.scene.arm_rad == pytest.approx(HOME_RAD, abs=0.04)


@pytest.mark.parametrize("action", [TextAction("dance"), TextAction(""), SkillCall("fold_laundry")])
def test_what_is_no_verb_holds_and_is_reported(action: TextAction | SkillCall, blind: Arm) -> None:
    state = blind.reset(0, "reach").state
    (intervention,) = blind.step(action).interventions
    assert intervention.kind == "unknown_verb"
    np.testing.assert_array_equal(blind.body.scene.target_rad, state)


def test_a_verb_out_of_reach_holds_and_is_reported(blind: Arm) -> None:
    blind.reset(0, "reach")
    step = blind.step(*[TextAction("move forward")] * 40)
    assert any(i.kind == "workspace" for i in step.interventions)


def test_the_spec_lists_every_skill_and_verb(blind: Arm) -> None:
    assert set(blind.spec.skills) == {"home", "stop", *VERBS}
    assert blind.spec.tasks == ("pick_place", "push", "reach", "stack")


def test_after_a_stop_in_mid_chunk_it_has_braked_and_stays(blind: Arm, monkeypatch: pytest.MonkeyPatch) -> None:
    start = blind.reset(0, "reach").state
    advance = blind.body.scene.advance

    def stopped(setpoint: np.ndarray) -> None:
        advance(setpoint)
        blind.stop()

    with monkeypatch.context() as patched:
        patched.setattr(blind.body.scene, "advance", stopped)
        step = blind.step(*[PoseAction((start + 0.2 * i).astype(np.float32)) for i in (1, 2, 3, 4)])
    assert (step.executed, step.dropped) == (1, 3)
    resting = blind.body.scene.target_rad
    blind.step(PoseAction(np.full(6, np.nan, np.float32)))
    np.testing.assert_array_equal(blind.body.scene.target_rad, resting)


@pytest.mark.parametrize("size", [0, 8, 4000])
def test_frames_that_cannot_be_drawn_are_refused_at_once(size: int) -> None:
    with pytest.raises(InvalidSizeError, match=f"size is {size}"):
        make(size=size)


def test_a_negative_seed_and_a_closed_robot_are_refused(blind: Arm) -> None:
    with pytest.raises(ProtocolError, match="seed"):
        blind.reset(-1, "reach")
    blind.close()
    with pytest.raises(ProtocolError, match="closed"):
        blind.reset(0, "reach")
