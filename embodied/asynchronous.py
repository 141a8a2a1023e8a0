"""A policy that thinks while the robot moves: the plan goes on meanwhile, and a new chunk is blended into it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from embodied.clocks import Clock, RealClock, Thought
from embodied.errors import InvalidActionError, LateError, ProtocolError
from embodied.holding import hold_measured, hold_pose, require_holdable
from embodied.types import Action, Observation, Policy, PoseAction, RobotSpec


class AsyncPolicy:
    """A Policy that hands out a running plan while the policy inside thinks about the next chunk.

    A chunk that begins at step s and arrives d steps later is too late for its first d actions. Those
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
        self._next_look = self._handed_out = self._held = 0
        self._looked = (0, 0)  # the control step and the plan step that the chunk being thought about begins at
        self._counts = dict.fromkeys(("chunks", "stale_chunks", "late_chunks", "held_steps"), 0)

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the actions until the next chunk may be there, or until the next look; holds where there are none.

        Raise ProtocolError before the first reset.
        """
        if self._spec is None:
            raise ProtocolError("act before reset: begin an episode first")
        if self._first_ns is None:
            self._first_ns = observation.time_ns
        seen = round((observation.time_ns - self._first_ns) * 1e-9 * self._spec.control_hz)
        # Where time is real an observation is made as the last action begins, and is answered by what comes after that:
        # so it is when the robot waits for the policy, and so it stands in what is recorded there.
        now = min(max(seen, self._handed_out), seen + 1) if self._spec.realtime else seen
        self._timing_ns = {}
        self._take(now)
        if not self._clock.busy and now >= self._next_look:
            self._looked, self._next_look = (now, now - self._held), now + self._horizon
            self._clock.begin(lambda: self._think(observation), now)
            self._take(now)
        left = self._clock.steps_left(now) if self._clock.busy else self._next_look - now
        self._handed_out = now + left
        return [self._at(step, observation) for step in range(now, now + left)]

    def close(self) -> None:
        """Wait for the inference under way and end its thread; the policy inside stays open. Idempotent."""
        self._clock.close()

    def _think(self, observation: Observation) -> Thought:
        began_ns = time.monotonic_ns()
        actions = self._policy.act(observation)
        took_ns = time.monotonic_ns() - began_ns
        if not actions:
            raise InvalidActionError("the policy returned no action")
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
        fresh = dict(enumerate(thought.actions[first - plan_step :], start=first))
        shared = len(fresh.keys() & self._plan.keys())
        self._plan = {
            step: blend(self._plan[step], action, seam_weight(step - first, shared)) if step in self._plan else action
            for step, action in fresh.items()
        }

    def _at(self, step: int, observation: Observation) -> Action:
        assert self._spec is not None
        action = self._plan.get(step - self._held)
        if action is None:
            self._held += 1
            self._counts["held_steps"] += 1
            return hold_measured(self._spec, observation) if self._last is None else hold_pose(self._spec, self._last)
        if isinstance(action, PoseAction):
            self._last = action
        return action


def seam_weight(i: int, count: int) -> float:
    """Return the running plan's weight in the i-th of count steps that a chunk shares with it: near 1, then fading.

    Source: real-time chunking (arXiv:2506.07339), equation 5, its soft mask behind the frozen actions.
    """
    share = (count - i) / (count + 1)
    return share * math.expm1(share) / math.expm1(1)


def blend(running: Action, new: Action, weight: float) -> Action:
    """Return the weighted mean of two poses, or the new action where one is no pose."""
    if isinstance(running, PoseAction) and isinstance(new, PoseAction):
        return PoseAction((new.values + weight * (running.values - new.values)).astype(np.float32))
    return new
