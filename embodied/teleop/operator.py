"""The roles at the robot: what an operator can ask for, and a teleoperator, a policy whose actions are a person's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Protocol

from embodied.types import Action, Observation, RobotSpec


class Command(Enum):
    """What an operator asks of a session, beside how the robot is to move."""

    SUCCESS = "success"
    FAILURE = "failure"
    RERECORD = "re-record"
    DISCARD = "discard"
    STOP = "stop"
    MARK = "mark"
    SWITCH = "take over or hand back"


class Teleoperator(Protocol):
    """A Policy that a person is; one action a control period."""

    @property
    def legend(self) -> Sequence[str]:
        """Return lines that say how to drive."""

    @property
    def buttons(self) -> Mapping[str, Command]:
        """Return the device's own buttons, by what is written on them, and what each asks for."""

    @property
    def ready(self) -> bool:
        """Whether the robot is where the operator is; until then it is on its way there, slowly."""

    @property
    def reaching(self) -> bool:
        """Whether the operator has begun to move since the last reset: in an intervention, to take over."""

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin from wherever the robot is; raise SpecMismatchError for a robot that cannot be driven so."""

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the action of this control period."""

    def commands(self) -> Sequence[Command]:
        """Return what was asked for by the device itself since the last call, as by a gamepad's buttons."""

    def close(self) -> None:
        """Let go of the device; idempotent."""
