"""A robot server that is killed in mid-motion: its operator is told at once, and no recorded frame is lost."""

from __future__ import annotations

import random
import signal
import threading
import time
from pathlib import Path

import pytest

from embodied.bridge.robot_client import RemoteRobot
from embodied.errors import ProtocolError
from embodied.loop import run_episode
from embodied.recording.rollout import RolloutRecorder
from embodied.recording.spool import Spool
from embodied.types import Action, Observation, Step
from tests.faults.processes import host
from tests.faults.sweeper import Sweeper
from tests.faults.trials import TRIALS, Table

CONTROL_HZ = 25.0  # more frames to lose


class Counter:
    """An observer that counts the steps that came back."""

    def __init__(self) -> None:
        self.steps = 0

    def began(self, observation: Observation) -> None: ...

    def stepped(self, action: Action, step: Step) -> None:
        self.steps += 1

    def ended(self, success: bool) -> None: ...


@pytest.mark.parametrize("trials", TRIALS)
def test_the_operator_is_told_and_what_was_recorded_so_far_is_kept(trials: int, tmp_path: Path, table: Table) -> None:
    told_ms, lost, moments = list[float](), list[int](), random.Random(0)
    for trial in range(trials):
        folder, counter, killed_s = tmp_path / str(trial), Counter(), list[float]()
        folder.mkdir()
        with (
            host(folder, "--realtime", control_hz=CONTROL_HZ, watchdog_s=5.0) as live,
            RemoteRobot(live.address) as robot,
        ):

            def kill() -> None:
                live.send(signal.SIGKILL)
                killed_s.append(time.monotonic())  # noqa: B023

            threading.Timer(moments.uniform(0.3, 1.5), kill).start()
            with (
                RolloutRecorder(folder / "episode.arrow", robot.spec, task="sweep", seed=trial) as recorder,
                pytest.raises(ProtocolError, match=live.address),
            ):
                run_episode(robot, Sweeper(), task="sweep", seed=trial, observers=[recorder, counter])
            told_ms.append((time.monotonic() - killed_s[0]) * 1e3)
            with pytest.raises(ProtocolError, match="reconnect"):
                robot.reset(0, "sweep")
            live.evidence.check()
        lost.append(counter.steps - Spool(folder / "episode.arrow.partial").rows)
        assert counter.steps > 0
    table.add("server SIGKILL mid-motion", "until the client is told, ms", told_ms)
    table.add("server SIGKILL mid-motion", "recorded frames lost", lost, allowed=0)
