"""The safety layer beside a robot, on by default for every robot: what may move, where to, and how fast."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from embodied.errors import InvalidActionError, ProtocolError
from embodied.motion import Motion, UnfitLimitsError
from embodied.stages import MOTION, RENDER
from embodied.types import (
    Action,
    Intervention,
    Limits,
    Observation,
    PoseAction,
    Robot,
    RobotSpec,
    SkillCall,
    Step,
    TextAction,
    Vector,
)

Array = NDArray[np.float64]
MAX_WORD = 80  # characters of an unknown verb that are repeated to whoever said it


@runtime_checkable
class Body(Protocol):
    """What every robot has before it is made safe; it has a step too, as Robot, or is a Servo."""

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""

    def reset(self, seed: int, task: str) -> Observation:
        """Begin an episode, as Robot.reset."""

    def stop(self) -> None:
        """Interrupt what would outlast a control period; idempotent, safe from any thread."""

    def close(self) -> None:
        """Let go of every resource; idempotent."""


@runtime_checkable
class Servo(Body, Protocol):
    """A body that takes setpoints faster than commands."""

    @property
    def servo_hz(self) -> float:
        """Return how many setpoints it takes in a second: a whole multiple of spec.control_hz."""

    def follow(self, setpoints: Array, *, frames: bool) -> Step:
        """Carry out setpoints (k, n), a tick each, until the episode ends; of none, only look.

        The step's reward is that of these ticks; its timing_ns may say what "render" took of the time. Its labels may
        be left to Labelled, which is asked once for all.
        """


@runtime_checkable
class Lowering(Protocol):
    """A body that obeys words: it alone knows what they mean, by a closed table."""

    def lower(self, action: TextAction | SkillCall, at: Array) -> tuple[Array, tuple[Intervention, ...]]:
        """Return the command (n,) that carries out action from setpoint at (n,); at itself, and why, if it cannot."""


@runtime_checkable
class Kinematic(Protocol):
    """A body that knows where its tool is."""

    def tool_position(self, values: Array) -> Array:
        """Return the tool's place (3,), m in the base frame, for values (n,) of the action fields."""


@runtime_checkable
class Labelled(Protocol):
    """A simulator that tells the truth behind the present observation."""

    def labels(self) -> Mapping[str, Vector]:
        """Return the labels that a Step would carry now."""


@runtime_checkable
class LabelSizes(Protocol):
    """A simulator that knows its labels beforehand, so that nobody need begin every task to find out."""

    @property
    def label_sizes(self) -> Mapping[str, int]:
        """Return how many numbers each label has, those that only some tasks have included."""


B = TypeVar("B", bound=Body)


class Limited:
    """The mark of a robot that limits whatever it is told, so that it is not limited twice: inherit it to say so."""


class SafeRobot(Limited, Generic[B]):
    """A robot in lock step: carries out actions one by one through Motion, and adds up what came of them.

    body is the robot inside, for what a Robot does not offer: an expert's view, the simulator's truth.
    """

    def __init__(self, body: B) -> None:
        """Put body under the limits of its spec; raise UnfitLimitsError where they cannot be kept."""
        self.body = body
        self._servo: Servo | None = body if isinstance(body, Servo) else None  # to ask costs as much as to move
        self._labelled: Labelled | None = body if isinstance(body, Labelled) else None
        self._motion = make_motion(body)
        self._running = False
        self._stopped = threading.Event()

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""
        return self.body.spec

    def reset(self, seed: int, task: str) -> Observation:
        """Begin an episode; raise UnknownNameError for a task the robot does not have."""
        self.spec.require_task(task)
        self._running = False
        observation = self.body.reset(seed, task)
        self._motion.begin(measured_position(self.spec, observation))
        self._stopped.clear()
        self._running = True
        return observation

    def step(self, *actions: Action, frames: bool = True) -> Step:
        """Carry out the actions in order until they end, the episode ends, or stop() is called, as Robot.step.

        A stop drops the rest of the chunk and lets simulated time go on until the motion has braked to rest. Between
        steps time stands still and there is nothing to stop, so that how long an operator thinks changes nothing.
        """
        self._require(actions)
        self._stopped.clear()
        tally = _Tally()
        for action in actions:
            tally.executed += 1
            last = tally.executed == len(actions)
            interventions = command(self._motion, self.body, action)
            done = self._carry_out(tally, frames=frames and last)
            tally.interventions += (*interventions, *self._motion.take_interventions())
            if done or self._stopped.is_set():
                break
        if not done and self._stopped.is_set():
            tally.dropped = len(actions) - tally.executed
            self._motion.hold()
            while self._motion.moving and not done:
                done = self._carry_out(tally, frames=False)
        if frames and not tally.shown and self._servo:  # it ended before its last action
            tally.look(self._servo.follow(np.empty((0, len(self.spec.action))), frames=True))
        self._running = not done
        step = tally.step()
        return replace(step, labels=self._labelled.labels()) if self._labelled else step

    def stop(self) -> None:
        """Drop what is left of a chunk under way and brake; idempotent, safe from any thread."""
        self._stopped.set()
        self.body.stop()

    def close(self) -> None:
        """Stop and close the body; idempotent."""
        self.stop()
        self._running = False
        self.body.close()

    def _require(self, actions: tuple[Action, ...]) -> None:
        """Raise before anything moves."""
        if not self._running:
            raise ProtocolError("no episode is running: call reset first")
        if not actions:
            raise InvalidActionError("a step takes at least one action")
        for action in actions:
            if isinstance(action, PoseAction):
                self.spec.check_action(action)

    def _carry_out(self, tally: _Tally, *, frames: bool) -> bool:
        """Run one control period; return whether the episode is over."""
        began_ns = time.monotonic_ns()
        setpoints = np.array([self._motion.tick() for _ in range(self._motion.ticks)])
        self._running = False  # if the body fails it is not where the motion is, and only a reset brings them together
        if self._servo:
            step = self._servo.follow(setpoints, frames=frames)
        else:
            step = self._plain.step(PoseAction(setpoints[-1].astype(np.float32)), frames=frames)
        self._running = True
        tally.add(step, time.monotonic_ns() - began_ns)
        tally.shown = frames
        return step.done

    @property
    def _plain(self) -> Robot:
        assert isinstance(self.body, Robot), f"{self.spec.name} has neither step, as a Robot, nor follow, as a Servo"
        return self.body


