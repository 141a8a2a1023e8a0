"""The earlier frames that a policy with an image history looks back at, as training shows them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embodied.errors import EmbodiedError
from embodied.types import Frame, Observation
from policies.layout import Flags, Plan

SLACK = 0.5  # of a step: a frame that is nearer to its time is that one


class Memory:
    """Frames of the first camera, by the time they were taken; those too old to be asked for are let go.

    Training shows frames exactly history_stride steps apart, which one who looks every step, or every history_stride,
    remembers. One who looks at other times remembers the frame nearest to each, up to half a stride off.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._step_ns = 1e9 / plan.spec.control_hz
        self._reach_ns = _reach(plan) * self._step_ns
        self.forget()

    def forget(self) -> None:
        """Begin an episode."""
        self._frames: list[tuple[int, Frame]] = []  # (time_ns, frame), the latest last
        self._first_ns: int | None = None  # when the episode began

    def recall(self, now: Observation) -> tuple[NDArray[np.uint8], Flags]:
        """Return frames (history, H, W, 3), the latest first, and whether there was one; take note of this one.

        As in training, there is none from before the episode, none before one that is lacking, and none twice.
        """
        plan = self._plan
        if not plan.history or not plan.spec.cameras:
            return np.zeros((plan.history, 0, 0, 3), np.uint8), np.zeros(plan.history, bool)
        frame = now.frames[plan.spec.cameras[0].name]
        apart_ns = self._step_ns * plan.history_stride
        past, there = np.zeros((plan.history, *frame.shape), np.uint8), np.zeros(plan.history, bool)
        if self._first_ns is None:
            self._first_ns = now.time_ns
        before_ns = now.time_ns
        for i in range(plan.history):
            wanted_ns = now.time_ns - apart_ns * (1 + i)
            found = self._near(wanted_ns, before_ns)
            if found is None or wanted_ns < self._first_ns - SLACK * self._step_ns:
                break
            before_ns, past[i] = found
            there[i] = True
        oldest_ns = now.time_ns - apart_ns * plan.history - self._reach_ns
        self._frames = [(t, f) for t, f in self._frames if oldest_ns <= t < now.time_ns]
        self._frames.append((now.time_ns, frame))
        return past, there

    def _near(self, time_ns: float, before_ns: int) -> tuple[int, Frame] | None:
        """Return the frame nearest to a time, of those before another; None where the nearest is of another moment."""
        frames = [seen for seen in self._frames if seen[0] < before_ns]
        near = min(frames, key=lambda seen: abs(seen[0] - time_ns), default=None)
        return near if near is not None and abs(near[0] - time_ns) <= self._reach_ns else None


def require_horizon(plan: Plan, horizon: int) -> None:
    """Raise EmbodiedError where one who looks every horizon steps would never remember a frame."""
    longest = int(plan.history_stride + _reach(plan))
    if plan.history and horizon > longest:
        raise EmbodiedError(
            f"horizon {horizon}: the policy looks back at frames {plan.history_stride} steps apart, which it has only "
            f"if it looks every {longest} steps or oftener, and exactly if every {plan.history_stride}"
        )


def _reach(plan: Plan) -> float:
    return plan.history_stride / 2 + SLACK  # steps
