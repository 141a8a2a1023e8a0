"""The SO-101's tasks as gymnasium environments: `gymnasium.make("embodied/PickPlace-v0")` after `import envs`."""

from __future__ import annotations

import string
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from embodied.safety import SafeRobot
from embodied.types import Frame, Observation, PoseAction, Vector
from envs.so101 import SO101, make

Seen = dict[str, Any]

OVERSHOOT_RAD = 0.1  # a joint pressed against its stop measures a little beyond its range


class TaskEnv(gymnasium.Env[Seen, Vector]):
    """One task: frames, joint positions and an instruction in, joint targets in rad out, reward 1 on success."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - gymnasium declares it so

    def __init__(self, task: str, size: int = 128, render_mode: str | None = None) -> None:
        self.robot: SafeRobot[SO101] = make(size=size)
        self.render_mode = render_mode
        self._task = task
        self._front: Frame | None = None
        spec = self.robot.spec
        low = np.array([f.low for f in spec.action], np.float32)
        high = np.array([f.high for f in spec.action], np.float32)
        self.action_space = spaces.Box(low, high, dtype=np.float32)
        images = {c.name: spaces.Box(0, 255, (c.height, c.width, 3), np.uint8) for c in spec.cameras}
        words = spaces.Text(max_length=200, charset=string.ascii_lowercase + " :,")
        state = spaces.Box(low - OVERSHOOT_RAD, high + OVERSHOOT_RAD, dtype=np.float32)
        self.observation_space = spaces.Dict({**images, "instruction": words, "state": state})

    def reset(self, *, seed: int | None = None, options: Seen | None = None) -> tuple[Seen, Seen]:
        """Begin the episode of seed, or of a number drawn from the environment's own generator."""
        super().reset(seed=seed)
        episode = int(self.np_random.integers(2**31)) if seed is None else seed
        return self._seen(self.robot.reset(episode, self._task)), {"seed": episode, "is_success": False}

    def step(self, action: Vector) -> tuple[Seen, float, bool, bool, Seen]:
        """Carry out one action (6,) rad; raise ProtocolError after the end of an episode."""
        step = self.robot.step(PoseAction(np.asarray(action, np.float32)))
        info = {"is_success": step.success, "interventions": step.interventions}
        return self._seen(step.observation), step.reward, step.terminated, step.truncated, info

    def render(self) -> Frame | None:
        """Return the front frame (size, size, 3) of the last observation where render_mode is rgb_array."""
        return self._front if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Let go of the renderer."""
        self.robot.close()

    def _seen(self, observation: Observation) -> Seen:
        self._front = observation.frames["front"]
        return {**observation.frames, "instruction": observation.instruction, "state": observation.state}
