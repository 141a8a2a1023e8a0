"""The shipped policy on the emulated arm, through the real driver, beside the simulator on the same seeds.

The arm is emulated on a pty and moves in real time; its camera frames are drawn from its physics and come as MJPEG over
HTTP. Both run `embodied rollout`, and nothing but the robot's name and its options differs:
python -m tests.bench.emulated_arm --episodes 50
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servo_emulator.process import Emulator

EMBODIED = (sys.executable, "-m", "embodied")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=5_000_000, help="of the first episode")
    parser.add_argument("--task", default="pick_place")
    parser.add_argument("--mode", choices=("sync", "async"), default="async")
    parser.add_argument("--videos", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/emulated_arm"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Emulator(seed=7) as arm:
        calibration = Path(folder) / "so101.json"
        arm.calibration(calibration)
        options = {
            "port": arm.port,
            "calibration": str(calibration),
            "cameras": arm.cameras,
            "stage": f"unix:{arm.control}",
        }
        given = [word for name, value in options.items() for word in ("--option", f"{name}={json.dumps(value)}")]
        rollout(args, "embodied.robots.so101", [*given, "--mode", args.mode], args.out / "emulated")
        truth = arm.truth()
    rollout(args, "envs.so101", [], args.out / "simulated")
    print((args.out / "emulated" / "summary.md").read_text())
    written, outside = truth["goals_written"], truth["goals_outside"]
    print(f"goals that reached the servos: {written}, out of range: {outside}")
    print(f"furthest ahead of the arm: {truth['most_ahead_counts']} counts")
    subprocess.run([*EMBODIED, "compare", str(args.out / "emulated"), str(args.out / "simulated")], check=True)


def rollout(args: argparse.Namespace, robot: str, more: list[str], out: Path) -> None:
    which = ["--task", args.task, "--episodes", str(args.episodes), "--seed", str(args.seed)]
    how = ["--policy", "policies.token", "--videos", str(args.videos), "--force", "--out", str(out)]
    command = [*EMBODIED, "rollout", "--robot", robot, *which, *how, *more]
    print(" ".join(command), flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
