"""Frames of a MuJoCo world: drawn only when asked for, always on one thread, without shadows unless asked for."""

from __future__ import annotations

import atexit
import functools
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import mujoco
import numpy as np

from embodied.types import Camera, Frame

_OFF = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE)

_open: weakref.WeakSet[_Painter] = weakref.WeakSet()


def _close_all() -> None:
    for painter in list(_open):
        painter.close()


@functools.cache
def _close_all_at_exit() -> None:
    """Close all before MuJoCo ends OpenGL: what is registered last runs first, and a first renderer registers that."""
    atexit.register(_close_all)


_Call = tuple[Callable[..., Any], tuple[Any, ...], Future[Any]]


class Cameras:
    """Draws square frames of a model's cameras; needs OpenGL from the first frame on, not before.

    With effects it draws as MuJoCo does of itself: with shadows, reflections and haze.
    """

    def __init__(self, model: mujoco.MjModel, size: int, *, effects: bool = False) -> None:
        self._model, self._size = model, size
        self._painter = _Painter(model, size, () if effects else _OFF)
        # A robot that is dropped lets go of its OpenGL context all the same.
        self.close = weakref.finalize(self, self._painter.close)

    def declare(self, names: Iterable[str]) -> tuple[Camera, ...]:
        """Return the cameras called names as a spec declares them."""
        return tuple(Camera(name, self._size, self._size, float(self._model.camera(name).fovy[0])) for name in names)

    def draw(self, data: mujoco.MjData, names: Iterable[str]) -> dict[str, Frame]:
        """Return a frame (size, size, 3) uint8 RGB of every camera called names."""
        return self._painter.draw(data, tuple(names))


class _Painter:
    """Owns the renderer and the one thread it lives on: an OpenGL context belongs to the thread that made it."""

    def __init__(self, model: mujoco.MjModel, size: int, off: tuple[mujoco.mjtRndFlag, ...]) -> None:
        self._model, self._size, self._off = model, size, off
        self._renderer: mujoco.Renderer | None = None
        self._calls: SimpleQueue[_Call | None] | None = None
        _open.add(self)

    def draw(self, data: mujoco.MjData, names: tuple[str, ...]) -> dict[str, Frame]:
        if self._calls is None:
            self._calls = SimpleQueue()
            threading.Thread(target=_serve, args=(self._calls,), name="cameras", daemon=True).start()
        drawn: dict[str, Frame] = self._run(self._draw, data, names)
        return drawn

    def close(self) -> None:
        if self._calls is not None:
            self._run(self._let_go)
            self._calls.put(None)
            self._calls = None

    def _run(self, call: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - as various as the calls are
        assert self._calls is not None
        outcome: Future[Any] = Future()
        self._calls.put((call, arguments, outcome))
        return outcome.result()

    def _draw(self, data: mujoco.MjData, names: tuple[str, ...]) -> dict[str, Frame]:
        if self._renderer is None:
            self._renderer = mujoco.Renderer(self._model, self._size, self._size)
            _close_all_at_exit()
            for flag in self._off:
                self._renderer.scene.flags[flag] = 0
        frames = {}
        for name in names:
            self._renderer.update_scene(data, name)
            frames[name] = np.ascontiguousarray(self._renderer.render())
        return frames

    def _let_go(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _serve(calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        function, arguments, outcome = call
        try:
            outcome.set_result(function(*arguments))
        except Exception as error:  # carried to the caller, who raises it
            outcome.set_exception(error)
