"""A disk that fills while an episode is recorded: what fitted is kept, and the robot is left standing and free."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from embodied.recording.reader import DatasetReader
from tests.faults.evidence import wait_until
from tests.faults.processes import ROOT, Host
from tests.faults.trials import Table
from tests.faults.wire import status

KILOBYTES = 96  # no file may grow beyond, which is what a full disk looks like; the list of episodes takes 52


def test_the_rows_that_fitted_are_a_dataset_and_the_robot_stands(live: Host, tmp_path: Path, table: Table) -> None:
    rollout = f"rollout --robot {live.address} --policy tests.faults.sweeper --task sweep --episodes 1"
    rollout += f" --videos 0 --record 1 --out {tmp_path}/out"
    ran = subprocess.run(
        ["bash", "-c", f"ulimit -f {KILOBYTES}; exec {sys.executable} -m embodied {rollout}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
    )
    assert ran.returncode == 2 and "Traceback" not in ran.stderr
    assert "cannot be written" in ran.stderr.splitlines()[-1]
    wait_until(lambda: not status(live.address).holder)
    live.evidence.wait_for_rest()
    reader = DatasetReader(tmp_path / "out.partial" / "recording")
    said = re.search(r"(\d+) frames", ran.stderr)
    assert said is not None and len(reader) == int(said[1]) > 3
    table.add("disk full while recording", "frames kept of one episode", [len(reader)])
