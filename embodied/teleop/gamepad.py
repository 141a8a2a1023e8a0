"""Drives a robot by a gamepad: sticks move the tool, or with a shoulder held the joints; triggers the gripper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embodied.teleop.jog import Jog, Nudge, is_gripper
from embodied.teleop.joystick import Joystick
from embodied.teleop.operator import Command
from embodied.types import Action, Observation, RobotSpec

Array = NDArray[np.float64]

DEAD = 0.15  # of a stick's way, around its middle
COMMANDS = {
    "south": Command.SUCCESS,
    "east": Command.FAILURE,
    "west": Command.RERECORD,
    "north": Command.MARK,
    "select": Command.STOP,
    "start": Command.SWITCH,
}
BUTTONS = dict(zip(("A", "B", "X", "Y", "Back", "Start"), COMMANDS.values(), strict=True))  # as most pads are marked
TOOL = (("left_y", 0, -1), ("left_x", 1, -1), ("right_y", 2, -1))  # axis of the pad, of the base, sign: up is negative
STICKS = (("left_x", 1), ("left_y", -1), ("right_y", -1), ("right_x", 1), ("hat_x", 1), ("hat_y", -1))  # joints in turn
LEFT_FOR_TOOL = (("right_x", -1), ("hat_y", -1))  # joints before the gripper, the last first: they turn the tool


class GamepadTeleoperator:
    """Jogs by how far sticks are pushed."""

    def __init__(self, joystick: Joystick, nudge: Nudge | None = None) -> None:
        self._joystick, self._jog = joystick, Jog(nudge)
        self._asked: list[Command] = []

    @property
    def legend(self) -> Sequence[str]:
        """Return lines that say which stick does what."""
        tool = (
            "left stick  tool forward/back, left/right      right stick  tool up/down, turn      hat  tilt",
            "left shoulder held: sticks and hat move the joints one by one",
        )
        return (
            *(tool if self._jog.moves_tool else ("sticks and hat  joints, in turn",)),
            "triggers  close/open the gripper      right shoulder  faster, and slower again",
        )

    @property
    def buttons(self) -> Mapping[str, Command]:
        """Return what its buttons ask for."""
        return BUTTONS

    @property
    def ready(self) -> bool:
        """Whether the robot may be driven: always, since jogging begins where it is."""
        return True

    @property
    def reaching(self) -> bool:
        """Whether a stick is pushed now."""
        self._read()
        joints, tool = self._ways()
        return bool(joints.any() or tool.any())

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin from wherever the robot is; raise SpecMismatchError for one that does not measure what it is told."""
        self._jog.begin(spec)
        self._n = len(spec.action)
        self._gripper = next((i for i, f in enumerate(spec.action) if is_gripper(f.name)), None)
        self._joints = [i for i in range(self._n) if i != self._gripper]
        self._read()
        self._asked = []

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the next pose, as the sticks are pushed now; raise GamepadError if the gamepad went away."""
        self._read()
        return [self._jog.pose(observation, *self._ways())]

    def commands(self) -> Sequence[Command]:
        """Return what its buttons asked for."""
        self._read()
        found, self._asked = self._asked, []
        return found

    def close(self) -> None:
        """Close the device; idempotent."""
        self._joystick.close()

    def _read(self) -> None:
        for button in self._joystick.pressed():
            if button == "right_shoulder":
                self._jog.faster(1 if self._jog.at_first_speed else -1)
            elif button in COMMANDS:
                self._asked.append(COMMANDS[button])

    def _ways(self) -> tuple[Array, Array]:
        """Return which way joints (n,) and tool (3,) are to go, -1 to 1 each."""
        joints, tool = np.zeros(self._n), np.zeros(3)
        by_joints = not self._jog.moves_tool or "left_shoulder" in self._joystick.held
        sticks, turned = (STICKS, self._joints) if by_joints else (LEFT_FOR_TOOL, self._joints[::-1])
        for (axis, sign), joint in zip(sticks, turned, strict=False):
            joints[joint] = sign * self._push(axis)
        if not by_joints:
            for axis, index, sign in TOOL:
                tool[index] = sign * self._push(axis)
        if self._gripper is not None:
            joints[self._gripper] = self._joystick.trigger("right_trigger") - self._joystick.trigger("left_trigger")
        return joints, tool

    def _push(self, axis: str) -> float:
        """Return how far a stick is pushed beyond its dead middle, -1 to 1, finer near the middle."""
        value = self._joystick.axes[axis]
        beyond = max(0.0, abs(value) - DEAD) / (1 - DEAD)
        return float(np.sign(value)) * beyond**2
