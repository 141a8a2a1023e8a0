"""A robot of plain arithmetic that tests use as a real one: deterministic, quick, and it counts what is asked of it."""

from __future__ import annotations

import threading

import numpy as np

from embodied.errors import InvalidActionError, ProtocolError
from embodied.safety import limit_action
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
    Vector,
)

HORIZON = 20  # actions in an episode
JOINTS = (
    Field("pan", "rad", -1.5, 1.5),
    Field("lift", "rad", -0.3, 1.2),
    Field("grip", "m", 0.0, 0.08),
)
VERBS = {"move left": (0.1, 0.0, 0.0), "move right": (-0.1, 0.0, 0.0), "move up": (0.0, 0.1, 0.0)}


class DummyRobot:
    """Three joints that go where they are told, two cameras that see where they are."""

    def __init__(self, front: tuple[int, int] = (224, 224), wrist: tuple[int, int] = (24, 32)) -> None:
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
        self._running = False
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
        self._task, self._elapsed, self._running = task, 0, True
        self._instruction = f"{task} for the {random.choice(['red', 'blue'])} cube"
        return self._observe(frames=True)

    def step(self, *actions: Action, frames: bool = True) -> Step:
        """Move at once to each action's position."""
        self._use()
        if not self._running:
            raise ProtocolError("step outside an episode: reset first")
        if not actions:
            raise InvalidActionError("step needs at least one action")
        targets = [self._lower(action) for action in actions]
        reward, interventions, executed = 0.0, list[Intervention](), 0
        for target in targets:
            self._position, changed = limit_action(self._spec, target, self._position)
            interventions += changed
            reward -= self._distance
            executed += 1
            self.steps += 1
            self._elapsed += 1
            reached = self._task == "reach" and self._distance < 0.05
            self._running = not reached and self._elapsed < HORIZON
            if not self._running:
                break
        return Step(
            observation=self._observe(frames),
            reward=reward,
            success=reached,
            terminated=reached,
            truncated=not self._running and not reached,
            executed=executed,
            interventions=tuple(interventions),
            labels={"target": self._target.copy(), "box": np.array([0.1, 0.2, 0.3, 0.4], np.float32)},
        )

    def stop(self) -> None:
        """Hold; the joints move only inside step, so there is nothing to slow down."""
        self.stops += 1

    def close(self) -> None:
        """Count the first close."""
        if not self._closed:
            self._closed = True
            self._running = False
            self.closes += 1

    @property
    def _distance(self) -> float:
        return float(np.abs(self._position - self._target).max())

    def _use(self) -> None:
        self.used_on.add(threading.get_ident())
        if self._closed:
            raise ProtocolError("the robot is closed")

    def _lower(self, action: Action) -> Vector:
        match action:
            case PoseAction(values):
                self._spec.check_action(action)
                return values
            case TextAction(text):
                if text not in VERBS:
                    raise InvalidActionError(f"no verb {text!r}; dummy has {sorted(VERBS)}")
                return self._position + np.array(VERBS[text], np.float32)
            case SkillCall("home", arguments):
                return np.array([0.0, float(arguments.get("lift", 0.0)), 0.0], np.float32)
            case SkillCall(name):
                raise InvalidActionError(f"no skill {name!r}; dummy has {list(self._spec.skills)}")

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
