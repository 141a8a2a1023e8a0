"""A dummy robot that takes time: each action, and a reset, lasts until its period is over or a stop cuts it short."""

from __future__ import annotations

import threading
from dataclasses import replace

from embodied.types import Action, Observation, Step
from tests.dummy_robot import DummyBody, DummyRobot


class PacedRobot(DummyRobot):
    """It forgets an earlier stop as it begins to move, as any robot may."""

    def __init__(self, *, period_s: float = 0.0, realtime: bool = False, watchdog_s: float = 30.0) -> None:
        self.paced = PacedBody(period_s, realtime, watchdog_s)
        super(DummyRobot, self).__init__(self.paced)

    def reset(self, seed: int, task: str) -> Observation:
        """Begin as the dummy does, after a period."""
        self.paced.halt.clear()
        return super().reset(seed, task)

    def step(self, *actions: Action, frames: bool = True) -> Step:
        """Carry out the actions one by one, a period each, until stopped."""
        self.paced.halt.clear()
        return super().step(*actions, frames=frames)

    def observe(self, *, frames: bool) -> Observation:
        """Return what the robot senses now."""
        return self.paced._observe(frames)


class PacedBody(DummyBody):
    """What is inside: `moving` is set once it has moved, `halt` while it is to wait for nothing."""

    def __init__(self, period_s: float, realtime: bool, watchdog_s: float) -> None:
        super().__init__(front=(24, 32), wrist=(24, 32))
        self._spec = replace(self._spec, realtime=realtime, watchdog_s=watchdog_s)
        self.period_s = period_s
        self.moving, self.halt = threading.Event(), threading.Event()

    def reset(self, seed: int, task: str) -> Observation:
        """Take a period, then begin."""
        self.moving.set()
        self.halt.wait(self.period_s)
        return super().reset(seed, task)

    def step(self, *actions: Action, frames: bool = True) -> Step:
        """Move, then take a period."""
        step = super().step(*actions, frames=frames)
        self.moving.set()
        self.halt.wait(self.period_s)
        return step

    def stop(self) -> None:
        """Wait no longer."""
        super().stop()
        self.halt.set()
