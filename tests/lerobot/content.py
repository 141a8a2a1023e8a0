"""What is in the dataset that lerobot writes for the tests, for the peer that writes it and the test that reads it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def picture(row: int, episode: int, size: int) -> np.ndarray:
    """Return a smooth picture that tells its row and episode, uint8 (size, size, 3)."""
    y, x = np.mgrid[0:size, 0:size] / size
    drawn = np.stack([x, y, np.full_like(x, (row % 32) / 32)], axis=-1) * 200
    drawn[: size // 4, : size // 4] = (40 * (episode % 6), 250 - (row % 50) * 5, 120)
    return drawn.astype(np.uint8)


def states(episodes: int, rows: int) -> Iterator[np.ndarray]:
    """Yield each episode's states, float32 (rows, 3) or one or two rows more; an action is half of its state."""
    rng = np.random.default_rng(0)
    for episode in range(episodes):
        yield np.cumsum(rng.normal(0, 0.05, (rows + episode % 3, 3)), axis=0).astype(np.float32)
