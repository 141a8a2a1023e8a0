"""How regular the control loop of a real arm is, with two cameras: `python -m tests.bench.loop --minutes 10`.

The SO-101's driver at 50 Hz on emulated servos, two 640x480 cameras read from video files, and a policy that answers at
10 Hz and looks at both frames every time. The emulator shares the machine's cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from embodied.pace import Regularity
from embodied.realtime import RealTimeRobot
from embodied.robots import so101
from embodied.types import PoseAction
from tests.emulated_arm import opened
from tests.servo_emulator.process import Emulator

WIDTH, HEIGHT, FPS = 640, 480, 30
TASK = "reach"
HOME = np.array(so101.ARM.home_rad)
TARGET_S = 2e-3


def film(path: Path, seconds: float = 10.0) -> Path:
    """Write a video whose every picture is another."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (WIDTH, HEIGHT))
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    for shift in range(round(seconds * FPS)):
        writer.write(cv2.GaussianBlur(np.roll(noise, 4 * shift, axis=1), (15, 15), 5))
    writer.release()
    return path


def sweep(robot: RealTimeRobot, minutes: float) -> Counter[str]:
    """Drive to and fro, looking each time; return how many steps, frames and faults there were."""
    counts: Counter[str] = Counter()
    until_s = time.monotonic() + 60 * minutes
    robot.reset(0, TASK)
    while time.monotonic() < until_s:
        phase = 2 * np.pi * time.monotonic() / 4
        pose = HOME + 0.4 * np.sin(phase + np.arange(6))
        step = robot.step(PoseAction(pose.astype(np.float32)))
        counts["steps"] += 1
        counts["frames"] += len(step.observation.frames)
        counts.update(f"fault {fault.part} {fault.kind}" for fault in step.faults)
        if step.done:
            counts["episodes cut short"] += 1
            robot.reset(0, TASK)
    return counts


def report(found: Regularity, counts: Counter[str]) -> None:
    """Print what was measured beside what is asked for."""
    print(found)
    p99 = found.jitter_p99_s
    print(f"p99 period error {1e3 * p99:.2f} ms, at most {1e3 * TARGET_S:g} ms wanted: {_verdict(p99 <= TARGET_S)}")
    print(f"missed ticks {found.missed}, none wanted: {_verdict(found.missed == 0)}")
    print(", ".join(f"{count} {name}" for name, count in counts.items()))


def main() -> None:
    """Run for some minutes and print how regular it was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--cameras", choices=("file", "mjpeg", "none"), default="file")
    options = parser.parse_args()
    print(f"load of this machine: {', '.join(f'{load:.1f}' for load in os.getloadavg())}; {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name, Emulator(seed=3, size="640x480") as emulated:
        folder = Path(name)
        cameras: dict[str, object] = {}
        if options.cameras == "file":
            source = str(film(folder / "film.avi"))
            cameras = {
                camera: {"source": source, "width": WIDTH, "height": HEIGHT, "loop": True} for camera in so101.FOVY_DEG
            }
        elif options.cameras == "mjpeg":
            cameras = dict(emulated.cameras)
        with opened("so101", emulated, folder, cameras=cameras, size=480, episode_s=3600.0) as robot:
            counts = sweep(robot, options.minutes)
            report(robot.regularity, counts)
            print(robot.body.bus.statistics)
    print(f"load of this machine: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


def _verdict(held: bool) -> str:
    return "held" if held else "NOT held"


if __name__ == "__main__":
    main()
