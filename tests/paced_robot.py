"""A dummy robot that takes time: each action lasts until its period is over or a stop cuts the chunk short."""

from __future__ import annotations

import threading
from dataclasses import replace

from embodied.types import Action, Observation, Step
from tests.dummy_robot import DummyRobot


class PacedRobot(DummyRobot):
    """Counts what it moves by; while `stopped` is set it moves no further in the chunk or reset that is under way."""

    def __init__(self, *, period_s: float = 0.0, realtime: bool = False, watchdog_s: float = 0.5) -> None:
        super().__init__(front=(24, 32))
        self._spec = replace(self._spec, realtime=realtime, watchdog_s=watchdog_s)
        self._period_s = period_s
        self.moving, self._halt = threading.Event(), threading.Event()

    def reset(self, seed: int, task: str) -> Observation:
        """Take a period, then begin as the dummy does."""
        self._halt.clear()
        self.moving.set()
        self._halt.wait(self._period_s)
        return super().reset(seed, task)

    def step(self, *actions: Action, frames: bool = True) -> Step:
        """Carry out the actions one by one, a period each, until stopped."""
        self._halt.clear()
        step, executed = super().step(actions[0], frames=frames), 1
        self.moving.set()
        while not (self._halt.wait(self._period_s) or step.done) and executed < len(actions):
            step, executed = super().step(actions[executed], frames=frames), executed + 1
        return replace(step, executed=executed, dropped=0 if step.done else len(actions) - executed)

    def stop(self) -> None:
        """Stop where it is."""
        super().stop()
        self._halt.set()

    def observe(self, *, frames: bool) -> Observation:
        """Return what the robot senses now."""
        return self._observe(frames)
