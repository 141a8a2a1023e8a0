"""What the verbs for an arm of servos share: which arm, on which port."""

from __future__ import annotations

import argparse

from embodied.errors import HardwareError, UnknownNameError
from embodied.hardware.arm import ArmModel, Joint
from embodied.hardware.port import only_port
from embodied.modules import load_arm


def add_arm(parser: argparse.ArgumentParser) -> None:
    """Add the robot's module and `--port`; arm_of and port_of read them."""
    parser.add_argument("robot", metavar="ROBOT", help="arm module, as in embodied.robots.so101")
    parser.add_argument("--port", help="serial port of the arm's servo adapter (default: the only one there is)")


def arm_of(args: argparse.Namespace) -> ArmModel:
    """Return the arm of the module that was named; raise EmbodiedError where it is none."""
    arm = load_arm(args.robot)
    if not isinstance(arm, ArmModel):
        raise HardwareError(f"{args.robot}.ARM is a {type(arm).__name__}, which is no ArmModel (embodied.hardware.arm)")
    return arm


def joint_of(arm: ArmModel, name: str) -> Joint:
    """Return the joint called name; raise UnknownNameError with those there are."""
    for joint in arm.joints:
        if joint.name == name:
            return joint
    raise UnknownNameError("joint", name, arm.name, arm.names)


def port_of(args: argparse.Namespace) -> str:
    """Return the port that was named, or the only one there is; raise HardwareError where it must be named."""
    return only_port("--port, as in --port /dev/ttyACM0") if args.port is None else str(args.port)
