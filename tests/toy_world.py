"""A robot of two joints that must come to a target, with an expert: small enough to collect from in a test."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from embodied.safety import SafeRobot
from embodied.types import Action, Camera, Field, Observation, PoseAction, RobotSpec, Step, Vector

HORIZON = 30


class ToyRobot:
    def __init__(self, size: int, bad_seed: int) -> None:
        fields = (Field("pan", "rad", -2.0, 2.0), Field("gripper", "rad", 0.0, 1.5))
        self.spec = RobotSpec(
            "toy", 10.0, (Camera("front", size, size, 45.0),), fields, fields, tasks=("reach", "push")
        )
        self.bad_seed = bad_seed
        self.target = np.zeros(2, np.float32)

    def reset(self, seed: int, task: str) -> Observation:
        self.spec.require_task(task)
        if seed == self.bad_seed and task == "push":
            raise RuntimeError("the scene exploded")
        rng = np.random.default_rng([seed, len(task)])
        self.task, self.seed, self.steps = task, seed, 0
        self.target = rng.uniform(0.5, 1.0, 2).astype(np.float32)
        self.state = np.zeros(2, np.float32)
        return self._observe()

    def labels(self) -> Mapping[str, Vector]:
        return {"target_position": np.append(self.target, self.steps).astype(np.float32)}

    def describe(self, before: Vector, after: Vector) -> str:
        return "up" if (after - before).max() > 0.05 else "wait"

    def step(self, *actions: Action, frames: bool = True) -> Step:
        (action,) = actions
        assert isinstance(action, PoseAction)
        self.state = self.state + np.clip(action.values - self.state, -0.1, 0.1)
        self.steps += 1
        success = bool(np.abs(self.state - self.target).max() < 0.01) and self.seed % 10 != 7
        observation = self._observe()
        return Step(
            observation if frames else replace(observation, frames={}),
            success=success,
            terminated=success,
            truncated=self.steps >= HORIZON,
            labels=self.labels(),
        )

    def _observe(self) -> Observation:
        size = self.spec.cameras[0].height
        frame = np.full((size, size, 3), (self.seed % 200, self.steps, 90), np.uint8)
        return Observation(self.steps, {"front": frame}, self.state.copy(), f"{self.task} the target")

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


class ToyExpert:
    def __init__(self, robot: ToyRobot) -> None:
        self.robot = robot

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        pass

    def act(self, observation: Observation) -> Sequence[Action]:
        return [PoseAction(self.robot.target.copy())]


def make(size: int = 16, bad_seed: int = -1) -> SafeRobot[ToyRobot]:
    return SafeRobot(ToyRobot(size, bad_seed))


def expert(robot: SafeRobot[ToyRobot] | ToyRobot) -> ToyExpert:
    return ToyExpert(robot.body if isinstance(robot, SafeRobot) else robot)
