"""Run the emulated arm: `python -m tests.servo_emulator`, from the repository's folder."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import envs  # noqa: F401 - picks OpenGL's backend before mujoco is imported

if TYPE_CHECKING:
    from tests.servo_emulator.emulator import Options

NEXT = """
The emulated {robot} is switched on; Ctrl-C switches it off. Its arm is {state}. Next, in another terminal:
  embodied calibrate embodied.robots.{robot} --port {port}
  embodied host embodied.robots.{robot} --option port={port} --option stage=unix:{control}
and what hands and eyes would do, over the control socket, one JSON object a line:
  echo '{{"truth": true}}' | nc -U {control}
  echo '{{"hand": "sweep", "over_s": 2}}' | nc -U {control}
  echo '{{"attach": ["gripper"]}}' | nc -U {control}
  echo '{{"fault": {{"kind": "corrupted", "share": 0.01}}}}' | nc -U {control}
  echo '{{"begin": {{"seed": 7, "task": "pick_place"}}}}' | nc -U {control}
The cameras: {cameras}
"""


def main() -> None:
    """Run until interrupted."""
    from tests.servo_emulator.calibrated import ROBOTS, write_calibration
    from tests.servo_emulator.control import ControlServer
    from tests.servo_emulator.emulator import Arm
    from tests.servo_emulator.requests import Requests

    arguments = _parser().parse_args()
    options = _options(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    arm = Arm(options)
    control = ControlServer(options.control, Requests(arm).handle)
    if arguments.write_calibration:
        write_calibration(arguments.write_calibration, options.vendor, arm.servos)
    arm.start()
    control.start()
    about = {"port": options.port_link, "control": options.control, "pid": os.getpid(), "cameras": arm.urls}
    print(json.dumps(about), flush=True)
    if not arguments.quiet:
        cameras = "  ".join(arm.urls.values())
        told = {"state": options.state, "port": options.port_link, "control": options.control, "cameras": cameras}
        print(NEXT.format(robot=ROBOTS[options.vendor], **told), flush=True)
    if arguments.until_eof:
        threading.Thread(target=_stop_at_eof, args=(stop,), daemon=True).start()
    stop.wait()
    control.stop()
    arm.stop()


def _stop_at_eof(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def _parser() -> argparse.ArgumentParser:
    from tests.servo_emulator.assembly import STATES, VENDORS

    parser = argparse.ArgumentParser(prog="python -m tests.servo_emulator", description=__doc__)
    add = parser.add_argument
    add("--vendor", choices=VENDORS, default="feetech", help="feetech: an SO-101; dynamixel: with a Koch's servos")
    add("--seed", type=int, default=0, help="how the horns are put on, and which packets faults hit (default 0)")
    add("--state", choices=STATES, default="calibrated", help="how far the arm has been set up (default calibrated)")
    add("--fresh", action="store_true", help="as from the box: every servo's id is 1; the same as --state fresh")
    add("--port-link", default="/tmp/embodied-so101", help="where the serial port appears (default %(default)s)")
    add("--control", help="the control socket (default: the port's name with .control)")
    add("--size", default="128", help="of the frames, as in 128 or 640x480 (default %(default)s)")
    add("--fps", type=float, default=20.0, help="frames a second (default %(default)s)")
    add("--no-cameras", action="store_true", help="do without the process that draws")
    add("--write-calibration", metavar="FILE", help="write the calibration file that belongs to the arm")
    add("--quiet", action="store_true", help="print no more than the line of JSON")
    add("--until-eof", action="store_true", help="end when standard input does")
    return parser


def _options(arguments: argparse.Namespace) -> Options:
    from tests.servo_emulator.emulator import Options

    width, _, height = arguments.size.partition("x")
    return Options(
        port_link=arguments.port_link,
        control=arguments.control or f"{arguments.port_link}.control",
        vendor=arguments.vendor,
        state="fresh" if arguments.fresh else arguments.state,
        seed=arguments.seed,
        width=int(width),
        height=int(height or width),
        fps=arguments.fps,
        cameras=not arguments.no_cameras,
    )


if __name__ == "__main__":  # the cameras' process imports this file too
    main()
