"""What every wire carries in the benchmark: an observation of two cameras and a state up, a chunk of actions down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STATE, CHUNK, ACTION = 14, 16, 7
MAX_MESSAGE = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))


@dataclass(frozen=True)
class Load:
    """Frames of one size from two cameras; the rest is the same for every load."""

    height: int
    width: int

    @property
    def frames(self) -> dict[str, NDArray[np.uint8]]:
        """Return the frames, uint8 (H, W, 3): gradients with a camera's grain, since JPEG's cost depends on it."""
        y, x = np.mgrid[: self.height, : self.width]
        scene = np.stack([y * 255 // self.height, x * 255 // self.width, (x + y) // 4 % 256], axis=-1)
        grain = np.random.default_rng(0).normal(0, 3, (2, *scene.shape))
        return {f"cam{i}": np.clip(scene + grain[i], 0, 255).astype(np.uint8) for i in range(2)}

    @property
    def state(self) -> NDArray[np.float32]:
        """Return the state, float32 (14,)."""
        return np.linspace(-1, 1, STATE).astype(np.float32)

    @property
    def actions(self) -> NDArray[np.float32]:
        """Return the chunk, float32 (16, 7)."""
        return np.zeros((CHUNK, ACTION), np.float32)

    @property
    def kilobytes(self) -> float:
        """Return how much goes up."""
        return (sum(frame.nbytes for frame in self.frames.values()) + self.state.nbytes) / 1e3
