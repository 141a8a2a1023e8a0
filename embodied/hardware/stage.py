"""Who lays out the scene of an episode and says whether it succeeded: a person, a fixture, or nobody."""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import termios
import threading
import tty
from contextlib import suppress
from typing import Protocol

from embodied.errors import HardwareError

ANSWER_S = 120.0  # a rig may have to put many things in their places
READ_BYTES = 4096
CHOICES = "terminal, none, unix:/path or host:port"


class StageError(HardwareError):
    """A scene that was not laid out."""


class Stage(Protocol):
    """Lays out scenes and judges what became of them."""

    def begin(self, seed: int, task: str) -> str:
        """Lay out the scene and return the instruction; raise StageError where that fails or is cancelled."""

    @property
    def outcome(self) -> bool | None:
        """Return whether the episode succeeded, None while nobody has said; never waits."""

    def cancel(self) -> None:
        """Have a begin that is under way give up; idempotent, from any thread."""

    def close(self) -> None:
        """Let go of it; idempotent."""


def open_stage(name: str) -> Stage:
    """Open the stage of that name; raise StageError with the choices."""
    if name == "terminal":
        return TerminalStage()
    if name == "none":
        return NoStage()
    if ":" not in name:
        raise StageError(f"no stage {name!r}; it is {CHOICES}")
    return SocketStage(name)


class NoStage:
    """Nobody lays out anything, and nothing is ever a success."""

    outcome = None

    def begin(self, seed: int, task: str) -> str:
        """Return the task's name for an instruction."""
        return task.replace("_", " ")

    def cancel(self) -> None:
        """Do nothing: it never waits."""

    def close(self) -> None:
        """Do nothing: it holds nothing."""


class TerminalStage:
    """A person lays out the scene, types the instruction and Enter to begin, then s for success or f for failure."""

    def __init__(self) -> None:
        """Take the terminal; raise StageError where there is none."""
        if not sys.stdin.isatty():
            raise StageError("stage terminal needs a terminal to ask at; without one: --option stage=none")
        self._input = sys.stdin.fileno()
        self._cooked = termios.tcgetattr(self._input)
        self._cooked[0] |= termios.ICRNL
        self._cooked[3] |= termios.ICANON | termios.ECHO  # a program that was killed left it without
        self._typed = b""
        self._cancelled = threading.Event()
        self._instruction = ""
        self._outcome: bool | None = None
        self._listening = False

    def begin(self, seed: int, task: str) -> str:
        """Ask for the scene and its instruction; Enter alone repeats the last."""
        self._cancelled.clear()
        self._typed, self._listening = b"", False
        self._restore()
        said = self._instruction or task.replace("_", " ")
        print(f"episode of {task}, seed {seed}: lay out the scene, then type its instruction, or Enter for {said!r}:")
        self._instruction = self._line().strip() or said
        self._outcome, self._listening = None, True
        tty.setcbreak(self._input)
        print("running: s for success, f for failure")
        return self._instruction

    @property
    def outcome(self) -> bool | None:
        """Return what the person has typed."""
        while self._listening and self._outcome is None and self._waits(0.0):
            key = os.read(self._input, 1)
            self._outcome = {b"s": True, b"f": False}.get(key.lower())
            if self._outcome is not None or not key:
                self.close()
        return self._outcome

    def cancel(self) -> None:
        """Stop waiting for the scene."""
        self._cancelled.set()

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._listening:
            self._listening = False
            self._restore()

    def _restore(self) -> None:
        with suppress(OSError, termios.error):  # a terminal that is gone needs none
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._cooked)

    def _line(self) -> str:
        while b"\n" not in self._typed:
            if self._cancelled.is_set():
                raise StageError("stopped before the scene was laid out")
            if self._waits(0.1):
                typed = os.read(self._input, READ_BYTES)  # sys.stdin would keep what select then waits for
                if not typed:
                    raise StageError("the terminal was closed before the scene was laid out")
                self._typed += typed
        line, _, self._typed = self._typed.partition(b"\n")
        return line.decode(errors="replace")

    def _waits(self, timeout_s: float) -> bool:
        return bool(select.select([self._input], [], [], timeout_s)[0])


class SocketStage:
    """A rig behind a socket, one line of JSON each way.

    {"begin": {"seed": 7, "task": "push"}} is answered with {"instruction": "..."} or {"error": "..."}, in the order
    of the questions and also where nobody waits for it any more; afterwards {"outcome": true} comes once it is so.
    """

    def __init__(self, address: str) -> None:
        """Connect to unix:/path or host:port; raise StageError where nobody listens."""
        self._address = address
        try:
            self._socket = _connect(address)
        except (OSError, ValueError) as error:
            raise StageError(f"no stage at {address}: {error}; it is {CHOICES}") from error
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self._answered = threading.Condition()
        self._begun = self._laid = 0  # questions, and answers to them
        self._instruction: str | None = None
        self._error: str | None = None
        self._gone: str | None = None
        self._outcome: bool | None = None
        threading.Thread(target=self._listen, name="stage", daemon=True).start()

    def begin(self, seed: int, task: str) -> str:
        """Have the rig lay out the scene."""
        with self._answered:
            self._instruction = self._error = self._outcome = None
            self._begun += 1
            try:
                self._socket.sendall(json.dumps({"begin": {"seed": seed, "task": task}}).encode() + b"\n")
            except OSError as error:
                raise StageError(f"the stage at {self._address} is gone: {error}") from error
            if not self._answered.wait_for(lambda: self._instruction or self._error or self._gone, ANSWER_S):
                raise StageError(f"the stage at {self._address} laid out no scene within {ANSWER_S:.0f} s")
            if self._instruction is None:
                raise StageError(f"the stage at {self._address}: {self._error or self._gone}")
            return self._instruction

    @property
    def outcome(self) -> bool | None:
        """Return what the rig has said since begin."""
        return self._outcome

    def cancel(self) -> None:
        """Stop waiting for the scene."""
        with self._answered:
            self._error = self._error or "stopped before the scene was laid out"
            self._answered.notify_all()

    def close(self) -> None:
        """Hang up."""
        self.cancel()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # it has hung up already
            return
        finally:
            self._socket.close()

    def _listen(self) -> None:
        try:
            for line in self._lines:
                self._hear(json.loads(line))
        except (OSError, ValueError) as error:  # it hung up, or spoke no JSON
            self._end(str(error))
        else:
            self._end("it hung up")

    def _hear(self, said: object) -> None:
        if not isinstance(said, dict):
            raise ValueError(f"it said {said!r}, which is no answer")
        with self._answered:
            instruction = said.get("instruction")
            laid = isinstance(instruction, str) and bool(instruction)
            if laid or "error" in said:
                self._laid = min(self._laid + 1, self._begun)
            if self._laid < self._begun:  # it is about an episode that was called off
                return
            if laid:
                self._instruction = instruction
            elif "error" in said:
                self._error = str(said["error"])
            elif self._instruction is not None and isinstance(said.get("outcome"), bool):
                self._outcome = said["outcome"]
            self._answered.notify_all()

    def _end(self, why: str) -> None:
        with self._answered:
            self._gone = why
            self._answered.notify_all()


def _connect(address: str) -> socket.socket:
    if address.startswith("unix:"):
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(address.removeprefix("unix:"))
        return connected
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=None)
