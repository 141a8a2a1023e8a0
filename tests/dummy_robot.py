"""A robot of plain arithmetic that tests use as a real one: deterministic, quick, and it counts what is asked of it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.errors import ProtocolError
from embodied.safety import SafeRobot
from embodied.types import (
    Action,
    Camera,
    Field,
    Frame,
    Intervention,
    Observation,
    PoseAction,
    RobotSpec,
    SkillCall,
    Step,
    TextAction,
)

Lowered = tuple[NDArray[np.float64], tuple[Intervention, ...]]

HORIZON = 20  # actions in an episode
JOINTS = (
    Field("pan", "rad", -1.5, 1.5),
    Field("lift", "rad", -0.3, 1.2),
    Field("grip", "m", 0.0, 0.08),
)
VERBS = {"move left": (0.1, 0.0, 0.0), "move right": (-0.1, 0.0, 0.0), "move up": (0.0, 0.1, 0.0)}


class DummyRobot(SafeRobot["DummyBody"]):
    """The body under its limits; what tests ask of it beside a Robot is the body's."""

    def __init__(self, front: tuple[int, int] = (224, 224), wrist: tuple[int, int] = (24, 32)) -> None:
        super().__init__(DummyBody(front, wrist))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.body, name)


class DummyBody:
    """Three joints that go where they are told, two cameras that see where they are."""

    def __init__(self, front: tuple[int, int], wrist: tuple[int, int]) -> None:
        self._spec = RobotSpec(
            name="dummy",
            control_hz=10.0,
            cameras=(Camera("front", *front, fovy_deg=45.0), Camera("wrist", *wrist, fovy_deg=70.0)),
            state=(*JOINTS, Field("elapsed", "s", 0.0, HORIZON / 10.0)),
            action=JOINTS,
            skills=("home",),
            tasks=("reach", "wait"),
        )
        self.made_on = threading.get_ident()
        self.used_on: set[int] = set()
        self.resets = self.steps = self.frames_rendered = self.stops = self.closes = 0
        self._canvas = np.random.default_rng(0).integers(0, 200, (2, *np.maximum(front, wrist), 3), np.uint8)
        self._closed = False

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""
        return self._spec

    def reset(self, seed: int, task: str) -> Observation:
        """Begin an episode: the seed places the joints and, for the task reach, the target."""
        self._use()
        self._spec.require_task(task)
        self.resets += 1
        random = np.random.default_rng(seed)
        low, high = (np.array([getattr(f, end) for f in JOINTS], np.float32) for end in ("low", "high"))
        self._position, self._target = (random.uniform(low, high).astype(np.float32) for _ in range(2))
        self._task, self._elapsed = task, 0
        self._instruction = f"{task} for the {random.choice(['red', 'blue'])} cube"
        return self._observe(frames=True)

    def step(self, *actions: Action, frames: bool = True) -> Step:
        """Move at once to the action's position."""
        self._use()
        (action,) = actions
        assert isinstance(action, PoseAction)
        self._position = action.values
        self.steps += 1
        self._elapsed += 1
        reached = self._task == "reach" and self._distance < 0.05
        return Step(
            observation=self._observe(frames),
            reward=-self._distance,
            success=reached,
            terminated=reached,
            truncated=self._elapsed >= HORIZON and not reached,
            labels={"target": self._target.copy(), "box": np.array([0.1, 0.2, 0.3, 0.4], np.float32)},
        )

    def lower(self, action: TextAction | SkillCall, at: NDArray[np.float64]) -> Lowered:
        """Obey the verbs, and one skill."""
        match action:
            case TextAction(text) if text in VERBS:
                return at + VERBS[text], ()
            case SkillCall("home", arguments):
                return np.array([0.0, float(arguments.get("lift", 0.0)), 0.0]), ()
            case TextAction(words) | SkillCall(words):
                return at, (Intervention("unknown_verb", words, 0.0, 0.0),)

    def stop(self) -> None:
        """Hold; the joints move only inside step, so there is nothing to slow down."""
        self.stops += 1

    def close(self) -> None:
        """Count the first close."""
        if not self._closed:
            self._closed = True
            self.closes += 1

    @property
    def _distance(self) -> float:
        return float(np.abs(self._position - self._target).max())

    def _use(self) -> None:
        self.used_on.add(threading.get_ident())
        if self._closed:
            raise ProtocolError("the robot is closed")

    def _observe(self, frames: bool) -> Observation:
        return Observation(
            time_ns=self._elapsed * 100_000_000,
            frames={c.name: self._render(i, c) for i, c in enumerate(self._spec.cameras)} if frames else {},
            state=np.array([*self._position, self._elapsed / 10.0], np.float32),
            instruction=self._instruction,
        )

    def _render(self, index: int, camera: Camera) -> Frame:
        self.frames_rendered += 1
        frame: Frame = self._canvas[index, : camera.height, : camera.width] + np.uint8(self._elapsed)
        return frame


def make() -> DummyRobot:
    """Make the robot, so that this file is a robot module."""
    return DummyRobot()
