"""Plays the actions of a recorded episode on a robot, and keeps what was measured, on the robot's own clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embodied.approach import approach, is_near
from embodied.errors import EmbodiedError, SpecMismatchError
from embodied.holding import hold_measured, require_holdable
from embodied.loop import Observer
from embodied.types import Observation, PoseAction, Robot, RobotSpec, Step

Array = NDArray[np.float64]

SETTLE_S = 1.0  # at the first pose of an episode that had to be approached, and where time is real at the last


@dataclass(frozen=True, eq=False)
class Script:
    """What is played: one action a control period, and what was measured when it was recorded."""

    task: str
    seed: int
    action: NDArray[np.float32]  # (n, action fields)
    state: NDArray[np.float32]  # (n, state fields) at the observation that each action answered
    success: bool
    instruction: str


@dataclass(frozen=True, eq=False)
class Replay:
    """What came of it."""

    time_s: Array  # (m,) of each observation, from when the first action began; where time is real a servo tick later
    state: NDArray[np.float32]  # (m, state fields)
    played: int  # actions that were carried out
    success: bool
    approach_s: float  # what the way to the first pose took; 0 where the robot began there
    interventions: Mapping[str, int]  # of the safety layer, by kind


def require_fit(recorded: RobotSpec, robot: RobotSpec, dataset: str) -> None:
    """Raise SpecMismatchError, listing every difference that matters to actions: cameras and watchdog do not."""
    plain = replace(recorded, cameras=(), watchdog_s=robot.watchdog_s)
    if found := plain.differences(replace(robot, cameras=())):
        raise SpecMismatchError(dataset, f"robot {robot.name!r}", found)


def play(robot: Robot, script: Script, observers: Sequence[Observer] = ()) -> Replay:
    """Reset the robot with the episode's task and seed, and play it.

    A robot that stands elsewhere than the episode began comes there first, slowly; observers see nothing of that. Raise
    EmbodiedError where the robot ends its episode on that way.
    Whatever goes wrong, the robot is stopped.
    """
    robot.spec.require_task(script.task)
    try:
        return _play(robot, script, observers)
    except BaseException:
        robot.stop()
        raise


def _play(robot: Robot, script: Script, observers: Sequence[Observer]) -> Replay:
    spec = robot.spec
    observation = robot.reset(script.seed, script.task)
    spec.check_observation(observation)
    observation, approach_s = _approach(robot, observation, script.state[0])
    for observer in observers:
        observer.began(observation)
    seen, kinds, played = [observation], Counter[str](), 0
    step = Step(observation)
    for values in script.action:
        action = PoseAction(values)
        step = robot.step(action, frames=bool(observers))
        for observer in observers:
            observer.stepped(action, step)
        seen.append(step.observation)
        kinds.update(intervention.kind for intervention in step.interventions)
        played += step.executed
        if step.done:
            break
    for _ in range(round(SETTLE_S * spec.control_hz) if spec.realtime else 0):
        if step.done:
            break
        step = robot.step(action, frames=False)  # the last action has only begun: see what comes of it
        seen.append(step.observation)
    for observer in observers:
        observer.ended(step.success)
    robot.stop()
    # Where time is real a step tells of the moment at which its action began, otherwise of its end.
    began_ns = seen[1 if spec.realtime else 0].time_ns
    time_s = np.array([(o.time_ns - began_ns) / 1e9 for o in seen])
    return Replay(time_s, np.stack([o.state for o in seen]), played, step.success, approach_s, dict(kinds))


def _approach(robot: Robot, observation: Observation, state: NDArray[np.float32]) -> tuple[Observation, float]:
    """Bring the robot to where the episode began; return what is seen there, and the seconds it took."""
    spec = robot.spec
    require_holdable(spec, "a replay")
    goal = hold_measured(spec, replace(observation, state=state)).values.astype(np.float64)
    at = hold_measured(spec, observation).values.astype(np.float64)
    if is_near(spec, at, goal):
        return observation, 0.0
    began_ns = observation.time_ns
    way = [*approach(spec, at, goal), *[PoseAction(goal.astype(np.float32))] * round(SETTLE_S * spec.control_hz)]
    for action in way:
        step = robot.step(action, frames=action is way[-1])
        if step.done:
            raise EmbodiedError(
                f"{spec.name} ended the episode on the slow way to where the recorded one began; let its episodes be "
                "longer (as by the option episode_s of the arms here)"
            )
        observation = step.observation
    return observation, (observation.time_ns - began_ns) / 1e9
