"""A stop at the worst moment still stops: as a step begins, from a robot that fails, before a release."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np

from embodied.bridge.emergency import stop_button
from embodied.bridge.robot_client import RemoteRobot
from embodied.bridge.robot_server import serve_robot
from embodied.realtime import RealTimeRobot
from embodied.types import Action, PoseAction, Step
from embodied.v1 import types_pb2
from tests.live_robot import make
from tests.paced_robot import PacedRobot
from tests.raw_operator import RawOperator, hold


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.005)


class HesitantRobot(RealTimeRobot):
    """A real-time robot whose step may be held just before it begins."""

    def __init__(self, evidence: Path) -> None:
        super().__init__(lambda: make(str(evidence), control_hz=2.0, watchdog_s=5.0))
        self.entered, self.go = threading.Event(), threading.Event()

    def step(self, *actions: Action, frames: bool = True) -> Step:
        self.entered.set()
        assert self.go.wait(20)
        return super().step(*actions, frames=frames)


class ExitingRobot(PacedRobot):
    """A robot whose driver ends the program when it is told to stop."""

    def stop(self) -> None:
        raise SystemExit("the driver gave up")

    def close(self) -> None:
        self.paced.close()


def test_an_emergency_stop_that_comes_as_a_step_begins_cuts_its_last_action_short(tmp_path: Path) -> None:
    robot = HesitantRobot(tmp_path / "setpoints")
    with serve_robot(lambda: robot) as server, RemoteRobot(server.address) as operator:
        operator.reset(0, operator.spec.tasks[0])
        far = PoseAction(np.array([0.5, 0.0], np.float32))
        stepping = threading.Thread(target=lambda: operator.step(far, frames=False))
        stepping.start()
        assert robot.entered.wait(20)
        with stop_button(server.address) as button:
            assert button.press().stopped  # before there is anything to stop
        robot.go.set()
        stepping.join(20)
        until(lambda: not robot._drive.moving)
        assert abs(float(robot.observe(frames=False).state[0])) < 0.1  # of 0.5 that were commanded


def test_a_robot_whose_stop_exits_ends_neither_the_watchdog_nor_the_server() -> None:
    with serve_robot(lambda: ExitingRobot(realtime=True, watchdog_s=0.3)) as server:
        for _ in range(2):
            with RawOperator(server.address) as operator:
                operator.begin()
                code, words = operator.ended()
                assert code is grpc.StatusCode.ABORTED and "no sign of life" in words


def test_what_was_asked_before_a_release_is_not_carried_out_after_it() -> None:
    robot = PacedRobot()
    with serve_robot(lambda: robot) as server, RawOperator(server.address) as operator:
        operator.begin()
        robot.paced.period_s = 15.0
        robot.paced.moving.clear()
        operator.send(step=hold())
        assert robot.paced.moving.wait(20)
        for _ in range(3):
            operator.send(step=hold())
        with stop_button(server.address) as button:
            button.press()
            button.release()
        operator.reply()  # to the step that was under way
        refused = [operator.reply().error.code for _ in range(3)]
        assert set(refused) <= {types_pb2.ERROR_CODE_STOPPED, types_pb2.ERROR_CODE_LATE} and 0 not in refused


def test_a_worker_whose_rollout_alone_is_killed_lets_go_of_the_robot(tmp_path: Path) -> None:
    with serve_robot(lambda: RealTimeRobot(lambda: make(str(tmp_path / "setpoints")))) as server:
        command = [sys.executable, "-m", "embodied", "rollout", "--robot", server.address, "--policy", "policies.hold"]
        task = RemoteRobot(server.address).spec.tasks[0]
        command += ["--task", task, "--episodes", "1", "--videos", "0", "--out", str(tmp_path / "out")]
        rollout = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with stop_button(server.address) as button:
            until(lambda: bool(button.status().holder))
            rollout.send_signal(signal.SIGKILL)
            rollout.wait()
            until(lambda: not button.status().holder, timeout_s=5.0)  # its episode would last an hour
