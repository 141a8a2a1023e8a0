"""Run the emulated arm: `python -m tests.servo_emulator`, from the repository's folder."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import envs  # noqa: F401 - picks OpenGL's backend before mujoco is imported

if TYPE_CHECKING:
    from tests.servo_emulator.emulator import Options
    from tests.servo_emulator.requests import Requests

NEXT = """
The emulated {robot} is switched on. Its arm is {state}. {file} says where it is.
{shown}
Next, in another terminal (`. .venv/bin/activate` first):
  embodied setup embodied.robots.{robot} --port {port}          # where it is fresh
  embodied calibrate embodied.robots.{robot} --port {port} --out {calibration}
"""
ON = """  embodied collect --teleop keyboard --robot embodied.robots.so101 --options {file} \\
      --task reach --episodes 5 --show 8000 --out data/mine
  embodied finetune --dataset data/mine --out runs/mine --steps 100 --start policies/checkpoints/so101
  embodied rollout --robot embodied.robots.so101 --options {file} --policy policies.token \\
      --checkpoint runs/mine --task reach --episodes 5 --mode async --out runs/first
"""
HOST = "  embodied host embodied.robots.{robot} --options {file}\n"


def main() -> None:
    """Run until interrupted."""
    from tests.servo_emulator.calibrated import ROBOTS, write_calibration
    from tests.servo_emulator.control import ControlServer
    from tests.servo_emulator.emulator import Arm
    from tests.servo_emulator.requests import Requests
    from tests.servo_emulator.wire import stay_awake

    arguments = _parser().parse_args()
    options = _options(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    arm = Arm(options)
    requests = Requests(arm)
    control = ControlServer(options.control, requests.handle)
    files = [arguments.write_calibration, None if arguments.quiet else _calibration(options)]
    for file in filter(None, files):
        write_calibration(file, options.vendor, arm.servos)
    stay_awake()
    arm.start()
    control.start()
    about = {"port": options.port_link, "control": options.control, "pid": os.getpid(), "cameras": arm.urls}
    print(json.dumps(about), flush=True)
    if not arguments.quiet:
        print(_next(ROBOTS[options.vendor], options, arm.urls), flush=True)
    if arguments.until_eof:
        threading.Thread(target=_stop_at_eof, args=(stop,), daemon=True).start()
    elif sys.stdin.isatty():
        threading.Thread(target=_talk, args=(requests, stop), daemon=True).start()
    stop.wait()
    control.stop()
    arm.stop()


def _stop_at_eof(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def _talk(requests: Requests, stop: threading.Event) -> None:
    from tests.servo_emulator.control import PRIORITY
    from tests.servo_emulator.prompt import talk
    from tests.servo_emulator.wire import prefer

    prefer(PRIORITY)
    talk(lambda request: requests.handle(request, lambda told: print(json.dumps(told), flush=True)))
    stop.set()


def _calibration(options: Options) -> str | None:
    """Return where the calibration of an arm that has one is written for a person's commands."""
    return f"{options.port_link}.calibration.json" if options.state == "calibrated" else None


def _next(robot: str, options: Options, urls: Mapping[str, str]) -> str:
    calibration, file = f"{options.port_link}.calibration.json", Path(f"{options.port_link}.json")
    cameras = {"cameras": urls} if urls else {}
    stage = {"stage": f"unix:{options.control}"} if robot == "so101" else {}
    about = {"port": options.port_link, "calibration": calibration, **stage, **cameras}
    file.write_text(json.dumps(about) + "\n", encoding="utf-8")
    names = {"robot": robot, "state": options.state, "file": file, **about}
    shown = f"Its cameras: {' '.join(urls.values())}" if urls else "It has no cameras."
    return (NEXT + (ON if robot == "so101" else HOST)).format(**names, shown=shown)


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
    add("--grace-s", type=float, default=10.0, help="how long beyond its horizon a task may take (default %(default)s)")
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
        grace_s=arguments.grace_s,
    )


if __name__ == "__main__":  # the cameras' process imports this file too
    main()
