"""A day of simulated steps over gRPC: the memory of server and client is flat."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from embodied.bridge.robot_client import RemoteRobot
from tests.faults.processes import host, rss_mb
from tests.faults.trials import Table
from tests.live_robot import CONTROL_PERIOD_S, sweep

DAY_STEPS = round(24 * 3600 / CONTROL_PERIOD_S)
EPISODE_STEPS = 200
SAMPLES = 30
GROWTH_MB = 4.0  # over the latter half, by the straight line through its samples: 10 bytes a step, in a day's


def growth_mb(sizes_mb: list[float]) -> float:
    """Return by how much the latter half grew."""
    half = np.array(sizes_mb[len(sizes_mb) // 2 :])
    return float(np.polyfit(np.arange(len(half)), half, 1)[0] * (len(half) - 1))


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        pytest.param(6_000, "10 min of steps", id="10 minutes"),
        pytest.param(DAY_STEPS, "24 h of steps", id="a day", marks=pytest.mark.slow),
    ],
)
def test_the_memory_of_server_and_client_is_flat(steps: int, name: str, tmp_path: Path, table: Table) -> None:
    server_mb, client_mb = list[float](), list[float]()
    actions = sweep(1 / CONTROL_PERIOD_S, 0, EPISODE_STEPS)
    began_s = time.monotonic()
    with (
        # A watchdog that no busy machine sets off: to be taken for dead costs ticks, and the episode's end comes early.
        host(tmp_path, evidence="/dev/null", horizon_s=EPISODE_STEPS * CONTROL_PERIOD_S, watchdog_s=60.0) as live,
        RemoteRobot(live.address) as robot,
    ):
        for episode in range(steps // EPISODE_STEPS):
            robot.reset(episode, "sweep")
            for action in actions:
                step = robot.step(action, frames=False)
            assert step.truncated
            if (episode + 1) % (steps // EPISODE_STEPS // SAMPLES) == 0:
                server_mb.append(live.rss_mb)
                client_mb.append(rss_mb(os.getpid()))
    table.add(name, "a step, wall clock, ms", [(time.monotonic() - began_s) / steps * 1e3])
    for side, sizes_mb in (("server", server_mb), ("client", client_mb)):
        table.add(name, f"RSS of the {side}, MB", sizes_mb)
        table.add(name, f"growth of the {side}, latter half, MB", [growth_mb(sizes_mb)], allowed=GROWTH_MB)
