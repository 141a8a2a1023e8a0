"""A robot run against the wall clock: its time passes, nobody can hold it up, and it stops by itself."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embodied.bridge.robot_client import RemoteRobot
from embodied.cli import main
from embodied.errors import EmbodiedError, InvalidActionError, ProtocolError, UnknownNameError
from embodied.realtime import RealTimeRobot
from embodied.safety import SafeRobot, safe
from embodied.types import Observation, PoseAction, Robot, Step
from tests.dummy_robot import DummyRobot
from tests.faults.evidence import Evidence
from tests.faults.processes import host
from tests.live_robot import CONTROL_PERIOD_S, TICK_S, LiveBody, make, sweep


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[RealTimeRobot]:
    robot = RealTimeRobot(lambda: make(str(tmp_path / "setpoints")))
    yield robot
    robot.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(TICK_S)


class Watched(LiveBody):
    """A live body that notes the threads that use it, and can be slow or stuck."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "setpoints", horizon_s=60.0, reset_s=0.0, control_hz=10.0, watchdog_s=0.3)
        self.threads = {threading.get_ident()}
        self.tick_s = 0.0
        self.closes = self.stops = self.deaf_to = 0
        self.resetting, self.freed = threading.Event(), threading.Event()
        self.freed.set()

    def reset(self, seed: int, task: str) -> Observation:
        self.threads.add(threading.get_ident())
        self.resetting.set()
        self.freed.wait(10)
        return super().reset(seed, task)

    def follow(self, setpoints: Any, *, frames: bool) -> Step:
        self.threads.add(threading.get_ident())
        time.sleep(self.tick_s)
        return super().follow(setpoints, frames=frames)

    def stop(self) -> None:
        self.stops += 1
        if self.stops > self.deaf_to:
            self.freed.set()

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closes += 1
        super().close()


def watched(folder: Path) -> tuple[RealTimeRobot, Watched]:
    made: list[Watched] = []

    def make_it() -> Robot:
        made.append(Watched(folder))
        return SafeRobot(made[0])

    return RealTimeRobot(make_it), made[0]


def test_it_is_a_robot_that_keeps_its_own_limits(robot: RealTimeRobot) -> None:
    assert isinstance(robot, Robot) and robot.spec.realtime
    assert safe(robot) is robot


def test_time_passes_although_nobody_commands(robot: RealTimeRobot) -> None:
    begun_ns = robot.reset(0, "sweep").time_ns
    until(lambda: robot.observe(frames=False).time_ns > begun_ns + 200_000_000)


def test_a_step_returns_as_its_last_action_begins(robot: RealTimeRobot) -> None:
    robot.reset(0, "sweep")
    step = robot.step(*sweep(10, 0, 3), frames=False)
    assert step.executed == 3 and set(step.timing_ns) == {"wait", "motion", "render"}
    assert step.timing_ns["motion"] >= (2 * CONTROL_PERIOD_S - TICK_S) * 1e9
    far = step.observation.state[0]
    until(lambda: robot.observe(frames=False).state[0] > far + 0.05)  # it is still moving


def test_frames_come_only_when_asked_for(robot: RealTimeRobot) -> None:
    assert set(robot.reset(0, "sweep").frames) == {"front"}
    assert set(robot.step(*sweep(10, 0, 1)).observation.frames) == {"front"}
    assert robot.step(*sweep(10, 1, 1), frames=False).observation.frames == {}
    assert set(robot.observe(frames=True).frames) == {"front"}


def test_a_stop_in_mid_chunk_ends_the_step_with_the_rest_dropped(robot: RealTimeRobot) -> None:
    robot.reset(0, "sweep")
    threading.Timer(2.5 * CONTROL_PERIOD_S, robot.stop).start()
    step = robot.step(*sweep(10, 0, 50), frames=False)
    assert step.executed + step.dropped == 50 and step.executed < 20
    at = robot.observe(frames=False).state
    assert robot.step(*[PoseAction(at)] * 2, frames=False).dropped == 0  # and the operator may go on


def test_what_is_wrong_is_refused_before_anything_moves(robot: RealTimeRobot) -> None:
    with pytest.raises(ProtocolError, match="reset first"):
        robot.step(*sweep(10, 0, 1))
    with pytest.raises(UnknownNameError, match="no task 'juggle'"):
        robot.reset(0, "juggle")
    robot.reset(0, "sweep")
    with pytest.raises(InvalidActionError):
        robot.step()
    with pytest.raises(InvalidActionError):
        robot.step(*sweep(10, 0, 1), PoseAction(np.zeros(3, np.float32)))
    assert robot.observe(frames=False).state[0] == 0.0


def test_the_body_is_used_on_the_one_thread_that_made_it(tmp_path: Path) -> None:
    robot, body = watched(tmp_path)
    robot.reset(0, "sweep")
    robot.step(*sweep(10, 0, 2))
    robot.observe(frames=True)
    robot.close()
    assert len(body.threads) == 1 and body.threads != {threading.get_ident()}


def test_close_brakes_answers_who_waits_and_closes_the_body_once(tmp_path: Path) -> None:
    robot, body = watched(tmp_path)
    robot.reset(0, "sweep")
    closer = threading.Timer(1.5 * CONTROL_PERIOD_S, robot.close)
    closer.start()
    assert robot.step(*sweep(10, 0, 50), frames=False).dropped > 30
    closer.join()
    robot.close()
    robot.stop()
    assert body.closes == 1
    for refused in (lambda: robot.step(*sweep(10, 0, 1)), lambda: robot.reset(0, "sweep")):
        with pytest.raises(ProtocolError, match="live is closed"):
            refused()


