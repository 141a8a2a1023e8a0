"""Several datasets in one run: what each batch is drawn from. Any batch is made from its number alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import from_numpy

from embodied.errors import EmbodiedError
from policies.batch import Batch, Part, pack
from policies.denoising import Denoising
from policies.examples import Examples
from policies.layout import Flags, Ids, Plan, lay_out
from policies.refusing import Refusing
from policies.samples import Samples, join
from policies.texts import Texts

AHEAD = 4  # batches made before they are asked for


@dataclass(frozen=True)
class Source:
    """What is drawn from, and how often."""

    data: Examples | Texts
    weight: float = 1.0  # beside the square root of its size
    share: float | None = None  # of every batch, whatever its size: old data is replayed so


@dataclass(frozen=True)
class Draw:
    """What a batch is to consist of: for each example its source, its row there, and a seed of its own.

    What is random about an example comes from its seed, so it is the same in whichever part of a batch it is made.
    """

    source: Ids
    row: Ids
    seed: Ids

    def random(self, chosen: Flags) -> list[np.random.Generator]:
        """Return a generator for each of the chosen examples."""
        return [np.random.default_rng(int(seed)) for seed in self.seed[chosen]]


class Mixture:
    """Sources and how they are mixed.

    width is that of packed rows in tokens, 0 where examples are padded instead.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        width: int = 0,
        denoising: Denoising | None = None,
        refusing: Refusing | None = None,
    ) -> None:
        """Raise EmbodiedError where shares leave nothing for the rest, or there is no demonstration."""
        self.sources, self.width = tuple(sources), width
        self.denoising, self.refusing = denoising or Denoising(), refusing or Refusing()
        self.plans: tuple[Plan, ...] = tuple(
            {s.data.plan.spec.name: s.data.plan for s in sources if isinstance(s.data, Examples)}.values()
        )
        if not self.plans:
            raise EmbodiedError("there is no demonstration to learn from")
        self.cameras = {i for s in sources if isinstance(s.data, Examples) for i in s.data.cameras}  # that any has
        self.shares = shares(self.sources)

    def draw(self, number: int, *, size: int, seed: int) -> Draw:
        """Return what batch number consists of."""
        rng = np.random.default_rng([seed, number])
        source = rng.choice(len(self.sources), size, p=self.shares)
        lengths = np.array([len(s.data.training_rows) for s in self.sources])
        row = (rng.random(size) * lengths[source]).astype(np.int64)
        return Draw(source, row, rng.integers(2**62, size=size))

    def batch(self, number: int, *, size: int, seed: int, rank: int = 0, world: int = 1) -> Batch:
        """Make the batch of that number; of world processes, rank makes its own part of it, every world-th example."""
        drawn = self.draw(number, size=size, seed=seed)
        mine = Draw(drawn.source[rank::world], drawn.row[rank::world], drawn.seed[rank::world])
        rows = [self.sources[s].data.training_rows[r] for s, r in zip(mine.source, mine.row, strict=True)]
        return self.make(replace(mine, row=np.array(rows)))

    def make(self, drawn: Draw) -> Batch:
        """Make the batch of drawn examples; the row of each is one of its dataset."""
        samples: dict[str, list[Samples]] = {}
        random: dict[str, list[np.random.Generator]] = {}
        parts: list[Part] = []
        for index, source in enumerate(self.sources):
            chosen = drawn.source == index
            rows = drawn.row[chosen]
            if not len(rows):
                continue
            if isinstance(source.data, Texts):
                parts.append(Part(None, source.data.sequences(rows, drawn.random(chosen)), []))
            else:
                spec, own = source.data.plan.spec, drawn.random(chosen)
                taken = source.data.samples(rows, later=self.denoising.share > 0)
                taken = self.refusing.teach(spec, taken, rows, source.data.others, own)
                samples.setdefault(spec.name, []).append(taken)
                random.setdefault(spec.name, []).extend(own)
        robots = [
            self._part(plan, join(found), random[plan.spec.name])
            for plan in self.plans
            if (found := samples.get(plan.spec.name))
        ]
        return pack([*robots, *parts], self.width)

    def training(
        self, first: int, last: int, *, size: int, seed: int, rank: int = 0, world: int = 1, threads: int = 1
    ) -> Iterator[Batch]:
        """Yield the training batches numbered first to last, made ahead by so many threads of their own."""
        pool = ThreadPoolExecutor(threads, "batches")
        ahead: deque[Future[Batch]] = deque()
        try:
            for number in range(first, last):
                ahead.append(pool.submit(self.batch, number, size=size, seed=seed, rank=rank, world=world))
                if len(ahead) >= AHEAD + threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def validation(self, *, size: int, batches: int) -> Iterator[Batch]:
        """Yield the same held-out batches each time, nothing hidden; none where no dataset holds out an episode."""
        calm = Mixture(self.sources, width=self.width)
        held_out = [(i, s.data) for i, s in enumerate(self.sources) if isinstance(s.data, Examples)]
        source = np.concatenate([np.full(len(data.validation_rows), i) for i, data in held_out])
        row = np.concatenate([data.validation_rows for _, data in held_out])
        for number in range(batches if len(row) else 0):
            rng = np.random.default_rng([0, number])
            chosen = rng.choice(len(row), size)
            yield calm.make(Draw(source[chosen], row[chosen], rng.integers(2**62, size=size)))

    def _part(self, plan: Plan, samples: Samples, random: Sequence[np.random.Generator]) -> Part:
        samples, corruption = self.denoising.corrupt(plan, samples, random)
        sequences = lay_out(
            plan,
            instruction=samples.instruction,
            state=samples.state,
            labels=samples.labels,
            chunk=samples.chunk,
            supervised=samples.supervised,
            text=samples.text,
            gaps=samples.gaps,
            corruption=corruption,
        )
        return Part(plan, sequences, [from_numpy(frames) for frames in samples.frames], from_numpy(samples.past))


def shares(sources: Sequence[Source]) -> NDArray[np.float64]:
    """Return how often each source is drawn from: those with a share so often, the rest by weight times √size.

    Raise EmbodiedError for shares that leave nothing to the rest, or sum to another thing than 1 where there is none.
    """
    given = np.array([s.share or 0.0 for s in sources])
    rest = np.array([s.weight * len(s.data.training_rows) ** 0.5 if s.share is None else 0.0 for s in sources])
    told, total = given[given > 0].tolist(), given.sum()
    if (given < 0).any() or (rest < 0).any() or (rest.sum() > 0 and total >= 1):
        raise EmbodiedError(f"shares of {told} leave nothing for the other datasets")
    if not rest.sum() and not np.isclose(total, 1):
        raise EmbodiedError(f"shares of {told} sum to {total:g}, and there is no other dataset; they must sum to 1")
    found: NDArray[np.float64] = given + (1 - total) * rest / rest.sum() if rest.sum() else given / total
    return found
