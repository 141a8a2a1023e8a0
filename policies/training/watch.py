"""What a person sees of a run: its pace, and at every save what was measured, decoded, drawn and rolled out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from policies.batch import Batch
from policies.mixture import Mixture
from policies.training.evaluation import evaluate, take_samples
from policies.training.folder import Folder
from policies.training.meter import Meter, count_operations
from policies.training.precision import matrix_rate
from policies.training.rollouts import Rollouts
from policies.training.run import Learnt, Run
from policies.training.saving import Saver

Say = Callable[[str], None]


class Watch:
    """Follows a run step by step; on processes other than the first it only measures what needs them all."""

    def __init__(self, run: Run, mixture: Mixture, folder: Folder | None, say: Say) -> None:
        self._run, self._mixture, self._folder, self._say = run, mixture, folder, say
        self._learnt: list[Learnt] = []
        self._meter: Meter | None = None
        plan = run.config.rollout
        self._rollouts = Rollouts(run.config.out, plan) if plan and folder else None
        total, first = run.config.steps, run.step
        self._bar = tqdm(total=total, initial=first, unit="step", dynamic_ncols=True, disable=folder is None)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._rollouts and kind is None:
            self._take(self._rollouts.poll(wait=True))
        elif self._rollouts:
            self._rollouts.close()
        self._bar.close()

    def steps(self, batches: Iterable[Sequence[Batch]]) -> Iterator[Sequence[Batch]]:
        """Yield what each step is to learn from, timing the wait for it."""
        run = self._run
        dtype = torch.bfloat16 if run.config.precision == "bf16" else torch.float32
        rate = matrix_rate(run.team.device, dtype)
        self._meter = Meter(operations=0.0, matrix_rate=rate, world=run.team.world)
        for parts in self._meter.waiting(batches):
            if not self._meter.operations:
                self._meter.operations = count_operations(run, parts[0])
                self._meter.reset()
            yield parts

    def learnt(self, parts: Sequence[Batch], learnt: Learnt) -> None:
        """Show and log one step."""
        assert self._meter is not None, "a step that came from elsewhere than steps()"
        self._learnt.append(learnt)
        self._meter.add(parts)
        self._bar.update()
        if self._folder is None:
            return
        pace = self._meter.read()
        shown = f"{pace['tokens_per_s']:.0f} tokens/s, {pace['of_matrix_rate']:.0%} of matrix rate"
        self._bar.set_postfix_str(f"loss {learnt.loss:.2f}, {shown}, {pace['waiting']:.0%} waiting", refresh=False)
        self._folder.learnt(self._run.step, learnt)
        if self._rollouts:
            self._take(self._rollouts.poll())

    def report(self) -> None:
        """Measure the averaged weights on held-out episodes, log it, show it. Every process must call it."""
        assert self._meter is not None, "a report before any step"
        pace, begin_s = self._meter.read(), time.monotonic()
        held_out = evaluate(self._run, self._mixture)
        samples = take_samples(self._run, self._mixture)
        if self._folder is not None:
            entry = {"step": self._run.step, **self._means(), **{k: float(f"{v:.4g}") for k, v in pace.items()}}
            entry |= held_out
            self._folder.log(entry)
            self._folder.show(self._run.step, samples)
            self._say("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in entry.items()))
        self._learnt = []
        self._meter.resume(time.monotonic() - begin_s)

    def saved(self, saver: Saver) -> None:
        """Begin rollouts of what is being saved, if they are due."""
        if self._rollouts is None or (self._rollouts.plan.every and self._run.step % self._rollouts.plan.every):
            return
        saver.wait()
        self._take(self._rollouts.poll(wait=True))
        self._rollouts.begin(self._run.step)

    def _means(self) -> dict[str, float]:
        names = dict.fromkeys(name for learnt in self._learnt for name in learnt.terms)
        terms = {f"loss_{n}": float(np.mean([x.terms[n] for x in self._learnt if n in x.terms])) for n in names}
        return {"loss": float(np.mean([learnt.loss for learnt in self._learnt])), **terms}

    def _take(self, result: dict[str, Any] | None) -> None:
        if result is not None and self._folder is not None:
            self._folder.log({"step": self._run.step, **result})
            self._say("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.items()))