def safe(robot: Body | Limited) -> Robot:
    """Return the robot under its limits: as it is if it keeps them itself, else as a SafeRobot."""
    if isinstance(robot, Limited):
        assert isinstance(robot, Robot)
        return robot
    return SafeRobot(robot)


def bare(robot: object) -> object:
    """Return what is inside a safe robot, or the robot itself."""
    return getattr(robot, "body", robot) if isinstance(robot, Limited) else robot


def truth(robot: object) -> Mapping[str, Vector]:
    """Return the labels of what is now, as after a reset, which no Step tells of; none of a robot that has no truth."""
    return body.labels() if isinstance(body := bare(robot), Labelled) else {}


def make_motion(body: Body) -> Motion:
    """Make the motion of a body: at its servo's rate if it has one, else a setpoint a control period.

    Raise UnfitLimitsError where it declares limits that cannot be kept.
    """
    spec = body.spec
    if spec.limits != Limits() and (unknown := _unmeasured(spec)):
        raise UnfitLimitsError(f"{spec.name} has limits, and no state fields of the names {unknown} to begin from")
    tick_s = 1 / (body.servo_hz if isinstance(body, Servo) else spec.control_hz)
    return Motion(spec, tick_s, body.tool_position if isinstance(body, Kinematic) else None)


def measured_position(spec: RobotSpec, observation: Observation) -> Array | None:
    """Return where an observation says the action fields are (n,), zero for deltas; None where the state lacks one."""
    if _unmeasured(spec):
        return None
    state = dict(zip((f.name for f in spec.state), observation.state.tolist(), strict=True))
    return np.array([0.0 if f.mode == "delta" else state[f.name] for f in spec.action])


def command(motion: Motion, body: Body, action: Action) -> tuple[Intervention, ...]:
    """Give motion the command that an action means to body; return what was changed of it at once."""
    if isinstance(action, PoseAction):
        return motion.command(action.values)
    if isinstance(body, Lowering):
        values, interventions = body.lower(action, motion.setpoint)
        return (*interventions, *motion.command(values))
    motion.hold()
    words = action.text if isinstance(action, TextAction) else action.name
    return (Intervention("unknown_verb", words[:MAX_WORD], 0.0, 0.0),)


def _unmeasured(spec: RobotSpec) -> list[str]:
    state = {f.name for f in spec.state}
    return [f.name for f in spec.action if f.mode == "absolute" and f.name not in state]


class _Tally:
    """Adds up the steps that a chunk takes."""

    def __init__(self) -> None:
        self.executed = self.dropped = 0
        self.shown = False  # whether the last step was asked for frames
        self.interventions: tuple[Intervention, ...] = ()
        self.last: Step
        self._reward = 0.0
        self._timing_ns = {MOTION: 0, RENDER: 0}

    def add(self, step: Step, took_ns: int) -> None:
        """Add what came of some setpoints, which took took_ns, rendering included where any was done."""
        rendered_ns = step.timing_ns.get(RENDER, 0)
        self._timing_ns[MOTION] += max(0, took_ns - rendered_ns)
        self._timing_ns[RENDER] += rendered_ns
        self._reward += step.reward
        self.last = step

    def look(self, step: Step) -> None:
        """Take the observation of step, which carried out nothing."""
        self._timing_ns[RENDER] += step.timing_ns.get(RENDER, 0)
        self.last = replace(self.last, observation=step.observation)

    def step(self) -> Step:
        """Return the step of them all: the last, with the sums."""
        return replace(
            self.last,
            reward=self._reward,
            executed=self.executed,
            dropped=self.dropped,
            interventions=self.interventions,
            timing_ns=self._timing_ns,
        )
