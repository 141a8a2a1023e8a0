"""A guided verb as a child process that is answered through a pipe."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 60.0


class Guided:
    """A child whose questions are waited for and answered; a context manager, so that none is left behind."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "embodied", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self.shown = ""
        self._looked_at = 0

    def __enter__(self) -> Guided:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def sees(self, text: str, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until text is shown, after what was waited for before; fail if it never is."""
        assert self.process.stdout is not None
        end_s = time.monotonic() + timeout_s
        while (at := self.shown.find(text, self._looked_at)) < 0:
            assert time.monotonic() < end_s, f"never saw {text!r} in:\n{self.shown}"
            if select.select([self.process.stdout], [], [], 0.1)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                assert data, f"ended without {text!r}:\n{self.shown}"
                self.shown += data.decode()
        self._looked_at = at + len(text)

    def enter(self, line: str = "") -> None:
        """Answer with a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self, timeout_s: float = TIMEOUT_S) -> int:
        """Close its input, wait until it ends, and return its exit status."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.shown += self.process.stdout.read().decode()
        return self.process.wait(timeout_s)


def verb(*arguments: str, answers: Sequence[str] = ()) -> tuple[int, str]:
    """Run a verb with all its answers given at once; return its exit status and what it showed."""
    with Guided(*arguments) as guided:
        for answer in answers:
            guided.enter(answer)
        return guided.end(), guided.shown
