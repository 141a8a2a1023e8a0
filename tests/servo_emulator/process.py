"""The emulated arm in a process of its own, for tests: `with Emulator() as arm: ...`."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60.0


class Emulator:
    """A child that runs the emulator; options are those of the command line, with underscores."""

    port: str
    cameras: dict[str, str]
    control: str
    pid: int

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._folder = tempfile.TemporaryDirectory(prefix="servo_emulator")
        self._process: subprocess.Popen[str] | None = None
        self._socket: socket.socket | None = None

    def __enter__(self) -> Emulator:
        options = {"port_link": f"{self._folder.name}/port", "quiet": True, "until_eof": True} | self._options
        command = [sys.executable, "-m", "tests.servo_emulator"]
        for name, value in options.items():
            flag = f"--{name.replace('_', '-')}"
            command += [flag] if value is True else [] if value in (None, False) else [flag, str(value)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], READY_S)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self.__exit__(None, None, None)
            raise RuntimeError(f"the emulator did not start: {' '.join(command)}")
        about = json.loads(line)
        self.port, self.cameras, self.control = about["port"], about["cameras"], about["control"]
        self.pid = about["pid"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.stdin.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
        self._folder.cleanup()

    def ask(self, request: dict[str, Any], *, timeout_s: float = 60.0) -> dict[str, Any]:
        """Send one control request and return its answer; AssertionError when it was refused."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(self.control)
            self._lines = self._socket.makefile("rw", encoding="utf-8")
        self._socket.settimeout(timeout_s)
        self._lines.write(json.dumps(request) + "\n")
        self._lines.flush()
        while True:
            answer: dict[str, Any] = json.loads(self._lines.readline())
            if "outcome" not in answer:  # pushed, for whoever laid the scene out
                break
        assert "error" not in answer, answer["error"]
        return answer

    def calibration(self, path: Path | str) -> Path:
        """Write the calibration file that belongs to this arm, and return its path."""
        self.ask({"write_calibration": str(path)})
        return Path(path)

    def truth(self) -> dict[str, Any]:
        """Return what is really so."""
        return self.ask({"truth": True})
