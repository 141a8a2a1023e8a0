"""Starts `embodied host` and `embodied serve` as child processes: a robot or a policy as if on another machine."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

from embodied.errors import EmbodiedError, ProtocolError
from embodied.modules import Options

START_TIMEOUT_S = 120.0  # a simulator may compile shaders on its first start
STOP_TIMEOUT_S = 10.0


class ServerProcess:
    """A server in a child process, on a free loopback port; a context manager that ends it."""

    def __init__(self, what: str, arguments: Sequence[str], python: str = sys.executable) -> None:
        """Start `embodied` with the arguments and wait until it serves; raise ProtocolError with its own words if not.

        what is what an error calls it.
        """
        command = [python, "-m", "embodied", *arguments, "--address", "127.0.0.1:0"]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  lives as long as the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        try:
            self.address = self._read_address(what)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Return the process's id."""
        return self._process.pid

    def close(self) -> None:
        """End the server, by force if it does not end by itself; idempotent."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def _stdout(self) -> IO[str]:
        assert self._process.stdout is not None  # it was opened as a pipe
        return self._process.stdout

    def _read_address(self, what: str) -> str:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            line = self._stdout.readline() if selector.select(START_TIMEOUT_S) else ""
        if not line.startswith("serving "):
            self._process.kill()
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().strip().removeprefix("error: ") or f"nothing within {START_TIMEOUT_S:g} s"
            raise ProtocolError(f"{what} did not start: {said}")
        return line.split(" on ")[-1].strip()


class HostProcess(ServerProcess):
    """A robot's host."""

    def __init__(self, robot: str, options: Options, environment: Path | None = None) -> None:
        """Host the robot's module by the Python of a virtual environment, by default of this one.

        Raise EmbodiedError for a folder that is none.
        """
        arguments = ["host", robot, *_options("--option", options)]
        super().__init__(f"the host of {robot}", arguments, python_of(environment))


class PolicyProcess(ServerProcess):
    """A policy's server, whose forward passes all of its sessions share."""

    def __init__(self, policy: str, checkpoint: Path | None, options: Options, environment: Path | None = None) -> None:
        """Serve the policy's module by the Python of a virtual environment, by default of this one.

        Raise EmbodiedError for a folder that is none.
        """
        given = [] if checkpoint is None else ["--checkpoint", str(checkpoint)]
        arguments = ["serve", policy, *given, *_options("--policy-option", options)]
        super().__init__(f"the server of {policy}", arguments, python_of(environment))


def python_of(environment: Path | None) -> str:
    """Return the Python of a virtual environment, by default this one's; raise EmbodiedError for a folder of none."""
    if environment is None:
        return sys.executable
    python = environment / "bin" / "python"
    if not python.exists():
        raise EmbodiedError(f"{environment} is no virtual environment: it has no bin/python")
    return str(python)


def _options(flag: str, options: Options) -> list[str]:
    return [word for key, value in options.items() for word in (flag, f"{key}={json.dumps(value)}")]
