"""The Koch v1.1 follower, six Dynamixel servos on one bus: `embodied host embodied.robots.koch`.

What a new arm needs is in this file: its servos, ranges, limits and home. We know no published kinematics of this arm
to hold a file to, so it has no chain: no workspace bounds its tool, and no verb moves it. Its cameras are its owner's,
as many as are named, with one field of view; it has one task, which is whatever the operator's instruction says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from embodied.hardware.arm import ArmModel, Joint
from embodied.hardware.dynamixel import DYNAMIXEL
from embodied.hardware.making import make_arm
from embodied.hardware.verbs import skills
from embodied.realtime import RealTimeRobot
from embodied.types import Camera, Limits

XL430_W250, XL330_M288 = 1060, 1200
# Servos and ids as LeRobot's users have them (its koch_follower). The ranges are nominal, zero in their middle; what a
# calibration finds narrows them to the arm that stands here.
SLACK_RAD = 0.35  # between the nominal range and the arm's own
JOINTS = (
    Joint("shoulder_pan", 1, XL430_W250, -1.9, 1.9, sweep_slack_rad=SLACK_RAD),
    Joint("shoulder_lift", 2, XL430_W250, -1.8, 1.8, sweep_slack_rad=SLACK_RAD),
    Joint("elbow_flex", 3, XL330_M288, -1.8, 1.8, sweep_slack_rad=SLACK_RAD),
    Joint("wrist_flex", 4, XL330_M288, -1.8, 1.8, sweep_slack_rad=SLACK_RAD),
    Joint("wrist_roll", 5, XL330_M288, -2.7, 2.7, stops=False),
    Joint("gripper", 6, XL330_M288, -0.17, 1.75, torque_limit=0.6, sweep_slack_rad=SLACK_RAD),
)
VELOCITY_RAD_S = 3.0  # half of what an XL430-W250 does without load at 11.1 V, 57 rev/min
ACCELERATION_RAD_S2 = 30.0

ARM = ArmModel(
    name="koch",
    vendor=DYNAMIXEL,
    joints=JOINTS,
    limits=Limits((VELOCITY_RAD_S,) * 6, (ACCELERATION_RAD_S2,) * 6),
    home_rad=(0.0, -1.5, 1.2, 0.6, 0.0, 0.5),  # nearly folded, where its small servos have little to lift
    control_hz=10.0,
    servo_hz=50.0,
    tasks=("free",),
    skills=skills(moves=False, grips=True),
    gripper="gripper",
    module=__name__,
)


def make(
    port: str | None = None,
    calibration: str | None = None,
    cameras: Mapping[str, Any] | None = None,
    stage: str = "terminal",
    size: int = 128,
    fovy_deg: float = 60.0,
    control_hz: float = 10.0,
    episode_s: float = 30.0,
) -> RealTimeRobot:
    """Return the arm, under its limits, in real time, as embodied.robots.so101 does its own.

    It declares the cameras that are named, none by default, with square frames of size and fovy_deg.
    """
    named = {} if cameras is None else cameras
    declared = tuple(Camera(name, size, size, fovy_deg) for name in named)
    arm = replace(ARM, cameras=declared, control_hz=control_hz)
    return make_arm(arm, port=port, calibration=calibration, cameras=named, stage=stage, episode_s=episode_s)
