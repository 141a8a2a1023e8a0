"""Prompt: questions that a person answers with a line, at a terminal or through a pipe, while other work goes on."""

from __future__ import annotations

import io
import os
import select
import sys

from embodied.errors import EmbodiedError

READ_BYTES = 4096


class InputEndedError(EmbodiedError):
    """Standard input ended where an answer was needed."""


class Prompt:
    """Reads lines from standard input without ever blocking for longer than it is told."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._ended = False
        try:
            self._fd = sys.stdin.fileno()
        except (io.UnsupportedOperation, AttributeError, ValueError):  # closed, or no file at all
            self._ended = True

    def ask(self, question: str) -> str:
        """Show a question and wait for the line that answers it; raise InputEndedError if there will be none."""
        print(f"{question} ", end="", flush=True)
        try:
            while (line := self.poll(1.0)) is None:
                pass
        except BaseException:
            print()  # what is said next begins a line
            raise
        if not sys.stdin.isatty():
            print()  # nobody typed the end of the line
        return line

    def poll(self, timeout_s: float) -> str | None:
        """Return a line if one comes within timeout_s, else None; raise InputEndedError if there will be none."""
        while b"\n" not in self._waiting:
            if self._ended:
                raise InputEndedError("the input ended before this was done")
            if not select.select([self._fd], [], [], timeout_s)[0]:
                return None
            data = os.read(self._fd, READ_BYTES)
            self._ended = not data
            self._waiting += data
        line, _, rest = bytes(self._waiting).partition(b"\n")
        self._waiting = bytearray(rest)
        return line.decode(errors="replace").strip()
