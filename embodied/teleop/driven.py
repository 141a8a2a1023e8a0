"""One episode driven by an operator: from wherever the robot is to its end, recorded row by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from embodied.errors import InvalidActionError, InvalidObservationError
from embodied.recording.rollout import RolloutRecorder
from embodied.teleop.console import Console
from embodied.teleop.operator import Command, Teleoperator
from embodied.types import Fault, Observation, PoseAction, Robot, Step

ENDS = (Command.SUCCESS, Command.FAILURE, Command.RERECORD, Command.DISCARD, Command.STOP)
STATUS_S = 0.5  # between two


class DrivenEpisode:
    """Runs once; rows is how many were recorded."""

    def __init__(
        self, robot: Robot, teleoperator: Teleoperator, console: Console, *, show: Callable[[Observation], None]
    ) -> None:
        self._robot, self._teleoperator, self._console, self._show = robot, teleoperator, console, show
        self.rows = 0
        self._next_status_s = 0.0
        self._said: set[tuple[str, str]] = set()

    def run(self, observation: Observation, recorder: RolloutRecorder, *, most_rows: int, title: str) -> Command | None:
        """Drive until the robot succeeds or the operator ends it; return how, None where it is over without either.

        Rows begin once the robot is where the operator is.
        """
        end: Command | None
        while not self._teleoperator.ready:
            step = self._robot.step(self._action(observation))
            observation = self._see(step)
            if step.done:
                self._console.terminal.say("the episode was over before the robot was there")
                return Command.RERECORD
            if (end := self._end(recorder)) is not None:
                return end
        recorder.began(observation)
        while self.rows < most_rows:
            action = self._action(observation)
            step = self._robot.step(action)
            try:
                recorder.stepped(action, step)
            except InvalidObservationError as error:  # a camera that has no frame now
                self._console.terminal.say(f"{error}; again from the start")
                return Command.RERECORD
            self.rows += 1
            observation = self._see(step)
            if step.success:
                return Command.SUCCESS
            if step.done:
                return None
            if (end := self._end(recorder)) is not None:
                return end
            self._status(title)
        return None

    def _action(self, observation: Observation) -> PoseAction:
        (action,) = self._teleoperator.act(observation)
        if not isinstance(action, PoseAction):
            raise InvalidActionError(f"a teleoperator says poses, and this one said {action}")
        return action

    def _see(self, step: Step) -> Observation:
        self._show(step.observation)
        for fault in self._new(step.faults):
            self._console.terminal.say(f"{fault.part}: {fault.kind}: {fault.detail}")
        return step.observation

    def _new(self, faults: tuple[Fault, ...]) -> Iterator[Fault]:
        for fault in faults:
            if (fault.part, fault.kind) not in self._said:
                self._said.add((fault.part, fault.kind))
                yield fault

    def _end(self, recorder: RolloutRecorder) -> Command | None:
        """Return how the operator ends the episode, None if not yet; a mark goes to the next row.

        What was asked for after that is not about this episode, and stays asked for.
        """
        commands = self._console.commands()
        for index, command in enumerate(commands):
            if command is Command.MARK:
                recorder.mark()
                self._console.terminal.say(f"marked, after {self.rows} rows")
            elif command in ENDS:
                self._console.put_back(commands[index + 1 :])
                return command
        return None

    def _status(self, title: str) -> None:
        if (now_s := time.monotonic()) >= self._next_status_s:
            self._next_status_s = now_s + STATUS_S
            self._console.terminal.status(
                f"{title} · {self.rows / self._robot.spec.control_hz:.1f} s · {self.rows} rows"
            )
