"""One demonstration: an expert acts, something pushes it off its path, and its clean answer is recorded.

Bursts of disturbance with clean labels teach recovery (DART, Laskey et al. 2017; bursts rather than white noise, since
an error that lasts a few periods is what a learned policy makes). A policy that drives until the expert takes over
teaches the way out of wherever that policy ends up (after DAgger, Ross et al. 2011).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from embodied.errors import InvalidActionError
from embodied.loop import MAX_STEPS
from embodied.recording.episode import Episode, EpisodeRecorder
from embodied.safety import bare, truth
from embodied.types import Action, Observation, Policy, PoseAction, Robot, RobotSpec, Vector

SHORTEST_BURST_STEPS = 2
GAP_STEPS = (3, 20)  # before each burst
OFFSET_SCALE = 0.02  # standard deviation as a share of the field's range: 0.08 rad for a joint of the SO-101
DELTA_SCALE = 0.25  # of a field in delta mode, where a burst adds up: 1 to 3 cm for the hand of Meta-World
SLIP_PROBABILITY = 0.2
SLIP = 0.4  # share of the gripper's range
SHORTEST_DRIVE_STEPS = 5  # the expert takes over from a driving policy between this and
TAKEOVER_STEPS = 60  # this, unless told otherwise
TEXT_SPAN_S = 0.5


@runtime_checkable
class Narrator(Protocol):
    """A robot that can say in one of its text actions what a motion was."""

    def describe(self, before: Vector, after: Vector) -> str:
        """Return the text action that best describes the motion from one state to another, half a second later."""


@dataclass(frozen=True)
class Bursts:
    """How much a disturbed episode is disturbed: by one burst to so many, of two steps to so many each."""

    most: int = 3
    steps: int = 6


USUAL = Bursts()


class Disturbance:
    """The offsets that one episode adds to what is executed; drawn once, from the seed."""

    def __init__(self, spec: RobotSpec, rng: np.random.Generator, bursts: Bursts = USUAL) -> None:
        self._low = np.array([f.low for f in spec.action], dtype=np.float32)
        self._high = np.array([f.high for f in spec.action], dtype=np.float32)
        grippers = np.array(["gripper" in f.name for f in spec.action])
        scale = np.array([DELTA_SCALE if f.mode == "delta" else OFFSET_SCALE for f in spec.action])
        self._offsets: dict[int, Vector] = {}
        step = 0
        for _ in range(rng.integers(1, bursts.most, endpoint=True)):
            step += int(rng.integers(GAP_STEPS[0], GAP_STEPS[1], endpoint=True))
            offset = rng.normal(0.0, scale)
            if rng.random() < SLIP_PROBABILITY:
                offset[grippers] = rng.choice([-SLIP, SLIP])
            for _ in range(rng.integers(SHORTEST_BURST_STEPS, bursts.steps, endpoint=True)):
                self._offsets[step] = (offset * (self._high - self._low)).astype(np.float32)
                step += 1

    def apply(self, step: int, action: Vector) -> Vector:
        """Return what to execute at a step, within the fields' ranges; action itself outside the bursts."""
        if step not in self._offsets:
            return action
        executed: Vector = np.clip(action + self._offsets[step], self._low, self._high, dtype=np.float32)
        return executed


class Driver:
    """A policy at the wheel until the expert takes over at a step; what it did once it does again, without looking."""

    def __init__(self, policy: Policy, spec: RobotSpec, takeover: int) -> None:
        self._policy, self._spec, self._takeover = policy, spec, takeover
        self._said: list[Vector] = []  # of every step so far

    def begin(self, instruction: str) -> None:
        """Begin the episode, or play it once more."""
        if not self._said:
            self._policy.reset(instruction, self._spec)

    def looks(self, step: int) -> bool:
        """Say whether the policy has to see the observation of a step."""
        return len(self._said) <= step < self._takeover

    def apply(self, step: int, observation: Observation, action: Vector) -> Vector:
        """Return what to execute at a step: the policy's own answer, and action itself after the takeover."""
        if step >= self._takeover:
            return action
        if self.looks(step):
            self._said += [_pose(answer) for answer in self._policy.act(observation)]
        return self._said[step]


def demonstrate(
    robot: Robot,
    expert: Policy,
    *,
    task: str,
    seed: int,
    perturb: float = 0.0,
    bursts: Bursts = USUAL,
    driver: Policy | None = None,
    within: int = TAKEOVER_STEPS,
    label_sizes: Mapping[str, int] | None = None,
    frames: bool = True,
    rehearse: bool = False,
) -> Episode:
    """Record one episode of the expert to its end; perturb is the probability that bursts disturb it.

    A driver acts in the expert's place until a takeover, within so many steps, drawn from the seed; what it executes is
    a disturbance too. Without frames the episode is the same, but for its pictures. To rehearse is to play it so first,
    drawn only where the driver looks, and with frames only if it succeeds.

    The same arguments give the same episode. Raise InvalidActionError if the expert says anything but poses.
    """
    rng = np.random.default_rng([seed, zlib.crc32(task.encode())])
    disturbance = Disturbance(robot.spec, rng, bursts) if rng.random() < perturb else None
    driving = None
    if driver:
        driving = Driver(driver, robot.spec, int(rng.integers(SHORTEST_DRIVE_STEPS, within, endpoint=True)))

    def play(*, frames: bool) -> Episode:
        observation = robot.reset(seed, task)
        labels = truth(robot)
        expert.reset(observation.instruction, robot.spec)
        if driving:
            driving.begin(observation.instruction)
        recorder = EpisodeRecorder(task, seed, observation.instruction)
        for index in range(MAX_STEPS):
            clean = _pose(expert.act(observation)[0])
            executed = driving.apply(index, observation, clean) if driving else clean
            executed = disturbance.apply(index, executed) if disturbance else executed
            drawn = frames or (driving is not None and driving.looks(index + 1))
            step = robot.step(PoseAction(executed), frames=drawn)
            recorder.add(observation, clean, step, labels=labels, perturbed=not np.array_equal(executed, clean))
            observation, labels = step.observation, step.labels
            if step.done:
                break
        return _narrated(recorder.finish(label_sizes), robot)

    if rehearse and not (episode := play(frames=False)).succeeded:
        return episode
    return play(frames=frames)


def _narrated(episode: Episode, robot: Robot) -> Episode:
    """Give every row the sentence of its next half second, which a disturbance within it makes unsayable."""
    if not isinstance(narrator := bare(robot), Narrator):
        return episode
    span, last = round(TEXT_SPAN_S * robot.spec.control_hz), len(episode) - 1
    return replace(
        episode,
        text=tuple(
            ""
            if episode.perturbed[i : i + span].any()
            else narrator.describe(state, episode.state[min(i + span, last)])
            for i, state in enumerate(episode.state)
        ),
    )


def _pose(action: Action) -> Vector:
    if not isinstance(action, PoseAction):
        raise InvalidActionError(f"a demonstration takes poses; the expert said {action}")
    return action.values.astype(np.float32)