def test_a_stop_reaches_a_body_that_is_being_reset(tmp_path: Path) -> None:
    robot, body = watched(tmp_path)
    body.freed.clear()
    resetting = threading.Thread(target=robot.reset, args=(0, "sweep"))
    resetting.start()
    assert body.resetting.wait(10)
    robot.stop()
    resetting.join(5)
    assert not resetting.is_alive()
    robot.close()


def test_a_close_during_a_reset_stops_the_body_and_comes_back(tmp_path: Path) -> None:
    robot, body = watched(tmp_path)
    body.freed.clear()
    resetting = threading.Thread(target=robot.reset, args=(0, "sweep"))
    resetting.start()
    assert body.resetting.wait(10)
    begun_s = time.monotonic()
    robot.close()
    assert body.stops >= 1 and body.closes == 1 and time.monotonic() - begun_s < 5
    resetting.join(5)


def test_a_stop_that_comes_before_a_reset_has_begun_ends_it(tmp_path: Path) -> None:
    robot, body = watched(tmp_path)
    robot.reset(0, "sweep")
    body.resetting.clear()
    busy, freed = threading.Event(), threading.Event()
    robot._requests.put(lambda: (busy.set(), freed.wait(10))[0])  # while both are asked
    assert busy.wait(10)
    failures: list[str] = []

    def reset() -> None:
        try:
            robot.reset(0, "sweep")
        except EmbodiedError as error:
            failures.append(str(error))

    resetting = threading.Thread(target=reset)
    resetting.start()
    until(lambda: robot._requests.qsize() == 1)
    robot.stop()
    freed.set()
    resetting.join(10)
    assert failures == ["live was stopped before it began"] and not body.resetting.is_set()
    robot.reset(0, "sweep")  # the next one may
    robot.close()


def test_a_stop_that_a_body_had_no_ear_for_is_said_again_until_its_reset_ends(tmp_path: Path) -> None:
    robot, body = watched(tmp_path)
    body.freed.clear()
    body.deaf_to = 2
    resetting = threading.Thread(target=robot.reset, args=(0, "sweep"))
    resetting.start()
    assert body.resetting.wait(10)
    robot.stop()
    resetting.join(5)
    assert not resetting.is_alive() and body.stops >= 3
    robot.close()


def test_a_body_that_cannot_be_driven_is_closed_again(tmp_path: Path) -> None:
    body = Watched(tmp_path)
    body.spec = replace(body.spec, control_hz=33.0)
    with pytest.raises(EmbodiedError, match="no whole number of ticks"):
        RealTimeRobot(lambda: body)
    assert body.closes == 1


def test_a_reset_in_mid_motion_brakes_first(robot: RealTimeRobot, tmp_path: Path) -> None:
    robot.reset(0, "sweep")
    robot.step(*sweep(10, 0, 3), frames=False)
    moving = robot.observe(frames=False).time_ns
    robot.reset(0, "sweep")
    assert moving > 0 and robot.observe(frames=False).state[0] == 0.0
    Evidence(tmp_path / "setpoints").check()


def test_ticks_that_are_missed_are_counted_and_not_made_up_for(tmp_path: Path) -> None:
    robot, body = watched(tmp_path)
    robot.reset(0, "sweep")
    body.tick_s = 2.5 * TICK_S
    before = robot.regularity
    robot.step(*sweep(10, 0, 2), frames=False)
    after = robot.regularity
    robot.close()
    ticks, missed = after.ticks - before.ticks, after.missed - before.missed
    assert ticks <= 15  # 11 setpoints, those while the step was on its way, and no burst
    assert missed >= ticks  # at least every other deadline
    assert after.jitter_max_s > TICK_S


def test_a_robot_that_takes_no_setpoints_is_told_what_it_lacks() -> None:
    with pytest.raises(EmbodiedError, match=r"dummy cannot run in real time.*lacks \['servo_hz', 'follow'\]"):
        RealTimeRobot(DummyRobot)


def test_a_robot_that_lives_in_real_time_already_is_left_to_itself(robot: RealTimeRobot) -> None:
    with pytest.raises(EmbodiedError, match="in real time already"):
        RealTimeRobot(lambda: robot)


def test_what_making_the_robot_raises_comes_through() -> None:
    def fail() -> Robot:
        raise UnknownNameError("scene", "moon", "live", ["table"])

    with pytest.raises(UnknownNameError, match="no scene 'moon'"):
        RealTimeRobot(fail)


def test_the_host_says_in_the_end_how_well_time_was_kept(tmp_path: Path) -> None:
    with host(tmp_path, "--realtime") as live:
        with RemoteRobot(live.address) as remote:
            assert remote.spec.realtime
            remote.reset(0, "sweep")
            assert remote.step(*sweep(10, 0, 2), frames=False).executed == 2
        live.send(signal.SIGTERM)
        assert re.fullmatch(r"\d+ ticks, \d+ missed; jitter p50, p99, max: \S+, \S+, \S+ ms", live.line())
        assert live.popen.wait(10) == 0


def test_the_host_refuses_a_robot_that_takes_no_setpoints(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["host", "tests.dummy_robot", "--realtime", "--address", "127.0.0.1:0"]) == 2
    assert capfd.readouterr().err.startswith("error: dummy cannot run in real time")
