"""The way home before an episode: gently, within the limits, and to be stopped at any moment."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embodied.errors import HardwareError
from embodied.hardware.arm import ArmModel
from embodied.hardware.bus import Reading
from embodied.hardware.health import Health
from embodied.motion import Motion
from embodied.pace import Pace
from embodied.types import Limits

Array = NDArray[np.float64]

GENTLE_RAD_S, GENTLE_RAD_S2 = 0.8, 3.0
WITHIN_S = 20.0
OUTSIDE_RAD = 0.1  # beyond its range by which a joint may stand: it gives a little at its stops
ARRIVED_RAD = 0.1
SETTLES_S = 1.0


class Arm(Protocol):
    """What goes home."""

    arm: ArmModel
    servo_hz: float

    @property
    def measured_rad(self) -> Array:
        """Return where the joints were last read to be (n,)."""

    @property
    def health(self) -> Health:
        """Return the state of the servos."""

    def tick(self, setpoint: Array) -> Reading:
        """Send one setpoint (n,) rad and return what was read last."""


def go_home(body: Arm, stopped: threading.Event) -> None:
    """Move to the arm's home; raise HardwareError where it cannot get there, or was stopped: it holds then."""
    arm = body.arm
    home = np.array(arm.home_rad)
    motion = _gentle(arm, body.servo_hz)
    motion.begin(require_inside(arm, body.measured_rad, arm.low_rad, arm.high_rad))
    pace = Pace(1 / body.servo_hz)
    ticks = 0
    while np.abs(motion.setpoint - home).max() > 1e-6 or motion.moving:
        if stopped.is_set() or body.health.must_stop or ticks > WITHIN_S * body.servo_hz:
            _brake(body, motion, pace)
            raise HardwareError(_why(body, motion, stopped))
        if ticks % motion.ticks == 0:
            motion.command(home)
            motion.take_interventions()
        pace.wait()
        body.tick(motion.tick())
        ticks += 1
    _settle(body, home, pace)


def require_inside(arm: ArmModel, measured_rad: Array, low_rad: Array, high_rad: Array) -> Array:
    """Return where the joints are (n,), moved into their range; raise HardwareError for those that stand beyond it."""
    inside = np.clip(measured_rad, low_rad, high_rad)
    beyond = np.abs(measured_rad - inside) > OUTSIDE_RAD
    if beyond.any():
        names = [
            f"{name} at {rad:.2f} rad" for name, rad, by in zip(arm.names, measured_rad, beyond, strict=True) if by
        ]
        raise HardwareError(
            f"{arm.name} stands outside its range, {', '.join(names)}: relax it (embodied relax) and move it back in"
        )
    return np.asarray(inside)


def _gentle(arm: ArmModel, servo_hz: float) -> Motion:
    n = len(arm.joints)
    workspace = arm.limits.workspace
    limits = Limits(
        velocity=tuple(min(GENTLE_RAD_S, top) for top in arm.limits.velocity or (GENTLE_RAD_S,) * n),
        acceleration=tuple(min(GENTLE_RAD_S2, top) for top in arm.limits.acceleration or (GENTLE_RAD_S2,) * n),
        workspace=workspace,
    )
    tool = arm.chain.tool_position if arm.chain is not None else None
    return Motion(replace(arm.spec(), limits=limits), 1 / servo_hz, tool)


def _settle(body: Arm, home: Array, pace: Pace) -> None:
    for _ in range(round(SETTLES_S * body.servo_hz)):
        pace.wait()
        body.tick(home)
        if np.abs(body.measured_rad - home).max() < ARRIVED_RAD / 4:
            return
    gaps = np.abs(body.measured_rad - home)
    if late := [name for name, gap in zip(body.arm.names, gaps, strict=True) if gap > ARRIVED_RAD]:
        raise HardwareError(f"{', '.join(late)} did not get home: is something in the way, or the power supply weak?")


def _brake(body: Arm, motion: Motion, pace: Pace) -> None:
    motion.hold()
    while motion.moving:
        pace.wait()
        body.tick(motion.tick())


def _why(body: Arm, motion: Motion, stopped: threading.Event) -> str:
    name = body.arm.name
    if stopped.is_set():
        return f"{name} was stopped on its way home"
    if body.health.must_stop:
        return "; ".join(fault.detail for fault in body.health.faults)
    at = ", ".join(f"{joint} {rad:.2f}" for joint, rad in zip(body.arm.names, motion.setpoint, strict=True))
    return f"{name} could not get home within {WITHIN_S:.0f} s, and is at {at} rad: move it by hand (embodied relax)"
