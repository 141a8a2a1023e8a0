"""What a live robot was really told to do, read from the file that it appended to, and judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.live_robot import JOINTS, RECORD, SPEC, TICK_S

TAIL = 3000  # setpoints: half a minute
ROUNDING = 1 + 1e-6
SETTLED_S = 0.4  # a robot whose setpoints rest so long has stopped: no chunk of the trials pauses in between


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0, *, why: str = "it never came about") -> None:
    """Wait for what another process brings about; fail if it does not."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, why
        time.sleep(0.005)


class Evidence:
    """The setpoints of one live robot so far, those of a process that was killed too."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, last: int | None = None) -> NDArray[np.void]:
        """Return the records so far, or the last so many: (n,) of RECORD, oldest first."""
        count = self._path.stat().st_size // RECORD.itemsize
        skipped = 0 if last is None else max(0, count - last)
        return np.fromfile(self._path, RECORD, count - skipped, offset=skipped * RECORD.itemsize)

    def last_motion_s(self) -> float:
        """Return when, by the machine's monotonic clock, a setpoint last differed from the one before it."""
        found = self.read(TAIL)
        changed = np.flatnonzero((np.diff(found["setpoint"], axis=0) != 0).any(axis=1) & ~found["placed"][1:])
        return float(found["time_ns"][changed[-1] + 1]) * 1e-9 if len(changed) else 0.0

    def wait_for_motion(self) -> None:
        """Wait until the robot moves."""
        asked_s = time.monotonic()
        wait_until(lambda: self.last_motion_s() > asked_s, why="the robot does not move")

    def wait_for_rest(self) -> float:
        """Wait until the robot has stopped and return when it did, by the monotonic clock."""
        wait_until(lambda: time.monotonic() - self.last_motion_s() > SETTLED_S, why="the robot moves on and on")
        return self.last_motion_s()

    def hiccup_s(self, since_s: float) -> float:
        """Return by how much the robot's worst tick since then was late: a machine that is so busy delays all alike."""
        times_s = self.read(TAIL)["time_ns"] * 1e-9
        return max(0.0, float(np.diff(times_s[times_s > since_s]).max(initial=0.0)) - TICK_S)

    def check(self, *, forbidden: bool = True) -> None:
        """Fail unless every setpoint is finite, in range, within the limits of speed, and of a command that may be.

        Trials command the joint `forbidden` only by what must never be carried out, unless told otherwise.
        """
        found = self.read()
        setpoints = found["setpoint"]
        assert np.isfinite(setpoints).all()
        low, high = (np.array([getattr(f, end) for f in SPEC.action]) for end in ("low", "high"))
        assert (setpoints >= low).all() and (setpoints <= high).all()
        if forbidden:
            assert not setpoints[:, JOINTS.index("forbidden")].any(), "a command was carried out that must not be"
        for episode in np.split(setpoints, np.flatnonzero(found["placed"])):
            velocity = np.diff(episode, axis=0) / TICK_S
            acceleration = np.diff(velocity, axis=0) / TICK_S
            assert (np.abs(velocity) <= np.array(SPEC.limits.velocity) * ROUNDING).all()
            assert (np.abs(acceleration) <= np.array(SPEC.limits.acceleration) * ROUNDING).all()
