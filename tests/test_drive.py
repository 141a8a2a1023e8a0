"""Driving a servo body tick by tick: continuous across chunks, braking where none comes, answered at the right tick."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest

from embodied.drive import Chunk, Drive
from embodied.errors import ProtocolError
from embodied.types import Fault, Field, Limits, Observation, PoseAction, RobotSpec, Step, TextAction

TICKS = 10  # in a control period
JOINT = Field("pan", "rad", -1.0, 1.0)
SPEC = RobotSpec("bench", 10.0, (), (JOINT,), (JOINT,), tasks=("move",), limits=Limits((2.0,), (20.0,)))


class Body:
    """One joint, a reward a tick, and an episode of `horizon` ticks."""

    spec = SPEC
    servo_hz = 100.0

    def __init__(self, horizon: int = 1000) -> None:
        self.horizon, self.setpoints = horizon, list[float]()
        self.fails = False
        self.deaf_ticks = 0
        self.faults: tuple[Fault, ...] = ()

    def reset(self, seed: int, task: str) -> Observation:
        self.setpoints = []
        return self.observation()

    def follow(self, setpoints: Any, *, frames: bool) -> Step:
        self.deaf_ticks -= 1
        if self.fails or self.deaf_ticks == 0:
            raise OSError("the bus is silent")
        self.setpoints += setpoints[:, 0].tolist()
        truncated = len(self.setpoints) >= self.horizon
        return Step(self.observation(), reward=float(len(setpoints)), truncated=truncated, faults=self.faults)

    def observation(self) -> Observation:
        at = self.setpoints[-1] if self.setpoints else 0.0
        return Observation(len(self.setpoints) * 10_000_000, {}, np.array([at], np.float32), "move")

    def stop(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def body() -> Body:
    return Body()


@pytest.fixture
def drive(body: Body) -> Drive:
    drive = Drive(body)
    drive.begin(0, "move")
    return drive


def chunk(*values: float) -> Chunk:
    return Chunk(deque(PoseAction(np.array([value], np.float32)) for value in values), frames=False)


def tick(drive: Drive, times: int) -> None:
    for _ in range(times):
        drive.tick()


def answer(drive: Drive, asked: Chunk) -> tuple[Step, int]:
    """Tick until the chunk is answered; return the answer and the number of ticks."""
    for ticks in range(1, 1000):
        drive.tick()
        if asked.result.done():
            return asked.result.result(), ticks
    raise AssertionError("no answer")


def carry_out(drive: Drive, *values: float) -> tuple[Step, int]:
    asked = chunk(*values)
    drive.take(asked)
    return answer(drive, asked)


def test_a_chunk_is_answered_as_its_last_action_begins(drive: Drive) -> None:
    step, ticks = carry_out(drive, 0.01, 0.02, 0.03)
    assert ticks == 2 * TICKS + 1 and step.executed == 3 and step.dropped == 0


def test_the_next_chunk_begins_as_the_last_action_ends_and_the_motion_does_not_pause(drive: Drive, body: Body) -> None:
    carry_out(drive, 0.1, 0.2, 0.3)
    step, ticks = carry_out(drive, 0.4, 0.5)
    assert ticks == TICKS - 1 + TICKS + 1 and step.executed == 2  # the rest of the action before, and two beginnings
    seam = np.diff(body.setpoints)[2 * TICKS : 4 * TICKS]
    np.testing.assert_allclose(seam, 0.01, atol=1e-6)


def test_where_no_command_comes_it_brakes_within_the_limits_and_holds(drive: Drive, body: Body) -> None:
    carry_out(drive, 0.1, 0.2, 0.3, 0.4)
    tick(drive, 100)
    assert not drive.moving
    speeds = np.diff([0.0, *body.setpoints]) * body.servo_hz
    assert np.abs(np.diff(speeds)).max() * body.servo_hz <= 20.0 * (1 + 1e-9)
    assert body.setpoints[-50:] == [body.setpoints[-1]] * 50
    assert len(body.setpoints) == 3 * TICKS + 1 + 100  # and its time goes on


def test_after_a_pause_a_chunk_begins_at_the_next_tick(drive: Drive) -> None:
    tick(drive, 37)
    assert carry_out(drive, 0.01, 0.02)[1] == TICKS + 1


def test_a_halt_drops_what_has_not_begun_and_answers_once_the_body_stands(drive: Drive, body: Body) -> None:
    asked = chunk(0.1, 0.2, 0.3, 0.4, 0.5)
    drive.take(asked)
    tick(drive, TICKS + 5)
    drive.halt()
    drive.halt()
    step, ticks = answer(drive, asked)
    assert (step.executed, step.dropped) == (2, 3)
    assert not drive.moving and 0.1 < body.setpoints[-1] < 0.2
    assert 1 < ticks <= TICKS  # 1 rad/s at 20 rad/s²: half a period
    assert carry_out(drive, 0.1)[0].executed == 1  # and the operator may go on


def test_a_halt_before_the_first_action_drops_them_all(drive: Drive) -> None:
    asked = chunk(0.1, 0.2)
    drive.take(asked)
    drive.halt()
    step, ticks = answer(drive, asked)
    assert (step.executed, step.dropped, ticks) == (0, 2, 1)


def test_an_end_that_comes_while_nobody_commands_is_told_by_the_next_step_alone() -> None:
    body = Body(horizon=15)
    drive = Drive(body)
    drive.begin(0, "move")
    tick(drive, 40)
    assert len(body.setpoints) == 15  # its time is over
    step, ticks = carry_out(drive, 0.1)
    assert step.truncated and step.executed == 0 and ticks == 1
    assert step.observation.state == pytest.approx(0.0)
    with pytest.raises(ProtocolError, match="reset first"):
        drive.take(chunk(0.1))


def test_an_end_in_mid_chunk_is_told_at_once_and_the_body_brakes() -> None:
    body = Body(horizon=15)
    drive = Drive(body)
    drive.begin(0, "move")
    step, ticks = carry_out(drive, 0.1, 0.2, 0.3)
    assert step.truncated and step.executed == 2 and ticks == 15
    tick(drive, 40)
    assert not drive.moving and np.abs(np.diff(body.setpoints, 2)).max() <= 20.0 / 100.0**2 + 1e-9


def test_every_ticks_reward_is_told_once(drive: Drive, body: Body) -> None:
    tick(drive, 5)
    told = carry_out(drive, 0.01, 0.02)[0].reward
    tick(drive, 50)
    told += carry_out(drive, 0.03)[0].reward
    assert told == len(body.setpoints)


def test_what_the_limits_change_is_reported(drive: Drive) -> None:
    carry_out(drive, 5.0)
    step, _ = carry_out(drive, 0.0)
    assert [i.kind for i in step.interventions] == ["velocity"]  # of the command before, whose period is over now
    drive.begin(0, "move")
    step, _ = carry_out(drive, np.nan)
    assert [i.kind for i in step.interventions] == ["non_finite"]


def test_words_that_the_body_does_not_know_are_reported_and_it_holds(drive: Drive) -> None:
    asked = Chunk(deque([TextAction("jump")]), frames=False)
    drive.take(asked)
    step, _ = answer(drive, asked)
    assert [i.kind for i in step.interventions] == ["unknown_verb"] and step.observation.state == pytest.approx(0.0)


def test_a_failure_of_the_body_is_the_answer_and_a_reset_begins_anew(drive: Drive, body: Body) -> None:
    body.fails = True
    tick(drive, 3)  # nobody is there to be told
    asked = chunk(0.1)
    drive.take(asked)
    tick(drive, 1)
    with pytest.raises(OSError, match="the bus is silent"):
        asked.result.result(0)
    with pytest.raises(ProtocolError, match="reset first"):
        drive.take(chunk(0.1))
    body.fails = False
    drive.begin(0, "move")
    assert carry_out(drive, 0.1)[0].executed == 1


def test_a_body_that_failed_in_motion_is_braked_within_its_limits(drive: Drive, body: Body) -> None:
    asked = chunk(0.2, 0.4)
    drive.take(asked)
    tick(drive, TICKS)
    body.deaf_ticks = 1
    tick(drive, 1)
    with pytest.raises(OSError, match="the bus is silent"):
        asked.result.result(0)
    at = len(body.setpoints)
    tick(drive, 50)
    speeds = np.diff(body.setpoints[at:])
    assert speeds[0] > 0.0 and not drive.moving
    assert np.diff([*speeds, 0.0]) == pytest.approx(-20.0 * drive.tick_s**2)


def test_what_a_body_says_is_wrong_is_told_once_though_it_passed(drive: Drive, body: Body) -> None:
    body.faults = (Fault("joint", "temperature", "61 °C"),)
    drive.take(asked := chunk(0.1, 0.2))
    tick(drive, 2)
    body.faults = ()
    assert [f.kind for f in answer(drive, asked)[0].faults] == ["temperature"]
    assert carry_out(drive, 0.3)[0].faults == ()


def test_a_second_chunk_at_a_time_is_refused(drive: Drive) -> None:
    drive.take(chunk(0.1, 0.2))
    with pytest.raises(ProtocolError, match="another step"):
        drive.take(chunk(0.1))


def test_before_an_episode_there_is_nothing_to_carry_out() -> None:
    drive = Drive(Body())
    tick(drive, 3)
    with pytest.raises(ProtocolError, match="reset first"):
        drive.take(chunk(0.1))
