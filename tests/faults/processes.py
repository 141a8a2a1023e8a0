"""Hosts and operators in processes of their own, to be killed, paused and weighed."""

from __future__ import annotations

import json
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.faults.evidence import Evidence

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Process:
    """A child of the tests, and what it says."""

    popen: subprocess.Popen[str]

    @property
    def stdout(self) -> IO[str]:
        assert self.popen.stdout is not None  # it was opened as a pipe
        return self.popen.stdout

    def line(self) -> str:
        """Return the next line it says; fail if it says nothing in time or has ended."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.stdout, selectors.EVENT_READ)
            assert selector.select(START_TIMEOUT_S), f"{self.popen.args} says nothing"
        line = self.stdout.readline()
        assert line, f"{self.popen.args} ended with status {self.popen.wait()}"
        return line.strip()

    def send(self, signum: signal.Signals) -> None:
        """Send it a signal."""
        self.popen.send_signal(signum)

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    @property
    def rss_mb(self) -> float:
        """Return the resident memory of the process, 10^6 bytes."""
        return rss_mb(self.popen.pid)

    @property
    def peak_mb(self) -> float:
        """Return the most that it ever had."""
        return rss_mb(self.popen.pid, "VmHWM")


def rss_mb(pid: int, which: str = "VmRSS") -> float:
    """Return the resident memory of a process (proc(5)), 10^6 bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{which}:")) * 1024 / 1e6


@contextmanager
def process(*arguments: str, errors: IO[str] | None = None, within: Sequence[str] = ()) -> Iterator[Process]:
    """Run python with the arguments, as an argument of the command `within`; kill what still runs at the end."""
    popen = subprocess.Popen(
        [*within, sys.executable, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )
    try:
        yield Process(popen)
    finally:
        popen.kill()
        popen.communicate()


@dataclass(frozen=True)
class Host(Process):
    """`embodied host` of the live robot."""

    address: str
    evidence: Evidence
    errors: Path

    def said(self) -> str:
        """Return what it wrote to stderr so far."""
        return self.errors.read_text()


@contextmanager
def host(folder: Path, *flags: str, robot: str = "tests.live_robot", **options: Any) -> Iterator[Host]:
    """Host the live robot, in real time, on a free port; its evidence and its stderr lie in folder."""
    evidence, errors = folder / "setpoints", folder / "stderr"
    command = ["-m", "embodied", "host", robot, "--address", "127.0.0.1:0", *flags]
    for name, value in {"evidence": str(evidence), **options}.items():
        command += ["--option", f"{name}={json.dumps(value)}"]
    with errors.open("w") as file, process(*command, errors=file) as started:
        address = started.line().split(" on ")[-1]
        yield Host(started.popen, address, Evidence(evidence), errors)


@contextmanager
def driver(address: str, *arguments: object, within: Sequence[str] = ()) -> Iterator[Process]:
    """Run an operator that sweeps the robot; it has begun the episode when this returns."""
    with process("-m", "tests.faults.driver", address, *map(str, arguments), within=within) as started:
        assert started.line() == "driving"
        yield started
