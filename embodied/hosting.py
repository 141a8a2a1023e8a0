"""Starts `embodied host` as a child process, so that a robot is driven over gRPC as if it were on another machine."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import tempfile
from typing import IO, Self

from embodied.errors import ProtocolError
from embodied.modules import Options

START_TIMEOUT_S = 120.0  # a simulator may compile shaders on its first start
STOP_TIMEOUT_S = 10.0


class HostProcess:
    """A robot's host in a child process, on a free loopback port; a context manager that ends it."""

    def __init__(self, robot: str, options: Options) -> None:
        """Start the host and wait until it serves; raise ProtocolError with its own words if it does not."""
        command = [sys.executable, "-m", "embodied", "host", robot, "--address", "127.0.0.1:0"]
        for key, value in options.items():
            command += ["--option", f"{key}={json.dumps(value)}"]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  lives as long as the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        try:
            self.address = self._read_address(robot)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the host, by force if it does not end by itself; idempotent."""
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

    def _read_address(self, robot: str) -> str:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            line = self._stdout.readline() if selector.select(START_TIMEOUT_S) else ""
        if not line.startswith("serving "):
            self._process.kill()
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().strip().removeprefix("error: ") or f"nothing within {START_TIMEOUT_S:g} s"
            raise ProtocolError(f"the host of {robot} did not start: {said}")
        return line.split(" on ")[-1].strip()
