"""Drives a robot by the keys of a terminal, which tells of a key that is held only by repeating it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from embodied.errors import SpecMismatchError
from embodied.teleop.console import Console
from embodied.teleop.jog import Jog, Nudge, is_gripper
from embodied.teleop.operator import Command
from embodied.types import Action, Observation, RobotSpec

TOOL = {"i": (0, 1), "k": (0, -1), "j": (1, 1), "l": (1, -1), "u": (2, 1), "o": (2, -1)}  # axis of the base, direction
MOST_FIELDS = 9
# How long one press moves. Longer than the pause between a held key's repeats (30 to 40 ms on most desktops, up to
# 100 ms), so that it moves without a break; short enough that the robot stands soon after the key is let go.
PRESS_S = 0.15


class KeyboardTeleoperator:
    """Jogs by keys. However many repeats of a key came in a control period, it moves at one speed and none is kept."""

    def __init__(self, console: Console, nudge: Nudge | None = None) -> None:
        self._console, self._jog = console, Jog(nudge)
        self._spec: RobotSpec | None = None

    @property
    def legend(self) -> Sequence[str]:
        """Return lines that say which key does what."""
        assert self._spec is not None
        names = [f.name for f in self._spec.action]
        tool = ("i/k  tool forward/back      j/l  tool left/right      u/o  tool up/down",)
        gripper = ("c/v  close/open the gripper",) if self._gripper is not None else ()
        joints = " ".join(f"{i}:{name}" for i, name in enumerate(names, 1))
        return (
            *(tool if self._jog.moves_tool else ()),
            *gripper,
            f"z/x  the chosen joint down/up; choose it by number: {joints}",
            "-/+  slower/faster",
        )

    @property
    def buttons(self) -> Mapping[str, Command]:
        """Return none: the keys that ask for something are the console's."""
        return {}

    @property
    def ready(self) -> bool:
        """Whether the robot may be driven: always, since jogging begins where it is."""
        return True

    @property
    def reaching(self) -> bool:
        """Whether a key that moves was pressed since the last reset."""
        self._press()
        return bool(self._left_s)

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin from wherever the robot is; raise SpecMismatchError for one that does not measure what it is told."""
        if len(spec.action) > MOST_FIELDS:
            lines = [f"action: {len(spec.action)} fields, and number keys for {MOST_FIELDS}"]
            raise SpecMismatchError("the keyboard", f"robot {spec.name!r}", lines)
        self._jog.begin(spec)
        self._spec = spec
        self._gripper = next((i for i, f in enumerate(spec.action) if is_gripper(f.name)), None)
        self._joint = 0
        self._left_s: dict[tuple[str, int, int], float] = {}  # by what moves, which of them, direction
        self._console.driving()  # what was typed before is not about this

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the next pose, as the keys pressed of late ask for it."""
        assert self._spec is not None
        self._press()
        joints, tool = np.zeros(len(self._spec.action)), np.zeros(3)
        period_s = 1 / self._spec.control_hz
        for (what, index, direction), left_s in list(self._left_s.items()):
            (joints if what == "joint" else tool)[index] += direction * min(1.0, left_s / period_s)
            self._left_s[what, index, direction] = left_s - period_s
        self._left_s = {move: left_s for move, left_s in self._left_s.items() if left_s > 1e-9}
        return [self._jog.pose(observation, joints, tool)]

    def commands(self) -> Sequence[Command]:
        """Return nothing: what the keyboard asks for beside motion is the console's."""
        return ()

    def close(self) -> None:
        """Do nothing: the terminal is the console's."""

    def _press(self) -> None:
        for key in self._console.driving():
            if key in ("-", "_", "+", "="):
                self._jog.faster(1 if key in "+=" else -1)
                self._console.terminal.say(f"speed {self._jog.speed:.0%} of the range a second")
            elif (move := self._move(key)) is not None:
                what, index, direction = move
                self._left_s.pop((what, index, -direction), None)
                self._left_s[move] = PRESS_S

    def _move(self, key: str) -> tuple[str, int, int] | None:
        """Return what a key moves, if it moves anything; a number chooses the joint."""
        assert self._spec is not None
        if key.isdecimal() and 1 <= int(key) <= len(self._spec.action):
            self._joint = int(key) - 1
            self._console.terminal.say(f"z/x move {self._spec.action[self._joint].name}")
        if key in ("z", "x"):
            return "joint", self._joint, 1 if key == "x" else -1
        if key in ("c", "v") and self._gripper is not None:
            return "joint", self._gripper, 1 if key == "v" else -1
        if key in TOOL and self._jog.moves_tool:
            return "tool", *TOOL[key]
        return None
