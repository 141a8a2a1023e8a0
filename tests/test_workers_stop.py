"""A worker that is told to end stops its robot at once, whatever the robot is doing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.emulated_arm import opened, pose, until
from tests.faults.evidence import Evidence
from tests.servo_emulator.process import Emulator
from tests.test_arm import SO101, begin
from tests.test_rollout_faults import TIMEOUT_S, rollout

AT_ONCE_S = 1.5  # for signal, message and brakes, on a machine that is busy; a chunk lasts 20 s
ARM = ["--robot", "tests.live_arm", "--policy", "tests.faults.sweeper", "--task", "sweep"]
UNFILMED = ("--videos", "0")
LONG = ["--policy-option", "chunk=200", "--episodes", "2", "--workers", "2"]


def sweeping(folder: Path, *arguments: str) -> list[str]:
    """Return what has each of two arms sweep to and fro."""
    (folder / "arms").mkdir()
    return [*ARM, "--option", f"folder={folder}/arms", *LONG, *arguments]


def moving(folder: Path) -> list[Evidence]:
    """Wait until both arms have moved, and return what they are told."""
    until(lambda: [Evidence(arm).last_motion_s() > 0 for arm in (folder / "arms").iterdir()] == [True] * 2, TIMEOUT_S)
    return [Evidence(arm) for arm in (folder / "arms").iterdir()]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_arms_stop_in_the_middle_of_a_chunk_when_the_rollout_is_ended(signum: signal.Signals, tmp_path: Path) -> None:
    with rollout(tmp_path / "out", *sweeping(tmp_path), how=UNFILMED) as process:
        arms = moving(tmp_path)
        ended_s = time.monotonic()
        process.send_signal(signum)  # to the parent alone, as a service manager does, or the kernel out of memory
        assert max(arm.wait_for_rest() for arm in arms) - ended_s < AT_ONCE_S
        process.wait(TIMEOUT_S)
    for arm in arms:
        arm.check()


def test_an_arm_stops_when_another_worker_fails(tmp_path: Path) -> None:
    (tmp_path / "fails").touch()
    with rollout(
        tmp_path / "out", *sweeping(tmp_path, "--policy-option", f"fails={tmp_path}/fails"), how=UNFILMED
    ) as process:
        arms = moving(tmp_path)
        first_s, last_s = sorted(arm.wait_for_rest() for arm in arms)
        assert last_s - first_s < AT_ONCE_S
        assert process.stderr is not None and "it has failed, as it was to" in process.stderr.read()
    for arm in arms:
        arm.check()


def test_an_arm_stops_on_its_way_home_when_the_rollout_is_interrupted(tmp_path: Path) -> None:
    with Emulator(vendor="feetech", seed=3, no_cameras=True) as emulated:
        with opened("so101", emulated, tmp_path) as arm:
            begin(arm)
            for _ in range(20):
                arm.step(pose(SO101, shoulder_pan=1.5))
        away_rad = emulated.truth()["joints"]["shoulder_pan"]
        options = {"port": emulated.port, "calibration": tmp_path / "so101.json", "stage": "none", "cameras": "{}"}
        given = [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
        task = ["--policy", "policies.hold", "--task", SO101.tasks[0], "--episodes", "1"]
        with rollout(tmp_path / "out", "--robot", "embodied.robots.so101", *given, *task, how=UNFILMED) as process:
            until(lambda: emulated.truth()["joints"]["shoulder_pan"] < away_rad - 0.2, TIMEOUT_S)
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(TIMEOUT_S) == 130
        assert emulated.truth()["joints"]["shoulder_pan"] > 0.5
