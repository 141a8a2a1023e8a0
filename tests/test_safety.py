"""A SafeRobot carries out what its body can, within limits, and adds up what came of it."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from embodied.errors import InvalidActionError, ProtocolError
from embodied.motion import UnfitLimitsError
from embodied.safety import Limited, SafeRobot, bare, safe
from embodied.types import Box, Field, Intervention, Limits, Observation, PoseAction, RobotSpec, Step, TextAction
from tests.robot_contract import RobotContract

JOINTS = (Field("pan", "rad", -1.0, 1.0), Field("lift", "rad", -1.0, 1.0))
SPEC = RobotSpec(
    name="servo",
    control_hz=10.0,
    cameras=(),
    state=JOINTS,
    action=JOINTS,
    tasks=("wait",),
    limits=Limits((2.0, 2.0), (20.0, 20.0), Box((-2.0, -2.0, -0.9), (2.0, 2.0, 2.0))),
)
HORIZON = 60  # periods


class ServoBody:
    """Two joints that are where the last setpoint was, and remember every one."""

    servo_hz = 50.0

    def __init__(self, spec: RobotSpec = SPEC) -> None:
        self.spec = spec
        self.ticking = threading.Event()
        self.closed = False

    def reset(self, seed: int, task: str) -> Observation:
        if self.closed:
            raise ProtocolError("closed")
        start = np.random.default_rng(seed).uniform(-0.5, 0.5, 2).astype(np.float32)
        self.way = [start.astype(np.float64)]
        return self._observe()

    def follow(self, setpoints: NDArray[np.float64], *, frames: bool) -> Step:
        self.way += list(setpoints)
        self.ticking.set()
        timing = {"render": 1} if frames else {}
        return Step(self._observe(), reward=len(setpoints) / 5, truncated=self.periods >= HORIZON, timing_ns=timing)

    @property
    def periods(self) -> float:
        return (len(self.way) - 1) / 5

    def lower(self, action, at):
        if action.text == "up":
            return at + np.array([0.0, 0.03]), ()
        return at, (Intervention("unknown_verb", action.text, 0.0, 0.0),)

    def tool_position(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([*values, values.sum()])

    def stop(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def _observe(self) -> Observation:
        return Observation(len(self.way) * 20_000_000, {}, self.way[-1].astype(np.float32), "wait")


class DeafBody(ServoBody):
    lower = None


class TestServo(RobotContract):
    @pytest.fixture
    def robot(self) -> SafeRobot[ServoBody]:
        return SafeRobot(ServoBody())


@pytest.fixture
def robot() -> SafeRobot[ServoBody]:
    robot = SafeRobot(ServoBody())
    robot.reset(0, "wait")
    return robot


def pose(*values: float) -> PoseAction:
    return PoseAction(np.array(values, np.float32))


def test_a_servo_is_led_in_small_steps_and_everything_is_added_up(robot: SafeRobot[ServoBody]) -> None:
    start = robot.body.way[0]
    step = robot.step(pose(*start + 0.02), pose(*start + 0.04))
    assert len(robot.body.way) == 11 and step.executed == 2 and step.dropped == 0
    np.testing.assert_allclose(np.diff(robot.body.way, axis=0), 0.004, atol=1e-7)
    assert step.reward == pytest.approx(2.0) and step.interventions == ()
    assert step.timing_ns["render"] == 1 and step.timing_ns["motion"] > 0


def test_words_are_lowered_by_the_body_and_limited_like_the_rest(robot: SafeRobot[ServoBody]) -> None:
    start = robot.body.way[0]
    assert robot.step(TextAction("up"), TextAction("up")).interventions == ()
    after = robot.step(TextAction("wait a bit")).observation.state
    np.testing.assert_allclose(after, [start[0], start[1] + 0.06], atol=0.01)
    kinds = {i.kind for i in robot.step(TextAction("dance"), *[TextAction("up")] * 50).interventions}
    assert {"unknown_verb", "position"} <= kinds


def test_a_body_that_knows_no_words_holds() -> None:
    robot = SafeRobot(DeafBody())
    robot.reset(0, "wait")
    (intervention,) = robot.step(TextAction("up" * 100)).interventions
    assert (intervention.kind, intervention.field) == ("unknown_verb", "up" * 40)
    assert np.ptp(robot.body.way, axis=0).max() == 0.0


def test_a_stop_in_mid_chunk_drops_the_rest_and_brakes_to_rest(robot: SafeRobot[ServoBody]) -> None:
    body = robot.body
    chunk = [pose(*body.way[0] - 0.15 * i) for i in (1, 2, 3, 4, 5)]
    follow = body.follow

    def interrupted(setpoints: NDArray[np.float64], *, frames: bool) -> Step:
        if body.periods == 2:
            robot.stop()
        return follow(setpoints, frames=frames)

    body.follow = interrupted
    step = robot.step(*chunk)
    assert (step.executed, step.dropped) == (3, 2)
    way = np.array(body.way)
    assert np.abs(np.diff(way, 2, axis=0)).max() <= 20.0 * 0.02**2 + 1e-9  # it braked, rather than froze
    robot.step(pose(*[np.nan] * 2))
    np.testing.assert_array_equal(body.way[-5:], np.tile(way[-1], (5, 1)))
    assert robot.step(pose(*way[-1] + 0.02)).interventions == ()  # and the operator may go on


def test_a_stop_between_steps_leaves_the_next_chunk_alone(robot: SafeRobot[ServoBody]) -> None:
    other = SafeRobot(ServoBody())
    other.reset(0, "wait")
    for one in (robot, other):
        one.step(pose(*robot.body.way[0] + 0.15))
    robot.stop()
    steps = [one.step(*[pose(0, 0)] * 3) for one in (robot, other)]
    assert [(step.executed, step.dropped) for step in steps] == [(3, 0)] * 2
    np.testing.assert_array_equal(robot.body.way, other.body.way)


def test_the_end_of_an_episode_drops_nothing(robot: SafeRobot[ServoBody]) -> None:
    step = robot.step(*[pose(0, 0)] * 80)
    assert (step.executed, step.dropped, step.truncated) == (60, 0, True)


def test_a_workspace_is_kept(robot: SafeRobot[ServoBody]) -> None:
    step = robot.step(*[pose(-1, -1)] * 20)
    assert {i.field for i in step.interventions if i.kind == "workspace"} == {"tool_z"}
    assert min(np.sum(robot.body.way, axis=1)) >= -0.9 - 1e-9
    assert step.observation.state.sum() < -0.85


def test_nothing_moves_where_one_action_of_a_chunk_does_not_fit(robot: SafeRobot[ServoBody]) -> None:
    with pytest.raises(InvalidActionError):
        robot.step(pose(0, 0), pose(0, 0, 0))
    assert len(robot.body.way) == 1


def test_a_failed_reset_leaves_no_episode_to_step_in(robot: SafeRobot[ServoBody]) -> None:
    robot.body.closed = True
    with pytest.raises(ProtocolError):
        robot.reset(1, "wait")
    with pytest.raises(ProtocolError, match="call reset first"):
        robot.step(pose(0, 0))


def test_nothing_is_limited_twice() -> None:
    robot = safe(ServoBody())
    assert isinstance(robot, Limited) and safe(robot) is robot
    assert isinstance(bare(robot), ServoBody)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SPEC, state=()), r"no state fields of the names \['pan', 'lift'\]"),
        (replace(SPEC, control_hz=30.0), "whole number of ticks"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(spec: RobotSpec, message: str) -> None:
    with pytest.raises(UnfitLimitsError, match=message):
        safe(ServoBody(spec))


def test_after_its_body_has_failed_a_robot_asks_for_a_reset() -> None:
    class Loose(ServoBody):
        failing = True

        def follow(self, setpoints: NDArray[np.float64], *, frames: bool) -> Step:
            if self.failing:
                raise OSError("a packet was lost")
            return super().follow(setpoints, frames=frames)

    robot, action = SafeRobot(Loose()), PoseAction(np.array([0.1, 0.1], np.float32))
    robot.reset(0, "wait")
    with pytest.raises(OSError, match="a packet"):
        robot.step(action)
    robot.body.failing = False
    with pytest.raises(ProtocolError, match="reset"):
        robot.step(action)
    robot.reset(0, "wait")
    assert robot.step(action).executed == 1
