"""What an arm is: its joints and servos, its limits, where its home is, and what it can be asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embodied.hardware.chain import Chain
from embodied.hardware.vendor import Vendor
from embodied.types import Camera, Field, Limits, RobotSpec

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Joint:
    """A joint and the servo that turns it; its zero is the servo's middle count."""

    name: str
    id: int
    model: int
    low_rad: float
    high_rad: float
    direction: Literal[1, -1] = 1  # of counts, as the joint's angle grows
    stops: bool = True  # has two mechanical ends, so that a sweep finds its zero; a joint that turns fully has not
    torque_limit: float = 1.0  # share of the servo's own
    sweep_slack_rad: float = 0.17  # how far a calibration's sweep may differ from the range: printed parts do


@dataclass(frozen=True)
class ArmModel:
    """An arm as it is built, whichever one stands here."""

    name: str
    vendor: Vendor
    joints: tuple[Joint, ...]
    limits: Limits
    home_rad: tuple[float, ...]
    control_hz: float
    servo_hz: float
    chain: Chain | None = None  # without it no tool position, no workspace and no verbs that move the tool
    cameras: tuple[Camera, ...] = ()
    tasks: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    gripper: str = ""  # the joint that opens as its angle grows
    watchdog_s: float = 0.5
    version: str = "1"
    baud: int = 1_000_000
    module: str = "ROBOT"  # that it is declared in, as an advice names it

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the servos' ids, in the order of the joints."""
        return tuple(joint.id for joint in self.joints)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the joints' names, in order."""
        return tuple(joint.name for joint in self.joints)

    @property
    def low_rad(self) -> Array:
        """Return the lower ends of the joints' ranges (n,)."""
        return np.array([joint.low_rad for joint in self.joints])

    @property
    def high_rad(self) -> Array:
        """Return the upper ends of the joints' ranges (n,)."""
        return np.array([joint.high_rad for joint in self.joints])

    def spec(self) -> RobotSpec:
        """Return what a robot of this kind declares."""
        fields = tuple(Field(joint.name, "rad", joint.low_rad, joint.high_rad) for joint in self.joints)
        return RobotSpec(
            name=self.name,
            control_hz=self.control_hz,
            cameras=self.cameras,
            state=fields,
            action=fields,
            skills=self.skills,
            tasks=self.tasks,
            watchdog_s=self.watchdog_s,
            version=self.version,
            limits=self.limits,
        )
