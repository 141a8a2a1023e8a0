"""When an inference is done: in simulated time exactly as late as told, in real time when its thread is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from embodied.types import Action


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
