"""Switch an arm's motors off, so that it can be moved by hand: it drops where nobody holds it.

Nothing else lets go of an arm but this, calibrate, setup, and teleoperation of its leader: an arm whose program ends
holds where it stands.
"""

from __future__ import annotations

import argparse
from contextlib import closing

from embodied.cli.arms import add_arm, arm_of, port_of
from embodied.cli.prompt import Prompt
from embodied.errors import HardwareError
from embodied.hardware.bus import Bus, ServoError

EXAMPLE = """example:
  embodied relax embodied.robots.so101
  embodied relax embodied.robots.so101 --port /dev/ttyACM0 --yes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arm, and whether to ask."""
    add_arm(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    """Ask, then switch off every motor that answers; raise HardwareError naming those that did not."""
    arm, port = arm_of(args), port_of(args)
    with closing(Bus(arm.vendor, port, arm.ids, baud=arm.baud)) as bus:
        if not args.yes:
            Prompt().ask(f"{arm.name} goes limp and drops where nobody holds it. Support it, then press Enter:")
        failed = []
        for joint in arm.joints:
            try:
                bus.set_torque(False, [joint.id])
            except ServoError as error:
                failed.append(f"{joint.name}: {error}")
    if failed:
        raise HardwareError("not limp, as far as is known:\n  - " + "\n  - ".join(failed))
    print(f"{arm.name} is limp")
    return 0
