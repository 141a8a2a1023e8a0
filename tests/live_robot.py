"""A robot that leaves evidence: it appends every setpoint that it is given to a file, which outlives its process."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.safety import SafeRobot
from embodied.types import Camera, Field, Limits, Observation, PoseAction, RobotSpec, Step

# Trials move `pan`; they command `forbidden` by nothing but what must never be carried out.
JOINTS = ("pan", "forbidden")
FIELDS = tuple(Field(name, "rad", -1.0, 1.0) for name in JOINTS)
SERVO_HZ = 100.0
TICK_S = 1 / SERVO_HZ
CONTROL_PERIOD_S = 0.1
WATCHDOG_S = 0.5
VELOCITY, ACCELERATION = 2.0, 20.0  # from its top speed it brakes in a control period
SIZE = 32
RECORD = np.dtype([("time_ns", "<i8"), ("placed", "?"), ("setpoint", "<f8", len(JOINTS))])  # placed: by a reset

SPEC = RobotSpec(
    name="live",
    control_hz=1 / CONTROL_PERIOD_S,
    cameras=(Camera("front", SIZE, SIZE, fovy_deg=45.0),),
    state=FIELDS,
    action=FIELDS,
    tasks=("sweep",),
    watchdog_s=WATCHDOG_S,
    limits=Limits((VELOCITY,) * len(JOINTS), (ACCELERATION,) * len(JOINTS)),
)


class LiveBody:
    """Two joints and a camera; each setpoint is on its way to the disk before it is carried out."""

    def __init__(
        self, evidence: Path, *, horizon_s: float, reset_s: float, control_hz: float, watchdog_s: float
    ) -> None:
        self.spec = replace(SPEC, control_hz=control_hz, watchdog_s=watchdog_s)
        self.servo_hz = SERVO_HZ
        self._file = os.open(evidence, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._horizon = round(horizon_s * SERVO_HZ)
        self._reset_s = reset_s
        self._ticks = 0
        self._at = np.zeros(len(JOINTS))

    def reset(self, seed: int, task: str) -> Observation:
        time.sleep(self._reset_s)  # as a robot that must be put back in its place
        self._ticks, self._at = 0, np.zeros(len(JOINTS))
        self._log(placed=True)
        return self._observe(frames=True)

    def follow(self, setpoints: NDArray[np.float64], *, frames: bool) -> Step:
        for setpoint in setpoints:
            self._at = setpoint.copy()
            self._log(placed=False)
            self._ticks += 1
            if self._ticks >= self._horizon:
                break
        return Step(self._observe(frames=frames), truncated=self._ticks >= self._horizon)

    def stop(self) -> None: ...

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _log(self, *, placed: bool) -> None:
        os.write(self._file, np.array([(time.monotonic_ns(), placed, self._at)], RECORD).tobytes())

    def _observe(self, *, frames: bool) -> Observation:
        frame = np.full((SIZE, SIZE, 3), self._ticks % 256, np.uint8)
        state = self._at.astype(np.float32)
        return Observation(self._ticks * round(TICK_S * 1e9), {"front": frame} if frames else {}, state, "sweep")


def sweep(control_hz: float, first: int, count: int) -> list[PoseAction]:
    """Return actions first to first + count of a motion to and fro that never rests, within the limits."""
    pan = 0.6 * np.sin(2.0 * np.arange(first + 1, first + count + 1) / control_hz)
    return [PoseAction(np.array([value, 0.0], np.float32)) for value in pan]


def make(
    evidence: str,
    *,
    horizon_s: float = 3600.0,
    reset_s: float = 0.0,
    control_hz: float = 1 / CONTROL_PERIOD_S,
    watchdog_s: float = WATCHDOG_S,
) -> SafeRobot[Any]:
    """Make the robot, so that this file is a robot module."""
    body = LiveBody(Path(evidence), horizon_s=horizon_s, reset_s=reset_s, control_hz=control_hz, watchdog_s=watchdog_s)
    return SafeRobot(body)
