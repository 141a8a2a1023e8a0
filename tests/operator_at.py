"""An operator at a real terminal: a command of ours on a pseudo-terminal, keys typed into it and what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 60.0
RIGHT, LEFT, DOWN, ESC, ENTER = "\x1b[C", "\x1b[D", "\x1b[B", "\x1b", "\n"


class OperatorAt:
    """A child process whose terminal is ours."""

    def __init__(self, arguments: Sequence[str], most_bytes_a_file: int | None = None) -> None:
        self._ours, self._theirs = pty.openpty()
        self.settings = termios.tcgetattr(self._theirs)

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(self._theirs, termios.TIOCSCTTY, 0)
            if most_bytes_a_file is not None:  # which is what a full disk looks like
                resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes_a_file, resource.RLIM_INFINITY))

        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "embodied", *arguments],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            cwd=ROOT,
            env=environment,
            preexec_fn=take_terminal,
        )
        self.shown = ""
        self._looked_at = 0

    def type(self, keys: str) -> None:
        """Type keys."""
        os.write(self._ours, keys.encode())

    def sees(self, text: str, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until text is shown, after what was waited for before; fail if it never is."""
        deadline_s = time.monotonic() + timeout_s
        while (at := self.shown.find(text, self._looked_at)) < 0:
            assert time.monotonic() < deadline_s, f"never saw {text!r} in:\n{self.shown}"
            assert self._read(0.1) or self.process.poll() is None, f"ended without {text!r}:\n{self.shown}"
        self._looked_at = at + len(text)

    def ends(self, timeout_s: float = TIMEOUT_S) -> int:
        """Wait until the process has ended and return its status."""
        deadline_s = time.monotonic() + timeout_s
        while self.process.poll() is None or self._read(0.0):
            assert time.monotonic() < deadline_s, f"still running:\n{self.shown}"
            self._read(0.05)
        return self.process.returncode

    def signal(self, signum: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(signum)

    @property
    def terminal_is_as_it_was(self) -> bool:
        """Whether echo and lines are what they were before the process began."""
        return termios.tcgetattr(self._theirs) == self.settings

    @property
    def terminal(self) -> int:
        """Return the file descriptor of the process's terminal."""
        return self._theirs

    @property
    def is_cbreak(self) -> bool:
        """Whether keys come unbuffered now."""
        return not termios.tcgetattr(self._theirs)[3] & termios.ICANON

    def close(self) -> None:
        """Kill what still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def _read(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], timeout_s)
        if not ready:
            return False
        self.shown += os.read(self._ours, 65536).decode(errors="replace").replace("\r\n", "\n")
        return True


@contextmanager
def operator_at(*arguments: object, most_bytes_a_file: int | None = None) -> Iterator[OperatorAt]:
    """Start a command of ours on a terminal."""
    operator = OperatorAt([str(argument) for argument in arguments], most_bytes_a_file)
    try:
        yield operator
    finally:
        operator.close()
