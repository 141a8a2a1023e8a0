"""Pictures of one scene with the simulator's truth about it: they teach where things are, and no action."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from embodied.recording.episode import Episode, EpisodeRecorder
from embodied.safety import truth
from embodied.types import PoseAction, Robot, RobotSpec, Step, Vector

MOST_STEPS = 25  # that one random action is held for before a picture; at least one
STILL_PROBABILITY = 0.2  # of a first picture before anything has moved, as an episode begins


def survey(
    robot: Robot, *, task: str, seed: int, pictures: int, label_sizes: Mapping[str, int] | None = None
) -> Episode:
    """Record so many pictures of the scene of task and seed, before each of which the robot moves at random.

    Fewer where chance ends the episode. No expert is asked and no row's action answers it: `scene` is true in all of
    them. The same arguments give the same rows.
    """
    observation = robot.reset(seed, task)
    labels = truth(robot)
    rng = np.random.default_rng([seed, zlib.crc32(task.encode()), pictures])
    recorder = EpisodeRecorder(task, seed, observation.instruction, scene=True)
    still = rng.random() < STILL_PROBABILITY
    for index in range(pictures):
        action = PoseAction(_anywhere(robot.spec, rng))
        if index or not still:
            moved = _move(robot, action, int(rng.integers(1, MOST_STEPS, endpoint=True)))
            observation, labels = moved.observation, moved.labels
            if moved.done:
                break
        after = robot.step(action, frames=False)
        recorder.add(observation, action.values, after, labels=labels, perturbed=True)
        if after.done:
            break
    return recorder.finish(label_sizes)


def _move(robot: Robot, action: PoseAction, steps: int) -> Step:
    """Hold an action for so many steps; return the last one, drawn."""
    for left in range(steps, 0, -1):
        step = robot.step(action, frames=left == 1)
        if step.done:
            break
    return step


def _anywhere(spec: RobotSpec, rng: np.random.Generator) -> Vector:
    low = np.array([field.low for field in spec.action], np.float32)
    high = np.array([field.high for field in spec.action], np.float32)
    return rng.uniform(low, high).astype(np.float32)
