"""A policy that thinks while the robot moves: the plan goes on meanwhile, and a new chunk is blended into it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embodied.errors import LateError, ProtocolError
from embodied.holding import hold_measured, hold_pose, require_holdable
from embodied.types import Action, Observation, Policy, PoseAction, RobotSpec


@dataclass(frozen=True)
class Thought:
    """A chunk of actions, with the stages of what it took."""

    actions: Sequence[Action]
    timing_ns: Mapping[str, int]


class Clock(Protocol):
    """Runs one inference at a time and knows when its chunk is there; time is counted in control steps."""

    @property
    def busy(self) -> bool:
        """Whether an inference has begun whose chunk was not taken."""

    def begin(self, think: Callable[[], Thought], step: int) -> None:
        """Begin an inference on the observation of step."""

    def take(self, step: int) -> Thought | None:
        """Return the chunk if it is there by step, else None; raise what the inference raised."""

    def steps_left(self, step: int) -> int:
        """Return for how many steps from step, at least 1, there is surely no chunk."""

    def forget(self) -> None:
        """Wait for the inference under way and drop what comes of it."""

    def close(self) -> None:
        """Forget, and begin no other; idempotent."""


class SimulatedClock:
    """An inference takes exactly delay_steps control steps, however fast the machine is; for robots in lock step."""

    def __init__(self, delay_steps: int) -> None:
        if delay_steps < 0:
            raise ValueError(f"a delay is 0 or more steps, got {delay_steps}")
        self._delay_steps = delay_steps
        self._arrives = 0
        self._future: Future[Thought] | None = None

    @property
    def busy(self) -> bool:
        """Whether an inference has begun whose chunk was not taken."""
        return self._future is not None

    def begin(self, think: Callable[[], Thought], step: int) -> None:
        """Think at once, and keep what comes of it until the delay has passed."""
        self._future, self._arrives = Future(), step + self._delay_steps
        try:
            self._future.set_result(think())
        except Exception as error:  # to be raised by take, as from a thread
            self._future.set_exception(error)

    def take(self, step: int) -> Thought | None:
        """Return the chunk if the delay has passed by step."""
        if self._future is None or step < self._arrives:
            return None
        future, self._future = self._future, None
        return future.result()

    def steps_left(self, step: int) -> int:
        """Return the steps until the chunk is there."""
        return max(1, self._arrives - step)

    def forget(self) -> None:
        """Drop the chunk that was to come."""
        self._future = None

    def close(self) -> None:
        """Drop the chunk that was to come."""
        self.forget()


class RealClock:
    """An inference takes what it takes, in a thread of its own; for robots whose time passes by itself."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "inference")
        self._future: Future[Thought] | None = None

    @property
    def busy(self) -> bool:
        """Whether an inference has begun whose chunk was not taken."""
        return self._future is not None

    def begin(self, think: Callable[[], Thought], step: int) -> None:
        """Hand the inference to the thread."""
        self._future = self._thread.submit(think)

    def take(self, step: int) -> Thought | None:
        """Return the chunk if the thread is done with it."""
        if self._future is None or not self._future.done():
            return None
        future, self._future = self._future, None
        return future.result()

    def steps_left(self, step: int) -> int:
        """Return 1: the chunk may be there at the next step."""
        return 1

    def forget(self) -> None:
        """Wait for the inference under way, as long as the policy inside takes or lets itself take."""
        if self._future is not None:
            wait([self._future])
            self._future = None

    def close(self) -> None:
        """Forget, and end the thread."""
        self.forget()
        self._thread.shutdown()


