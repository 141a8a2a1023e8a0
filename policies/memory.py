"""The earlier frames that a policy with an image history looks back at, as training shows them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied.types import Frame, Observation
from policies.layout import Flags, Plan

SLACK = 0.5  # of a step: a frame that is nearer to its time is that one


class Memory:
    """Frames of the first camera, by the time they were taken; those too old to be asked for are let go."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._step_ns = 1e9 / plan.spec.control_hz
        self._frames: list[tuple[int, Frame]] = []  # (time_ns, frame), the latest last

    def forget(self) -> None:
        """Begin an episode."""
        self._frames = []

    def recall(self, now: Observation) -> tuple[NDArray[np.uint8], Flags]:
        """Return frames (history, H, W, 3), the latest first, and whether there was one; take note of this one."""
        plan = self._plan
        if not plan.history or not plan.spec.cameras:
            return np.zeros((plan.history, 0, 0, 3), np.uint8), np.zeros(plan.history, bool)
        frame = now.frames[plan.spec.cameras[0].name]
        wanted = [now.time_ns - self._step_ns * plan.history_stride * (1 + i) for i in range(plan.history)]
        oldest_ns = wanted[-1] - (plan.history_stride + SLACK) * self._step_ns
        found = [self._at(time_ns) for time_ns in wanted]
        self._frames = [(t, f) for t, f in self._frames if t >= oldest_ns and t < now.time_ns]
        self._frames.append((now.time_ns, frame))
        there = np.array([seen is not None for seen in found])
        return np.stack([np.zeros_like(frame) if seen is None else seen for seen in found]), there

    def _at(self, time_ns: float) -> Frame | None:
        """Return the frame nearest to a time, None where the nearest is of another moment.

        A policy looks every few steps, so the nearest may be off by half of what lies between two looks.
        """
        reach_ns = (self._plan.history_stride / 2 + SLACK) * self._step_ns
        near = min(self._frames, key=lambda seen: abs(seen[0] - time_ns), default=None)
        return near[1] if near is not None and abs(near[0] - time_ns) <= reach_ns else None
