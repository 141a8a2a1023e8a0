"""Clocks that disagree by an hour: deadlines are the server's own, so nothing is early, late or refused."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.faults.processes import Host, driver
from tests.faults.wire import status

HOUR_S = 3600
ELSEWHEN = ["unshare", "--time", f"--monotonic={HOUR_S}", f"--boottime={HOUR_S}"]  # a time namespace of Linux


def drives_as_any_other(live: Host, *, offset_s: int = 0, within: tuple[str, ...] = ()) -> None:
    before = status(live.address)
    with driver(live.address, "--offset-s", offset_s, "--actions", 2, "--chunks", 5, within=within) as operator:
        assert [operator.line() for _ in range(5)] == ["executed 2 dropped 0"] * 5
        assert operator.popen.wait(10) == 0
    after = status(live.address)
    assert (after.late_actions, after.stalls) == (before.late_actions, before.stalls)


@pytest.mark.parametrize("offset_s", [-HOUR_S, HOUR_S])
def test_an_operator_whose_clocks_are_an_hour_off_drives_as_any_other(offset_s: int, live: Host) -> None:
    drives_as_any_other(live, offset_s=offset_s)


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*ELSEWHEN, "true"], capture_output=True, check=False).returncode != 0,
    reason="a process cannot be given a clock of its own here",
)
def test_an_operator_on_a_machine_that_started_an_hour_earlier_drives_as_any_other(live: Host) -> None:
    drives_as_any_other(live, within=tuple(ELSEWHEN))
