"""Any gymnasium environment with a continuous action, as a Robot."""

from __future__ import annotations

import time
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from embodied.errors import EmbodiedError, ProtocolError
from embodied.safety import SafeRobot
from embodied.types import Camera, Field, Frame, Observation, RobotSpec, Step

Mode = Literal["absolute", "delta"]

RENDERED = "render"  # the camera that shows what the environment renders
UNKNOWN_FOVY_DEG = 0.0  # gymnasium does not say


class UnfitEnvironmentError(EmbodiedError):
    """A gymnasium environment that cannot be a robot as it is; the message says what would make it one."""


def make(
    id: str = "Pendulum-v1",
    *,
    control_hz: float | None = None,
    bound: float | None = None,
    rendered: bool = False,
    instruction: str | None = None,
    absolute: bool = False,
) -> SafeRobot[GymnasiumRobot]:
    """Return the environment registered as id ("package:id" imports the package first).

    control_hz defaults to the environment's render_fps; bound is the range of what has none; rendered adds a camera
    that shows env.render(); instruction serves where observations carry none; absolute says that an action is a
    place to hold, and not an effort or a change, of which there is none at zero. Raise UnfitEnvironmentError if it has
    no continuous action, or a range is infinite and no bound is given.
    """
    try:
        options: dict[str, Any] = {"render_mode": "rgb_array"} if rendered else {}
        env: gymnasium.Env[Any, Any] = gymnasium.make(id, **options)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise UnfitEnvironmentError(f"gymnasium cannot make {id!r}: {error}") from error
    rate = control_hz or env.metadata.get("render_fps")
    if not rate:
        raise UnfitEnvironmentError(f"{id} does not say how fast it runs: give control_hz")
    if rate < 0 or (bound is not None and bound <= 0):
        raise UnfitEnvironmentError(f"control_hz and bound are above 0, got {rate} and {bound}")
    mode: Mode = "absolute" if absolute else "delta"
    words = instruction or f"solve {id}"
    return SafeRobot(GymnasiumRobot(env, id=id, control_hz=float(rate), bound=bound, instruction=words, mode=mode))


class GymnasiumRobot:
    """Hosts one environment: its numbers are the state, its images the cameras, its one task is its id."""

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        *,
        id: str,
        control_hz: float,
        bound: float | None,
        instruction: str,
        mode: Mode,
    ) -> None:
        if not isinstance(env.action_space, spaces.Box):
            raise UnfitEnvironmentError(f"{id} takes {env.action_space}; a robot needs a Box of numbers")
        self._env, self._instruction = env, instruction
        self._parts = _parts(env.observation_space)
        self._rendered = env.render_mode == "rgb_array"
        self._action_space = env.action_space
        numbers = {k: s for k, s in self._parts.items() if isinstance(s, spaces.Box) and not _is_image(s)}
        cameras = [_camera(key, s.shape or ()) for key, s in self._parts.items() if _is_image(s)]
        if self._rendered:
            env.reset(seed=0)
            try:
                cameras.append(_camera(RENDERED, self._render().shape))
            except gymnasium.error.Error as error:
                raise UnfitEnvironmentError(f"{id} cannot be rendered: {error}") from error
        self._spec = RobotSpec(
            name=id,
            control_hz=control_hz,
            cameras=tuple(cameras),
            state=tuple(f for key, space in numbers.items() for f in _fields(key, space, bound)),
            action=tuple(_fields("action", env.action_space, bound, mode)),
            tasks=(id,),
        )
        self._numbers = tuple(numbers)
        self._seen: Any = None
        self._steps = 0
        self._success = self._terminated = self._truncated = self._closed = False

    @property
    def spec(self) -> RobotSpec:
        """Return what the environment's spaces declare."""
        return self._spec

    @property
    def servo_hz(self) -> float:
        """Return the environment's own rate."""
        return self._spec.control_hz

    def reset(self, seed: int, task: str) -> Observation:
        """Begin the episode of seed; raise UnknownNameError unless task is the environment's id."""
        self._spec.require_task(task)
        if self._closed:
            raise ProtocolError("the robot is closed")
        self._seen, _ = self._env.reset(seed=seed)
        self._steps = 0
        self._success = self._terminated = self._truncated = False
        return self._observe(frames=True)

    def follow(self, setpoints: NDArray[np.float64], *, frames: bool) -> Step:
        """Carry out setpoints (k, n), an environment's step each, until the episode ends."""
        total = 0.0
        for setpoint in setpoints:
            command = setpoint.reshape(self._action_space.shape).astype(self._action_space.dtype)
            self._seen, reward, terminated, truncated, info = self._env.step(command)
            total, self._steps = total + float(reward), self._steps + 1
            self._terminated, self._truncated = bool(terminated), bool(truncated and not terminated)
            self._success = bool(info.get("is_success", info.get("success", False)))
            if self._terminated or self._truncated:
                break
        began_ns = time.monotonic_ns()
        return Step(
            observation=self._observe(frames=frames),
            reward=total,
            success=self._success,
            terminated=self._terminated,
            truncated=self._truncated,
            timing_ns={"render": time.monotonic_ns() - began_ns} if frames else {},
        )

    def stop(self) -> None:
        """Do nothing: time stands still between steps, so nothing else moves."""

    def close(self) -> None:
        """Close the environment; idempotent."""
        if not self._closed:
            self._closed = True
            self._env.close()

    def _observe(self, *, frames: bool) -> Observation:
        parts = self._seen if isinstance(self._seen, dict) else {"state": self._seen}
        numbers = [np.asarray(parts[key], np.float32).ravel() for key in self._numbers]
        state = np.concatenate(numbers) if numbers else np.zeros(0, np.float32)
        drawn: dict[str, Frame] = {}
        if frames:
            drawn = {k: np.asarray(parts[k], np.uint8) for k, space in self._parts.items() if _is_image(space)}
            if self._rendered:
                drawn[RENDERED] = self._render()
        words = parts.get("instruction", self._instruction)
        return Observation(round(self._steps / self._spec.control_hz * 1e9), drawn, state, str(words))

    def _render(self) -> Frame:
        return np.asarray(self._env.render(), np.uint8)


def _parts(space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"state": space}
    for key, part in parts.items():
        if not isinstance(part, spaces.Box) and not (key == "instruction" and isinstance(part, spaces.Text)):
            raise UnfitEnvironmentError(f"observation {key!r} is {part}; a robot needs a Box, or a Dict of them")
    return parts


def _camera(name: str, shape: tuple[int, ...]) -> Camera:
    return Camera(name, shape[0], shape[1], UNKNOWN_FOVY_DEG)


def _is_image(space: spaces.Space[Any]) -> bool:
    shape = space.shape or ()
    return space.dtype == np.uint8 and len(shape) == 3 and shape[2] == 3


def _fields(name: str, space: spaces.Box, bound: float | None, mode: Mode = "absolute") -> list[Field]:
    low, high = (np.asarray(end, np.float64).ravel() for end in (space.low, space.high))
    # Some environments write the largest float where they mean no limit.
    endless = (np.abs(low) > 1e30) | (np.abs(high) > 1e30)
    if endless.any() and bound is None:
        names = [f"{name}_{i}" for i in np.flatnonzero(endless)]
        raise UnfitEnvironmentError(f"{names} have no finite range, which a field needs: give bound=NUMBER")
    if bound is not None:
        low, high = np.where(endless, -bound, low), np.where(endless, bound, high)
    return [Field(f"{name}_{i}", "", float(a), float(b), mode) for i, (a, b) in enumerate(zip(low, high, strict=True))]
