"""An operator in a process of its own: sweeps the live robot to and fro until the episode or the process ends."""

from __future__ import annotations

import argparse
import math
import sys
import time
from types import ModuleType

from embodied.bridge.robot_client import RemoteRobot
from tests.live_robot import sweep


def shift_clocks(offset_s: float) -> None:
    """Shift every clock that our own code reads; gRPC keeps its own, which it compares with no other machine's."""
    shifted = ModuleType("time")
    vars(shifted).update(vars(time))
    for name in ("time", "monotonic"):
        in_s, in_ns = getattr(time, name), getattr(time, f"{name}_ns")
        setattr(shifted, name, lambda in_s=in_s: in_s() + offset_s)
        setattr(shifted, f"{name}_ns", lambda in_ns=in_ns: in_ns() + round(offset_s * 1e9))
    for name, module in sys.modules.items():
        if name.startswith("embodied.") and hasattr(module, "time"):
            module.time = shifted  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--actions", type=int, default=20, help="in a chunk")
    parser.add_argument("--chunks", type=int, default=1_000_000)
    parser.add_argument("--offset-s", type=float, default=0.0, help="how far this process's clocks are off")
    args = parser.parse_args()
    shift_clocks(args.offset_s)

    with RemoteRobot(args.address) as robot:
        robot.reset(0, "sweep")
        print("driving", flush=True)
        for chunk in range(args.chunks):
            step = robot.step(*sweep(robot.spec.control_hz, chunk * args.actions, args.actions), frames=False)
            print(f"executed {step.executed} dropped {step.dropped}", flush=True)
        assert math.isfinite(step.observation.state.sum())


if __name__ == "__main__":
    main()
