"""The operator's terminal: keys as they are typed, lines that stay, and one status line below them."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
import tty
from typing import Self

from embodied.errors import EmbodiedError
from embodied.teleop.keys import KeyDecoder

READ_BYTES = 1024
CLEAR = "\r\x1b[K"
LOCAL_FLAGS = 3  # where tcgetattr lists them
ESC_S = 0.05  # what follows an Esc within, as an arrow's letters do, belongs to it


class TerminalError(EmbodiedError):
    """No terminal to be driven from."""


class Terminal:
    """A context manager; within it keys come unbuffered and are not shown, and Ctrl-C still interrupts (cbreak)."""

    def __init__(self) -> None:
        """Take the terminal of standard input, or else of the process; raise TerminalError if there is none."""
        self._opened = -1
        if sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty():
            self._fd = sys.stdin.fileno()
        else:
            try:
                self._fd = self._opened = os.open("/dev/tty", os.O_RDWR)
            except OSError as error:
                raise TerminalError("the operator's keys need a terminal, and this process has none") from error
        self._saved = termios.tcgetattr(self._fd)
        self._saved[LOCAL_FLAGS] |= termios.ICANON | termios.ECHO  # a session that was killed left it without
        self._decoder = KeyDecoder()
        self._status = ""

    def __enter__(self) -> Self:
        tty.setcbreak(self._fd, termios.TCSANOW)
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was found; idempotent."""
        if self._fd < 0:
            return
        self._draw("")
        self._restore()
        if self._opened >= 0:
            os.close(self._opened)
        self._fd = self._opened = -1

    def keys(self, timeout_s: float = 0.0) -> list[str]:
        """Return the keys typed since the last call, waiting at most timeout_s for one.

        Raise TerminalError once the terminal is gone.
        """
        found = self._decoder.decode(self._read(timeout_s))
        return found or self._decoder.decode(self._read(ESC_S) if self._decoder.pending else b"")

    def say(self, line: str) -> None:
        """Print a line above the status."""
        self._write(f"{CLEAR}{line}\n" if sys.stdout.isatty() else f"{line}\n")
        self._draw(self._status)

    def status(self, line: str) -> None:
        """Put line in the place of the last status."""
        self._status = line
        self._draw(line)

    def _read(self, timeout_s: float) -> bytes:
        ready, _, _ = select.select([self._fd], [], [], timeout_s)
        if not ready:
            return b""
        try:
            data = os.read(self._fd, READ_BYTES)
        except OSError as error:  # EIO: its other end was closed
            raise TerminalError(f"the operator's terminal is gone: {error.strerror}") from error
        if not data:
            raise TerminalError("the operator's terminal is gone")
        return data

    def _restore(self) -> None:
        with contextlib.suppress(termios.error):  # a terminal that is gone needs nothing
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)

    def _draw(self, line: str) -> None:
        if sys.stdout.isatty():
            self._write(CLEAR + line[: shutil.get_terminal_size().columns - 1])

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # whoever watched may have left; the keys say so where it matters
            sys.stdout.write(text)
            sys.stdout.flush()
