"""Frames of a MuJoCo world: drawn only when asked for, always on one thread, without shadows or reflections."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import mujoco
import numpy as np

from embodied.types import Camera, Frame

_OFF = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE)


class Cameras:
    """Draws square frames of a model's cameras; needs OpenGL from the first frame on, not before."""

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        self._model, self._size = model, size
        self._renderer: mujoco.Renderer | None = None
        # An OpenGL context belongs to the thread that made it, and a robot may be stepped from any thread.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cameras")

    def declare(self, names: Iterable[str]) -> tuple[Camera, ...]:
        """Return the cameras called names as a spec declares them."""
        return tuple(
            Camera(name, self._size, self._size, float(self._model.camera(name).fovy[0])) for name in names
        )

    def draw(self, data: mujoco.MjData, names: Iterable[str]) -> dict[str, Frame]:
        """Return a frame (size, size, 3) uint8 RGB of every camera called names."""
        return self._thread.submit(self._draw, data, tuple(names)).result()

    def close(self) -> None:
        """Let go of the OpenGL context; idempotent."""
        if self._renderer is not None:
            self._thread.submit(self._renderer.close).result()
            self._renderer = None
        self._thread.shutdown()

    def _draw(self, data: mujoco.MjData, names: tuple[str, ...]) -> dict[str, Frame]:
        if self._renderer is None:
            self._renderer = mujoco.Renderer(self._model, self._size, self._size)
            for flag in _OFF:
                self._renderer.scene.flags[flag] = 0
        frames = {}
        for name in names:
            self._renderer.update_scene(data, name)
            frames[name] = np.ascontiguousarray(self._renderer.render())
        return frames
