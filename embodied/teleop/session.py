"""A session at the robot: one episode after another is driven, judged by the operator or the robot, and kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from embodied.errors import EmbodiedError
from embodied.holding import hold_measured, require_holdable
from embodied.recording.operated import OperatedCollection, Slot
from embodied.recording.rollout import RolloutRecorder
from embodied.teleop.console import RECORDING, RECORDING_LEGEND, Console, buttons_legend
from embodied.teleop.driven import ENDS, DrivenEpisode
from embodied.teleop.operator import Command, Teleoperator
from embodied.teleop.room import Room
from embodied.types import Observation, Robot

KEPT = (Command.SUCCESS, Command.FAILURE)
LOOK_S = 0.1  # between looks at the keys, while nothing moves


@dataclass(frozen=True)
class Lengths:
    """How long things take at most, in seconds."""

    episode_s: float = 60.0
    reset_s: float = 5.0  # for the operator to lay out the scene; Enter ends it sooner


class Session:
    """Runs the episodes that a collection still wants."""

    def __init__(
        self,
        robot: Robot,
        teleoperator: Teleoperator,
        console: Console,
        collection: OperatedCollection,
        *,
        lengths: Lengths,
        instruction: str | None = None,
        show: Callable[[Observation], None] = lambda _: None,
    ) -> None:
        """Drive robot, whose time must pass (see paced), by teleoperator; show is given whatever the robot sees."""
        self._robot, self._teleoperator, self._console, self._collection = robot, teleoperator, console, collection
        self._lengths, self._instruction, self._show = lengths, instruction, show
        self._room = Room(robot.spec)
        self._said_how = False

    def run(self, tasks: Sequence[str], episodes: int) -> bool:
        """Record until episodes of each task are kept; return whether they are: the operator may stop before.

        Raise EmbodiedError where the robot or a device fails, or the disk has no room for another episode.
        """
        for task in tasks:
            while (kept := self._collection.kept(task)) < episodes:
                free_bytes = self._collection.free_bytes()
                self._room.require(free_bytes, self._lengths.episode_s)
                slot = self._collection.next(task)
                title = f"{task} {kept + 1}/{episodes}"
                hours = free_bytes / self._room.bytes_a_second / 3600
                self._say(f"{title}, seed {slot.seed}; {free_bytes / 1e9:.1f} GB free, for about {hours:.3g} h")
                if self._record(slot, title) is Command.STOP:
                    return False
        return True

    def _set_up(self) -> Command | None:
        """Give the operator the time to lay out the scene; return STOP where they stop instead."""
        until_s = time.monotonic() + self._lengths.reset_s
        while (left_s := until_s - time.monotonic()) > 0:
            self._console.terminal.status(f"lay out the scene: {left_s:.0f} s, or Enter")
            commands = self._console.commands(min(LOOK_S, left_s))
            if Command.STOP in commands:
                return Command.STOP
            if Command.SUCCESS in commands:
                return None
        return None

    def _record(self, slot: Slot, title: str) -> Command:
        """Record one episode, and do with it as the operator says."""
        if (observation := self._begin(slot)) is None:
            return Command.STOP
        episode = DrivenEpisode(self._robot, self._teleoperator, self._console, show=self._show)
        spec = self._robot.spec
        most_rows = max(1, round(self._lengths.episode_s * spec.control_hz))
        with (
            self._stopping(),
            RolloutRecorder(slot.path, spec, task=slot.task, seed=slot.seed, instruction=self._instruction) as recorder,
        ):
            end = episode.run(observation, recorder, most_rows=most_rows, title=title)
            if end in KEPT and not episode.rows:
                end = Command.RERECORD
            try:
                self._robot.stop()
            finally:  # what was judged is on the disk, whatever becomes of the robot
                _judge(recorder, end)
            if end is None:
                _judge(recorder, end := self._ask_how_it_went(episode.rows, most_rows))
        self._console.terminal.status("")
        self._put_away(slot, end, episode.rows)
        return end

    def _begin(self, slot: Slot) -> Observation | None:
        """Begin an episode, its scene laid out, and return what is seen; None where the operator stops meanwhile.

        Where time is real the robot begins first, and the scene is laid out once it stands: on its way it would go
        through the scene, and through the hands in it. A simulator lays out its own, in no time.
        """
        spec = self._robot.spec
        if self._stopped() or (not spec.realtime and self._set_up() is Command.STOP):
            return None
        self._console.terminal.status("the robot begins" + ("; keep clear" if spec.realtime else ""))
        observation = self._robot.reset(slot.seed, slot.task)
        spec.check_observation(observation)
        self._show(observation)
        if spec.realtime:
            if self._stopped() or self._set_up() is Command.STOP:
                return None
            observation = self._look_again(observation)
        if self._stopped():
            return None
        if self._instruction is not None:
            observation = replace(observation, instruction=self._instruction)
        self._teleoperator.reset(observation.instruction, spec)
        self._say_how()
        self._say(f"go: {observation.instruction}")
        return observation

    def _stopped(self) -> bool:
        """Say whether the operator has asked to stop; the rest of what was typed is not about what comes now."""
        return Command.STOP in self._console.forget()

    def _look_again(self, observation: Observation) -> Observation:
        """Return what is seen now, the robot holding: the scene was laid out since."""
        spec = self._robot.spec
        require_holdable(spec, "teleoperation")
        step = self._robot.step(hold_measured(spec, observation))
        if step.done:
            raise EmbodiedError(
                f"{spec.name} ended the episode while its scene was laid out; let its episodes be longer (as by the "
                "option episode_s of the arms here) and go on with --resume"
            )
        spec.check_observation(step.observation)
        self._show(step.observation)
        return replace(step.observation, instruction=observation.instruction)

    def _say_how(self) -> None:
        if not self._said_how:
            buttons = buttons_legend(self._teleoperator.buttons, RECORDING)
            for line in (*self._teleoperator.legend, *buttons, *RECORDING_LEGEND):
                self._say(f"  {line}")
        self._said_how = True

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """Stop the robot, whatever goes wrong."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(EmbodiedError):  # it may be the robot that is gone
                self._robot.stop()
            raise

    def _put_away(self, slot: Slot, end: Command, rows: int) -> None:
        """Keep or forget what was recorded, and say so."""
        if end in KEPT:
            self._room.measured(slot.path.stat().st_size, rows)
            self._say(f"kept as a {end.value}: {rows} rows")
            return
        if end is Command.DISCARD:
            self._collection.discard(slot)
        else:
            self._collection.again(slot)
        self._say(f"{rows} rows not kept: {end.value}")

    def _ask_how_it_went(self, rows: int, most_rows: int) -> Command:
        if rows < most_rows:
            hz = self._robot.spec.control_hz
            self._say(f"the robot ended the episode after {rows / hz:.1f} s, before the {most_rows / hz:g} s asked for")
        self._say("over, and no success seen. Was it one? right/Enter: yes, f: no, left: again, d: discard")
        while True:
            commands = self._console.commands(LOOK_S)
            for index, command in enumerate(commands):
                if command in ENDS:
                    self._console.put_back(commands[index + 1 :])
                    return command

    def _say(self, line: str) -> None:
        self._console.terminal.say(line)


def _judge(recorder: RolloutRecorder, end: Command | None) -> None:
    """Mark an episode that is kept as whole, and how it went."""
    if end in KEPT:
        recorder.ended(end is Command.SUCCESS)
