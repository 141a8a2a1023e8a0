"""A policy for tests that acts when it is let, and keeps account of who acted together."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from embodied.errors import EmbodiedError, InvalidObservationError
from embodied.types import Action, Observation, RobotSpec, TextAction


class GatedPolicy:
    """Acts only while its gate is open, and keeps account of who acted together; NaN is refused."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        if not instruction:
            raise EmbodiedError("nothing to do")

    def act(self, observation: Observation) -> Sequence[Action]:
        (answer,) = self.gate.pass_through([observation])
        if isinstance(answer, EmbodiedError):
            raise answer
        return answer


class GatedBatching(GatedPolicy):
    """The same, together."""

    def fork(self) -> GatedBatching:
        return GatedBatching(self.gate)

    @classmethod
    def act_together(
        cls, policies: Sequence[GatedBatching], observations: Sequence[Observation]
    ) -> list[Sequence[Action] | EmbodiedError]:
        return policies[0].gate.pass_through(observations)


class Gate:
    """What many policies wait at."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Semaphore(0), threading.Event()
        self.together: list[list[str]] = []  # instructions, a list a forward pass
        self.inside = self.most_inside = 0
        self.lock = threading.Lock()

    def pass_through(self, observations: Sequence[Observation]) -> list[Sequence[Action] | EmbodiedError]:
        with self.lock:
            self.together.append([observation.instruction for observation in observations])
            self.inside += 1
            self.most_inside = max(self.inside, self.most_inside)
        self.entered.release()
        assert self.open.wait(120)
        with self.lock:
            self.inside -= 1
        if any(observation.instruction == "break" for observation in observations):
            raise ZeroDivisionError("no head")
        return [
            InvalidObservationError("NaN") if np.isnan(o.state).any() else [TextAction(o.instruction)]
            for o in observations
        ]