class AsyncPolicy:
    """A Policy that hands out a running plan while the policy inside thinks about the next chunk.

    A chunk that answers the observation of step s and arrives d steps later is too late for its first d actions. Those
    that the robot carried out meanwhile stay (frozen), and from there on the running plan fades into the chunk, so that
    nothing jumps: both as in real-time chunking (Black, Galliker and Levine 2025, arXiv:2506.07339, equation 5 for the
    weights), with a weighted mean in the place of its guided denoising, which is temporal ensembling (Zhao et al. 2023,
    arXiv:2304.13705).

    Where the plan has run dry the robot holds: the last pose for absolute fields, zeros for a delta. While it holds,
    nothing of a chunk goes by: the chunk goes on from where the robot is. But a chunk that is as old as it is long is
    stale, and no action of it is ever executed.

    The policy inside should hand out its chunks whole; they must be longer than what it takes to think.
    """

    def __init__(self, policy: Policy, clock: Clock | None = None, *, horizon: int = 1) -> None:
        """Look again horizon steps after the last look, but never think of two at a time.

        The clock is a RealClock unless given. What the policy inside raises is raised by the next act, but for a
        LateError, which is no chunk.
        """
        if horizon < 1:
            raise ValueError(f"a horizon is 1 or more steps, got {horizon}")
        self._policy, self._horizon = policy, horizon
        self._clock: Clock = RealClock() if clock is None else clock
        self._spec: RobotSpec | None = None
        self._counts: dict[str, int] = {}
        self._timing_ns: Mapping[str, int] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """Return what happened in this episode: chunks, stale_chunks, late_chunks (LateError), held_steps."""
        return dict(self._counts)

    @property
    def timing_ns(self) -> Mapping[str, int]:
        """Return what the inference took, by stage, whose chunk came with the last act; empty if none did."""
        return self._timing_ns

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode; raise SpecMismatchError for a robot that cannot be held, or as the policy inside does."""
        self._spec = None
        require_holdable(spec, "asynchronous inference")
        self._clock.forget()
        self._policy.reset(instruction, spec)
        self._spec = spec
        self._plan: dict[int, Action] = {}  # by plan step: a control step in which the robot did not hold
        self._last: PoseAction | None = None
        self._first_ns: int | None = None
        self._next_look = self._held = 0
        self._looked = (0, 0)  # the control step and the plan step of the observation being thought about
        self._counts = dict.fromkeys(("chunks", "stale_chunks", "late_chunks", "held_steps"), 0)

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the actions until the next chunk may be there, or until the next look; holds where there are none.

        Raise ProtocolError before the first reset.
        """
        if self._spec is None:
            raise ProtocolError("act before reset: begin an episode first")
        if self._first_ns is None:
            self._first_ns = observation.time_ns
        now = round((observation.time_ns - self._first_ns) * 1e-9 * self._spec.control_hz)
        self._timing_ns = {}
        self._take(now)
        if not self._clock.busy and now >= self._next_look:
            self._looked, self._next_look = (now, now - self._held), now + self._horizon
            self._clock.begin(lambda: self._think(observation), now)
            self._take(now)
        left = self._clock.steps_left(now) if self._clock.busy else self._next_look - now
        first = now - self._held
        return [self._at(first + i, observation) for i in range(left)]

    def close(self) -> None:
        """Wait for the inference under way and end its thread; the policy inside stays open. Idempotent."""
        self._clock.close()

    def _think(self, observation: Observation) -> Thought:
        began_ns = time.monotonic_ns()
        actions = self._policy.act(observation)
        took_ns = time.monotonic_ns() - began_ns
        return Thought(actions, {"inference": took_ns, **getattr(self._policy, "timing_ns", {})})

    def _take(self, now: int) -> None:
        """Blend the chunk into the plan, if one is there."""
        try:
            thought = self._clock.take(now)
        except LateError:
            self._counts["late_chunks"] += 1
            return
        if thought is None:
            return
        self._timing_ns = thought.timing_ns
        self._counts["chunks"] += 1
        control_step, plan_step = self._looked
        if now - control_step >= len(thought.actions):
            self._counts["stale_chunks"] += 1
            return
        first = now - self._held
        fresh = thought.actions[first - plan_step :]
        self._plan = {
            first + i: blend(self._plan.get(first + i), action, seam_weight(i, len(fresh)))
            for i, action in enumerate(fresh)
        }

    def _at(self, step: int, observation: Observation) -> Action:
        assert self._spec is not None
        action = self._plan.get(step)
        if action is None:
            self._held += 1
            self._counts["held_steps"] += 1
            return hold_measured(self._spec, observation) if self._last is None else hold_pose(self._spec, self._last)
        if isinstance(action, PoseAction):
            self._last = action
        return action


def seam_weight(i: int, count: int) -> float:
    """Return the running plan's weight in the i-th of the count actions that a chunk still has: near 1, then fading.

    Source: real-time chunking (arXiv:2506.07339), equation 5, its soft mask behind the frozen actions.
    """
    share = (count - i) / (count + 1)
    return share * math.expm1(share) / math.expm1(1)


def blend(running: Action | None, new: Action, weight: float) -> Action:
    """Return the weighted mean of two poses; what is no pose, or has nothing to be blended with, is the new action."""
    if isinstance(running, PoseAction) and isinstance(new, PoseAction):
        return PoseAction((new.values + weight * (running.values - new.values)).astype(np.float32))
    return new
