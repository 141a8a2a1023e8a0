"""PushT's board in its simulator: begun from its seed alone, drawn only when asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.types import Frame, Vector
from envs.pusht_tee import BOARD, CORNERS, place

Array = NDArray[np.float64]

CAMERA = "top"


class PushTScene:
    """gym-pusht's environment; where its T lies no policy may see."""

    def __init__(self, task: str, *, size: int) -> None:
        from gym_pusht.envs.pusht import PushTEnv

        # Its observations hold the block's pose, and none of them goes any further than this.
        self.env: Any = PushTEnv(obs_type="state", observation_width=size, observation_height=size)

    @property
    def pusher(self) -> Array:
        """Return where the pusher is, (2,) px."""
        return np.array(self.env.agent.position)

    @property
    def pusher_velocity(self) -> Array:
        """Return how the pusher moves, (2,) px/s."""
        return np.array(self.env.agent.velocity)

    @property
    def block_pose(self) -> Array:
        """Return where the T's origin, the middle of its bar's far edge, is and how it is turned, (3,) px, px, rad."""
        return np.array([*self.env.block.position, self.env.block.angle])

    def begin(self, seed: int) -> None:
        """Lay the board out by seed alone."""
        self.env.reset(seed=seed)

    def step(self, setpoint: Array) -> tuple[float, bool]:
        """Send the pusher towards setpoint (2,) px for ten of gym-pusht's ticks; return its reward, and its success."""
        _, reward, success, _, _ = self.env.step(setpoint)
        return float(reward), bool(success)

    def state(self) -> Array:
        """Return where the pusher is, (2,) px."""
        return self.pusher

    def frames(self) -> dict[str, Frame]:
        """Return gym-pusht's own frame (size, size, 3) of its observations, without the mark that shows the action."""
        return {CAMERA: np.ascontiguousarray(self.env._render(), dtype=np.uint8)}

    def labels(self) -> dict[str, Vector]:
        """Return block_position (2,) px, the T's origin, block_direction (2,), the cosine and sine of its angle, and
        block_box (y1, x1, y2, x2), its box in the frame, fractions 0..1.
        """
        pose = self.block_pose
        corners = place(CORNERS, pose)[:, ::-1] / BOARD
        box = np.clip(np.concatenate([corners.min(0), corners.max(0)]), 0.0, 1.0)
        direction = np.array([np.cos(pose[2]), np.sin(pose[2])])
        values = {"block_position": pose[:2], "block_direction": direction, "block_box": box}
        return {name: np.asarray(value, np.float32) for name, value in values.items()}

    def close(self) -> None:
        """Close the environment."""
        self.env.close()
