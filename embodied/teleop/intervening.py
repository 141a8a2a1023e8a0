"""A policy that an operator watches over: they take over, correct, hand back, and every action tells whose it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from embodied.errors import EmbodiedError
from embodied.report import OPERATED, QUEUED
from embodied.teleop.console import INTERVENTION, INTERVENTION_LEGEND, Console, buttons_legend
from embodied.teleop.operator import Command, Teleoperator
from embodied.types import Action, Observation, Policy, RobotSpec

TAKEOVERS = "takeovers"  # among the policy's counts, beside OPERATED


class OperatorStoppedError(EmbodiedError):
    """The operator has seen enough."""

    def __init__(self) -> None:
        super().__init__("the operator stopped the rollout")


class InterveningPolicy:
    """A Policy: the one inside, but for when the operator drives.

    It hands out one action at a time, so that a takeover waits for no chunk to end. The policy begins anew where the
    operator hands back: nothing that it planned before is carried out.
    """

    def __init__(self, policy: Policy, teleoperator: Teleoperator, console: Console) -> None:
        self._policy, self._teleoperator, self._console = policy, teleoperator, console
        self._said_how = False

    @property
    def intervening(self) -> bool:
        """Whether the last action was the operator's."""
        return self._intervening

    @property
    def counts(self) -> Mapping[str, int]:
        """Return what the policy counts, over the whole episode, and takeovers and operator_actions."""
        return dict(self._counts + Counter(getattr(self._policy, "counts", {})))

    @property
    def timing_ns(self) -> Mapping[str, int]:
        """Return what the policy's last decision took by stage; QUEUED or OPERATED where the last act was none."""
        if self._decided:
            return getattr(self._policy, "timing_ns", {})
        return {OPERATED if self._intervening else QUEUED: 0}

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode, the policy driving; raise SpecMismatchError as either does, and what act does."""
        self._instruction, self._spec = instruction, spec
        self._counts = Counter[str]()
        self._intervening = self._decided = False
        self._waiting: list[Action] = []
        self._policy.reset(instruction, spec)
        self._teleoperator.reset(instruction, spec)
        _heed_stop(self._console.forget())
        if not self._said_how:
            buttons = buttons_legend(self._teleoperator.buttons, INTERVENTION)
            for line in (*self._teleoperator.legend, *buttons, *INTERVENTION_LEGEND):
                self._console.terminal.say(f"  {line}")
        self._said_how = True

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the next action, whoever's it is; raise OperatorStoppedError where the operator stops the rollout."""
        commands = self._console.commands()
        _heed_stop(commands)
        switched = sum(command is Command.SWITCH for command in commands) % 2 == 1
        if self._intervening and switched:
            self._hand_back()
        elif not self._intervening and (switched or self._teleoperator.reaching):
            self._take_over()
        self._decided = False
        if self._intervening:
            self._counts[OPERATED] += 1
            return self._teleoperator.act(observation)
        if not self._waiting:
            self._waiting = list(self._policy.act(observation))
            self._decided = True
        return [self._waiting.pop(0)] if self._waiting else []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  what a policy may have besides, as a video's boxes
        return getattr(self._policy, name)

    def _take_over(self) -> None:
        self._intervening, self._waiting = True, []
        self._counts[TAKEOVERS] += 1
        self._console.terminal.say("you drive; space hands back")

    def _hand_back(self) -> None:
        self._intervening = False
        self._counts += Counter(getattr(self._policy, "counts", {}))  # a reset begins to count anew
        self._policy.reset(self._instruction, self._spec)
        self._teleoperator.reset(self._instruction, self._spec)
        self._console.terminal.say("the policy drives; space, or moving, takes over")


def _heed_stop(commands: Sequence[Command]) -> None:
    if Command.STOP in commands:
        raise OperatorStoppedError
