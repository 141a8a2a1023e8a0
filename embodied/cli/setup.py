"""Give the servos of a new arm their ids and baud rate, guided, one servo on the bus at a time.

What is right already stays as it is, so that an interrupted setup is simply begun again; --joint does a single servo.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

from embodied.cli.arguments import positive_int
from embodied.cli.arms import add_arm, arm_of, joint_of, port_of
from embodied.cli.prompt import InputEndedError, Prompt
from embodied.errors import HardwareError
from embodied.hardware.arm import ArmModel, Joint
from embodied.hardware.bus import Bus, Found, ServoError
from embodied.hardware.opening import greet

EXAMPLE = """example:
  embodied setup embodied.robots.so101
  embodied setup embodied.robots.so101 --port /dev/ttyACM0 --joint gripper
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arm, and a single joint."""
    add_arm(parser)
    parser.add_argument("--joint", metavar="NAME", help="set up this joint's servo alone")
    parser.add_argument(
        "--baud",
        type=positive_int,
        action="append",
        help="look at this baud rate alone (may be repeated; default: at each there is, which takes some 20 s a servo)",
    )


def run(args: argparse.Namespace) -> int:
    """Set up one servo after the other, then look whether all are there."""
    arm = arm_of(args)
    joints = [joint_of(arm, args.joint)] if args.joint else [*reversed(arm.joints)]  # the end of the chain first
    bauds = args.baud or [*arm.vendor.bauds]
    if unknown := [baud for baud in bauds if baud not in arm.vendor.bauds]:
        raise HardwareError(f"no baud rate {unknown[0]}; {arm.vendor.name} has {sorted(arm.vendor.bauds)}")
    port = port_of(args)
    with closing(Bus(arm.vendor, port, arm.ids, baud=arm.baud)) as bus:
        prompt = Prompt()
        for number, joint in enumerate(joints, 1):
            step = f"{number} of {len(joints)}: connect the servo of {joint.name} alone, with power, then press Enter:"
            _until_right(prompt, step, partial(_set_up, bus, arm, joint, bauds))
        if not args.joint:
            _until_right(prompt, "Connect all servos, then press Enter:", partial(greet, bus, arm))
            print(f"{arm.name} is set up: {len(arm.joints)} servos answer at {arm.baud} baud")
            print(f"next: embodied calibrate {args.robot} --port {port}")
    return 0


def _until_right(prompt: Prompt, question: str, work: Callable[[], object]) -> None:
    """Ask and do the work until it succeeds: a wrong plug is mended, and the rest need not be done again."""
    refusal: HardwareError | None = None
    while True:
        try:
            prompt.ask(question)
        except InputEndedError:
            if refusal is not None:
                raise refusal from None
            raise
        try:
            work()
            return
        except ServoError as error:
            refusal = error
            print(f"not yet: {error}", flush=True)


def _set_up(bus: Bus, arm: ArmModel, joint: Joint, bauds: Sequence[int]) -> None:
    """Give the only servo on the bus the joint's id and the arm's baud rate; raise ServoError if it is not the only."""
    baud, servo = _only_servo(bus, bauds)
    name = arm.vendor.model(servo.model)
    if servo.model != joint.model:
        raise ServoError(f"this servo is a {name}; {joint.name} of {arm.name} has a {arm.vendor.model(joint.model)}")
    if (servo.id, baud) == (joint.id, arm.baud):
        bus.set(joint.id, "return_delay", 0)
        print(f"{joint.name}: this {name} has id {joint.id} at {baud} baud already", flush=True)
        return
    bus.baud = baud
    try:
        bus.set_torque(False, [servo.id])  # settings are not taken while a motor is on
        bus.set(servo.id, "id", joint.id)
        bus.set(joint.id, "baud_rate", arm.vendor.bauds[arm.baud])
    finally:
        bus.baud = arm.baud
    if bus.ping(joint.id) is None:
        raise ServoError(f"{joint.name} does not answer at id {joint.id} and {arm.baud} baud, which it was given")
    bus.set(joint.id, "return_delay", 0)  # from the factory it may wait longer than six servos have in a tick
    was = f"id {servo.id} at {baud} baud"
    print(f"{joint.name}: this {name} had {was}, and has id {joint.id} at {arm.baud} baud now", flush=True)


def _only_servo(bus: Bus, bauds: Sequence[int]) -> tuple[int, Found]:
    """Return the only servo that answers at any id and these rates, and its rate; raise ServoError otherwise."""
    found: list[tuple[int, Found]] = []
    corrupt = bus.statistics.corrupt
    for baud in bauds:
        print(f"looking at {baud} baud ...", flush=True)
        found += bus.scan([baud])
        if len(found) > 1:
            break
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"id {servo.id} at {baud} baud" for baud, servo in found)
        raise ServoError(f"{len(found)} servos answer: {listed}; leave one alone on the bus")
    if bus.statistics.corrupt > corrupt:
        raise ServoError("answers collide: several servos have one id; leave one alone on the bus")
    raise ServoError("no servo answers at any id: look at its power supply and its cable")
