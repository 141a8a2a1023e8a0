"""A benchmark's tasks as one robot: an episode at a time over a scene, in whichever simulator that is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from embodied.errors import ProtocolError
from embodied.types import Frame, Observation, RobotSpec, Step, Vector

Array = NDArray[np.float64]


class UnstableError(Exception):
    """A simulator that lost its state to forces that grew without end, as under commands that no arm could follow."""


class Scene(Protocol):
    """One task in its simulator. What it knows beyond state() and frames() is for experts, labels and tests."""

    def begin(self, seed: int) -> None:
        """Lay the scene out by seed alone, whatever was done before."""

    def step(self, setpoint: Array) -> tuple[float, bool]:
        """Carry out one setpoint (n,), a control period; return its reward, and whether the task is done.

        Raise UnstableError where the simulator lost its state.
        """

    def state(self) -> Array:
        """Return the state's numbers."""

    def frames(self) -> dict[str, Frame]:
        """Draw what each camera sees."""

    def labels(self) -> dict[str, Vector]:
        """Return the simulator's truth, by name."""

    def close(self) -> None:
        """Let go of the simulator and its renderer."""


S = TypeVar("S", bound=Scene)


@dataclass(frozen=True)
class Suite(Generic[S]):
    """What a suite is, beside its scenes: the robot that it declares, and the rules of its episodes."""

    spec: RobotSpec
    make_scene: Callable[[str], S]  # of a task
    sentence: Callable[[str, int], str]  # which asks for a task, of its name and a seed
    horizon: int  # setpoints of an episode at most
    label_sizes: Mapping[str, int]  # how many numbers each label has, those that only some tasks have included
    most_seed: int | None = None  # that the suite's own generator takes


class SuiteRobot(Generic[S]):
    """A suite's robot and one episode at a time: a body, to be put under its limits.

    scene and labels() are the simulator's truth: for experts, labels and tests, never for a policy.
    """

    def __init__(self, suite: Suite[S], *, render: bool) -> None:
        """With render off no frame is drawn."""
        self._suite, self._render = suite, render
        self._scene: S | None = None
        self.task = self._instruction = ""
        self._steps = 0
        self._success = self._closed = False

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""
        return self._suite.spec

    @property
    def servo_hz(self) -> float:
        """Return the suite's own rate: a setpoint a control period."""
        return self._suite.spec.control_hz

    @property
    def scene(self) -> S:
        """Return the scene of the episode; raise ProtocolError where none has begun."""
        if self._scene is None:
            raise ProtocolError("no episode has begun: call reset first")
        return self._scene

    def reset(self, seed: int, task: str) -> Observation:
        """Begin the episode of seed and task, whatever was done before.

        Raise UnknownNameError for a task that the suite does not have, ProtocolError after close and for a seed that is
        negative or more than the suite takes.
        """
        if self._closed:
            raise ProtocolError("the robot is closed")
        self.spec.require_task(task)
        most = self._suite.most_seed
        if seed < 0 or (most is not None and seed > most):
            raise ProtocolError(f"a seed is 0 {'or more' if most is None else f'to {most}'}, got {seed}")
        if task != self.task or self._scene is None:
            self._leave()
            self._scene, self.task = self._suite.make_scene(task), task
        self._instruction = self._suite.sentence(task, seed)
        self._steps, self._success = 0, False
        self._scene.begin(seed)
        return self._observe(frames=True)[0]

    def follow(self, setpoints: Array, *, frames: bool) -> Step:
        """Carry out setpoints (k, n), a period each, until success, the horizon or a lost simulation ends it."""
        total, lost = 0.0, False
        for setpoint in setpoints:
            self._steps += 1
            try:
                reward, self._success = self.scene.step(setpoint)
            except UnstableError:
                lost = True
                break
            total += reward
            if self._success or self._steps >= self._suite.horizon:
                break
        observation, timing_ns = self._observe(frames=frames)
        ended = self._success or lost
        over = self._steps >= self._suite.horizon and not ended
        return Step(observation, total, self._success, ended, over, timing_ns=timing_ns)

    @property
    def label_sizes(self) -> dict[str, int]:
        """Return how many numbers each label has, those that only some tasks have included."""
        return dict(self._suite.label_sizes)

    def labels(self) -> dict[str, Vector]:
        """Return the truth about the present observation, that after a reset too: the auxiliary targets of training."""
        return self.scene.labels()

    def stop(self) -> None:
        """Do nothing: time stands still between steps, so nothing else moves."""

    def close(self) -> None:
        """Let go of the simulator and its renderer; idempotent."""
        self._closed = True
        self._leave()

    def _leave(self) -> None:
        if self._scene is not None:
            self._scene.close()
            self._scene = None

    def _observe(self, *, frames: bool) -> tuple[Observation, dict[str, int]]:
        """Return what is seen, of which objects are a part in the frame alone, and what drawing took."""
        began_ns = time.monotonic_ns()
        drawn = self.scene.frames() if frames and self._render else {}
        timing_ns = {"render": time.monotonic_ns() - began_ns} if drawn else {}
        state = self.scene.state().astype(np.float32)
        time_ns = round(self._steps / self.spec.control_hz * 1e9)
        return Observation(time_ns, drawn, state, self._instruction), timing_ns
