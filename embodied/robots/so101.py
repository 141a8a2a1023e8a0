"""The SO-101, six Feetech servos on one bus: `embodied host embodied.robots.so101`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from embodied.hardware.arm import ArmModel, Joint
from embodied.hardware.chain import Chain, Link
from embodied.hardware.feetech import FEETECH
from embodied.hardware.making import make_arm
from embodied.hardware.verbs import skills
from embodied.realtime import RealTimeRobot
from embodied.types import Box, Camera, Limits

STS3215 = 777
# Ranges and frames are those of so101_new_calib.xml (TheRobotStudio SO-ARM100, Apache-2.0), as in sim_assets/so101.
JOINTS = (
    Joint("shoulder_pan", 1, STS3215, -1.9198621771937616, 1.9198621771937634),
    Joint("shoulder_lift", 2, STS3215, -1.7453292519943224, 1.7453292519943366),
    Joint("elbow_flex", 3, STS3215, -1.69, 1.69),
    Joint("wrist_flex", 4, STS3215, -1.6580628494556928, 1.6580627293335335),
    Joint("wrist_roll", 5, STS3215, -2.7438472969992493, 2.841206309382605, stops=False),
    # At half its torque it holds what it can lift, and is not overloaded by a grip that lasts.
    Joint("gripper", 6, STS3215, -0.17453297762778586, 1.7453291995659765, torque_limit=0.5),
)
CHAIN = Chain(
    links=(
        Link((0.0388353, 0.0, 0.0624), (0.0, 0.0, -1.0, 0.0)),
        Link((-0.0303992, -0.0182778, -0.0542), (0.5, -0.5, -0.5, -0.5)),
        Link((-0.11257, -0.028, 0.0), (1.0, 0.0, 0.0, 1.0)),
        Link((-0.1349, 0.0052, 0.0), (1.0, 0.0, 0.0, -1.0)),
        Link((0.0, -0.0611, 0.0181), (0.0172091, -0.0172091, 0.706897, 0.706897)),
    ),
    tool_m=(-0.0079, -0.000218121, -0.0981274),  # the tip of the static finger: gripperframe
)
# STS3215: 0.222 s for 60 degrees without load at its rated voltage, 3.35 N m over its own 0.028 kg m².
VELOCITY_RAD_S = 4.7
ACCELERATION_RAD_S2 = 100.0
WORKSPACE_M = Box((-0.34, -0.44, 0.008), (0.48, 0.44, 0.53))  # where the fingertips can come at all, but for the table
FOVY_DEG = {"front": 32.5, "wrist": 75.0}  # the cameras' places and fields of view are those of sim_assets/table
TASKS = ("pick_place", "push", "reach", "stack")
SKILLS = skills(moves=True, grips=True)
SIZE_PX = 128
CAMERAS: Mapping[str, Any] = {"front": 0, "wrist": 1}


def model(size: int = SIZE_PX) -> ArmModel:
    """Return the arm with square frames of the given size."""
    return ArmModel(
        name="so101",
        vendor=FEETECH,
        joints=JOINTS,
        limits=Limits((VELOCITY_RAD_S,) * 6, (ACCELERATION_RAD_S2,) * 6, WORKSPACE_M),
        home_rad=(0.0, -1.3, 0.45, 1.4, 0.0, 0.7),
        control_hz=10.0,
        servo_hz=50.0,
        chain=CHAIN,
        cameras=tuple(Camera(name, size, size, fovy) for name, fovy in FOVY_DEG.items()),
        tasks=TASKS,
        skills=SKILLS,
        gripper="gripper",
        module=__name__,
    )


ARM = model()


def make(
    port: str | None = None,
    calibration: str | None = None,
    cameras: Mapping[str, Any] | None = None,
    stage: str = "terminal",
    size: int = SIZE_PX,
    control_hz: float = 10.0,
    episode_s: float = 30.0,
) -> RealTimeRobot:
    """Return the arm, under its limits, in real time; it holds where it stands from then on.

    port is the only serial port there is where None; calibration the file that `embodied calibrate` writes; cameras a
    source or settings a camera, {} for none; stage who lays out the scene: terminal, none, unix:/path or host:port.
    Raise HardwareError, naming what is wrong and what to do.
    """
    arm = replace(model(size), control_hz=control_hz)
    return make_arm(
        arm,
        port=port,
        calibration=calibration,
        cameras=CAMERAS if cameras is None else cameras,
        stage=stage,
        episode_s=episode_s,
    )
