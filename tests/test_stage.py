"""Who lays out a scene: a person at a terminal, a rig behind a socket, or nobody; each can be called off."""

from __future__ import annotations

import json
import os
import pty
import socket
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embodied.hardware.stage import SocketStage, StageError, TerminalStage, open_stage


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Rig:
    """Answers each line with those of `answers`."""

    def __init__(self, path: Path, answers: list[list[Any]]) -> None:
        self.asked: list[Any] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answers = answers
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connected, _ = self._listener.accept()
        with connected, connected.makefile("rw") as lines:
            for answer in self._answers:
                if not (line := lines.readline()):
                    return
                self.asked.append(json.loads(line))
                for one in answer:
                    lines.write((one if isinstance(one, str) else json.dumps(one)) + "\n")
                lines.flush()
            lines.readline()  # until the far side hangs up


def test_a_rig_lays_out_the_scene_and_says_later_that_it_is_done(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig", [[{"instruction": "push it"}, {"outcome": True}], [{"instruction": "again"}]])
    stage = open_stage(f"unix:{tmp_path}/rig")
    assert stage.begin(7, "push") == "push it"
    until(lambda: stage.outcome is True)
    assert stage.begin(8, "push") == "again" and stage.outcome is None
    assert rig.asked == [{"begin": {"seed": 7, "task": "push"}}, {"begin": {"seed": 8, "task": "push"}}]
    stage.close()
    stage.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [({"error": "no cube left"}, "no cube left"), ("nonsense", "Expecting value"), ([1], "hung up|no answer")],
)
def test_a_rig_that_fails_says_why(answer: Any, words: str, tmp_path: Path) -> None:
    Rig(tmp_path / "rig", [[answer]])
    stage = SocketStage(f"unix:{tmp_path}/rig")
    with pytest.raises(StageError, match=words):
        stage.begin(0, "push")
    stage.close()


def test_a_rig_that_is_waited_for_can_be_called_off(tmp_path: Path) -> None:
    Rig(tmp_path / "rig", [[], []])
    stage = SocketStage(f"unix:{tmp_path}/rig")
    threading.Timer(0.1, stage.cancel).start()
    with pytest.raises(StageError, match="stopped before"):
        stage.begin(0, "push")
    stage.close()


def test_what_a_rig_says_of_an_episode_that_was_called_off_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    late = [{"instruction": "the old one"}, {"outcome": True}]
    rig = Rig(tmp_path / "rig", [[], [*late, {"outcome": False}, {"instruction": "the new one"}]])
    stage = SocketStage(f"unix:{tmp_path}/rig")

    def call_off() -> None:
        until(lambda: len(rig.asked) == 1)
        stage.cancel()

    threading.Thread(target=call_off).start()
    with pytest.raises(StageError, match="stopped before"):
        stage.begin(0, "push")
    assert stage.begin(1, "push") == "the new one" and stage.outcome is None
    stage.close()


@pytest.mark.parametrize("name", ["unix:/nowhere", "localhost:1", "host:port", "teminal"])
def test_a_stage_that_is_not_there_is_named_with_the_choices(name: str) -> None:
    with pytest.raises(StageError, match="terminal, none, unix:/path or host:port") as error:
        open_stage(name)
    assert name in str(error.value)


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal for standard input; what is written to the descriptor is typed."""
    typing, typed = pty.openpty()
    with os.fdopen(typed, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield typing
    os.close(typing)


def test_a_person_types_the_instruction_and_one_key_at_the_end(keyboard: int) -> None:
    stage = TerminalStage()
    before = termios.tcgetattr(sys.stdin.fileno())
    os.write(keyboard, b"put the cube away\n")
    assert stage.begin(3, "push") == "put the cube away"
    assert stage.outcome is None
    os.write(keyboard, b"xs")
    until(lambda: stage.outcome is True)
    assert termios.tcgetattr(sys.stdin.fileno()) == before
    os.write(keyboard, b"\n")
    assert stage.begin(4, "push") == "put the cube away"
    os.write(keyboard, b"F")
    until(lambda: stage.outcome is False)
    stage.close()


def test_a_person_who_is_waited_for_can_be_called_off(keyboard: int) -> None:
    stage = TerminalStage()
    threading.Timer(0.1, stage.cancel).start()
    with pytest.raises(StageError, match="stopped before"):
        stage.begin(0, "push")


def test_a_terminal_that_a_killed_program_left_silent_takes_lines_again(keyboard: int) -> None:
    tty.setcbreak(sys.stdin.fileno())
    stage = TerminalStage()

    def type_it() -> None:
        until(lambda: bool(termios.tcgetattr(keyboard)[3] & termios.ICANON))
        os.write(keyboard, b"put the cube awayy\x7f\n")  # which only a terminal that takes lines understands

    threading.Thread(target=type_it).start()
    assert stage.begin(3, "push") == "put the cube away"
    stage.close()
    assert termios.tcgetattr(sys.stdin.fileno())[3] & (termios.ICANON | termios.ECHO)


def test_two_lines_typed_ahead_do_not_hide_the_second_nor_end_the_episode(keyboard: int) -> None:
    stage = TerminalStage()
    os.write(keyboard, b"one\ntwo\n")
    assert stage.begin(0, "push") == "one" and stage.outcome is None
    stage.close()


def test_a_terminal_that_went_away_is_let_go_of_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    typing, typed = pty.openpty()
    with os.fdopen(typed, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        stage = TerminalStage()
        os.write(typing, b"\n")
        assert stage.begin(0, "push") == "push"
        os.close(typing)
        stage.close()


def test_without_a_terminal_there_is_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(StageError, match="--option stage=none"):
            open_stage("terminal")


def test_of_nobody_nothing_is_asked_and_nothing_succeeds() -> None:
    stage = open_stage("none")
    assert stage.begin(0, "pick_place") == "pick place" and stage.outcome is None
