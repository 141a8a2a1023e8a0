"""Sorts what the operator types: keys that end an episode or a session are commands, the others drive."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from embodied.teleop.operator import Command
from embodied.teleop.terminal import Terminal

# The keys that LeRobot's users know, and a letter for each; the letters that drive are others (jog.py, keyboard.py).
COMMANDS: Mapping[str, Command] = {
    "right": Command.SUCCESS,
    "enter": Command.SUCCESS,
    "down": Command.FAILURE,
    "f": Command.FAILURE,
    "left": Command.RERECORD,
    "d": Command.DISCARD,
    "esc": Command.STOP,
    "q": Command.STOP,
    "m": Command.MARK,
    "space": Command.SWITCH,
}
RECORDING_LEGEND = (
    "right/Enter  finished: a success      f/down  finished: a failure      left  again from the start",
    "d  discard, go on with the next       m       mark this moment         Esc/q stop the session",
)
INTERVENTION_LEGEND = ("space  take over, or hand back        Esc/q  stop the rollout",)
RECORDING = tuple(command for command in Command if command is not Command.SWITCH)  # what a session heeds
INTERVENTION = (Command.SWITCH, Command.STOP)


def buttons_legend(buttons: Mapping[str, Command], heeded: Collection[Command]) -> Sequence[str]:
    """Return a line that says which of a device's buttons ask for what is heeded; none where it has no such buttons."""
    said = [f"{button} {command.value}" for button, command in buttons.items() if command in heeded]
    return ["   ".join(said)] if said else []


class Console:
    """The operator's terminal, whose keys go two ways."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self._devices: list[Callable[[], Sequence[Command]]] = []
        self._commands: list[Command] = []
        self._driving: list[str] = []

    def listen(self, device: Callable[[], Sequence[Command]]) -> None:
        """Take commands from a device with buttons of its own too."""
        self._devices.append(device)

    def commands(self, timeout_s: float = 0.0) -> Sequence[Command]:
        """Return the commands given since the last call, waiting at most timeout_s for a key."""
        self._read(timeout_s)
        found, self._commands = self._commands, []
        return found

    def put_back(self, commands: Sequence[Command]) -> None:
        """Have commands that were not heeded yet come again, before those given since."""
        self._commands[:0] = commands

    def driving(self) -> Sequence[str]:
        """Return the other keys typed since the last call."""
        self._read(0.0)
        found, self._driving = self._driving, []
        return found

    def forget(self) -> Sequence[Command]:
        """Do nothing of what was asked for so far, which was about something else; return what that was."""
        self._read(0.0)
        forgotten, self._commands, self._driving = self._commands, [], []
        return forgotten

    def _read(self, timeout_s: float) -> None:
        for key in self.terminal.keys(timeout_s):
            if (command := COMMANDS.get(key)) is not None:
                self._commands.append(command)
            else:
                self._driving.append(key)
        for device in self._devices:
            self._commands += device()
