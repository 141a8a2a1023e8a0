"""How a policy's thinking meets the robot's time: in turns or at once, with a delay that is exact in simulation."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from embodied.asynchronous import AsyncPolicy
from embodied.clocks import Clock, RealClock, SimulatedClock
from embodied.errors import EmbodiedError
from embodied.holding import hold_measured, hold_pose, require_holdable
from embodied.types import Action, Observation, Policy, PoseAction, RobotSpec

Mode = Literal["sync", "async"]
MODES: tuple[Mode, ...] = ("sync", "async")


@dataclass(frozen=True)
class Execution:
    """Whether the robot waits for the policy (sync) or moves on meanwhile (async), and the delay to simulate."""

    mode: Mode = "sync"
    delay_ms: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the execution as plain JSON types."""
        return asdict(self)

    def delay_steps(self, control_hz: float) -> int:
        """Return the control periods that the delay takes, rounded up: a command waits for the next period."""
        return math.ceil(round(self.delay_ms * control_hz / 1e3, 6))  # 0.1 s at 10 Hz is one period, not a hair more


SYNC = Execution()


@runtime_checkable
class Chunked(Protocol):
    """A policy that hands out a part of what it plans, and blends it by itself, unless told otherwise."""

    def whole(self) -> Policy:
        """Return the same policy handing out each chunk whole and as it is, for one who blends them himself."""


class DelayedPolicy:
    """A Policy whose every answer comes delay_steps control periods late, while the robot holds; needs lock step."""

    def __init__(self, policy: Policy, delay_steps: int) -> None:
        self._policy, self._delay_steps = policy, delay_steps

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode; raise SpecMismatchError for a robot that cannot be held, or as the policy inside does."""
        require_holdable(spec, "a delayed policy")
        self._policy.reset(instruction, spec)
        self._spec = spec
        self._last: PoseAction | None = None

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return as many holds as the delay takes, then the chunk."""
        hold = hold_measured(self._spec, observation) if self._last is None else hold_pose(self._spec, self._last)
        chunk = self._policy.act(observation)
        self._last = next((a for a in reversed(chunk) if isinstance(a, PoseAction)), self._last)
        return [hold] * self._delay_steps + list(chunk)


@contextlib.contextmanager
def executing(policy: Policy, execution: Execution, spec: RobotSpec) -> Iterator[Policy]:
    """Yield policy as the execution asks for it; it stays the caller's to close.

    Raise EmbodiedError for a delay at a robot whose time is real.
    """
    if spec.realtime and execution.delay_ms:
        raise EmbodiedError(f"time passes by itself at {spec.name}, so there is no delay of its own to simulate")
    delay_steps = execution.delay_steps(spec.control_hz)
    if execution.mode == "async":
        whole = policy.whole() if isinstance(policy, Chunked) else policy
        clock: Clock = RealClock() if spec.realtime else SimulatedClock(delay_steps)
        with contextlib.closing(AsyncPolicy(whole, clock)) as asynchronous:
            yield asynchronous
    elif delay_steps:
        yield DelayedPolicy(policy, delay_steps)
    else:
        yield policy
