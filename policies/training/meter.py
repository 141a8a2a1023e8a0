"""How fast training goes: tokens a second, the machine's own matrix rate beside it, and the wait for data."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from policies.batch import Batch
from policies.losses import count
from policies.training.run import Run

BACKWARD = 2  # passes of the same work as a forward pass

Item = TypeVar("Item")


@torch.no_grad()
def count_operations(run: Run, batch: Batch) -> float:
    """Return the floating-point operations of learning one of batch's examples; a backward pass counts twice."""
    counter = _Counter()  # type: ignore[no-untyped-call]
    # Blocks first called under a counter would count as such that cannot be compiled, and never be.
    with torch.compiler.set_stance("force_eager"), counter, run.autocast():
        run.learner(batch, count(batch))
    return (1.0 + BACKWARD) * counter.total / len(batch)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what torch's own formulas say of each operation; its FlopCounterMode cannot do without gradients."""

    total: int = 0

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


class Meter:
    """Counts what is learnt and how long it takes, since it was last read and in all."""

    def __init__(self, *, operations: float, matrix_rate: float, world: int) -> None:
        self.operations, self._matrix_rate, self._world = operations, matrix_rate, world
        self.waited_s, self._began_s = 0.0, time.monotonic()
        self._paused_s = 0.0
        self.reset()

    def reset(self) -> None:
        """Begin to count anew what is since the last reading."""
        self._examples, self._tokens, self._room, self._since_s = 0, 0, 0, time.monotonic()

    def waiting(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield batches, counting how long each was waited for; the first, which nobody could make ahead, is not."""
        source, first = iter(batches), True
        while True:
            begin_s = time.monotonic()
            try:
                item = next(source)
            except StopIteration:
                return
            if first:
                self._began_s, first = time.monotonic(), False
                self.reset()
            else:
                self.waited_s += time.monotonic() - begin_s
            yield item

    def add(self, parts: Sequence[Batch]) -> None:
        """Count what one step learnt from, this process's parts of a batch."""
        self._examples += sum(map(len, parts))
        self._tokens += sum(part.tokens for part in parts)
        self._room += sum(part.room for part in parts)

    def resume(self, paused_s: float) -> None:
        """Leave so many seconds, spent on other things than training, out of account."""
        self._paused_s += paused_s
        self.reset()

    @property
    def waiting_share(self) -> float:
        """Return which part of the time of training went by waiting for data."""
        return self.waited_s / max(1e-9, time.monotonic() - self._began_s - self._paused_s)

    def read(self) -> dict[str, float]:
        """Return rates since the last reset, of all processes: samples and real tokens a second, and the shares.

        of_matrix_rate is what of this machine's measured rate the model's own operations take; used is which part of
        the trunk's tokens is no padding.
        """
        spent_s = max(1e-9, time.monotonic() - self._since_s)
        return {
            "samples_per_s": self._world * self._examples / spent_s,
            "tokens_per_s": self._world * self._tokens / spent_s,
            "of_matrix_rate": self._examples * self.operations / spent_s / self._matrix_rate,
            "waiting": self.waiting_share,
            "used": self._tokens / max(1, self._room),
        }
