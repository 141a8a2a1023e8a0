"""Run the emulated arm: `python -m tests.servo_emulator`."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run until interrupted."""
    sys.path.insert(0, str(ROOT))
    import envs  # noqa: F401 - picks OpenGL's backend before mujoco is imported
    from tests.servo_emulator.assembly import STATES, VENDORS
    from tests.servo_emulator.control import ControlServer
    from tests.servo_emulator.emulator import Arm, Options
    from tests.servo_emulator.requests import Requests

    parser = argparse.ArgumentParser(
        prog="python -m tests.servo_emulator",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--vendor", choices=VENDORS, default="feetech")
    parser.add_argument("--seed", type=int, default=0, help="how the horns are put on, and which packets faults hit")
    parser.add_argument("--state", choices=STATES, default="calibrated", help="how far the arm has been set up")
    parser.add_argument("--fresh", action="store_true", help="as from the box: --state fresh")
    parser.add_argument("--port-link", default="/tmp/embodied-so101", help="where the serial port appears")
    parser.add_argument("--control", help="the control socket; default: the port's name with .control")
    parser.add_argument("--size", default="128", help="of the frames: 128 or 640x480")
    parser.add_argument("--fps", type=float, default=20.0)
    parser.add_argument("--quiet", action="store_true", help="no more than the line of JSON")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does")
    arguments = parser.parse_args()
    width, _, height = arguments.size.partition("x")
    options = Options(
        port_link=arguments.port_link,
        control=arguments.control or f"{arguments.port_link}.control",
        vendor=arguments.vendor,
        state="fresh" if arguments.fresh else arguments.state,
        seed=arguments.seed,
        width=int(width),
        height=int(height or width),
        fps=arguments.fps,
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    arm = Arm(options)
    control = ControlServer(options.control, Requests(arm).handle)
    arm.start()
    control.start()
    about = {"port": options.port_link, "control": options.control, "pid": os.getpid(), "cameras": arm.cameras.urls}
    print(json.dumps(about), flush=True)
    if arguments.until_eof:
        threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    stop.wait()
    control.stop()
    arm.stop()


if __name__ == "__main__":  # the cameras' process imports this file too
    main()
