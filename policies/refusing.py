"""Teaches to stay put where what is told is not there to be done: a demonstration under another task's sentence.

Where a scene alone says what its one task is, a network learns to do that whatever it is told, as nothing it is shown
says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from embodied.holding import held
from embodied.types import RobotSpec
from policies.samples import Samples

Sentences = Sequence[list[int]]  # each as text ids


@dataclass(frozen=True)
class Refusing:
    """How often."""

    share: float = 0.0  # of demonstrations

    def teach(
        self, spec: RobotSpec, samples: Samples, others: Sequence[Sentences], random: Sequence[np.random.Generator]
    ) -> Samples:
        """Give a share of the samples another task's sentence, to be answered by staying where they are.

        spec: a robot that can be held. others: for each sample the sentences of other tasks, none where it has none.
        random: a generator for each. Whoever is taught no action, as of a scene, is left alone; of a sample that is
        changed nothing else is asked, as the things that it has labels of are not what its sentence is about.
        """
        if not self.share:
            return samples
        drawn = np.array([rng.random() < self.share for rng in random], bool)
        refused = drawn & samples.supervised.any((1, 2)) & np.array([len(each) > 0 for each in others], bool)
        rows = np.flatnonzero(refused).tolist()
        instruction, text = list(samples.instruction), list(samples.text)
        for row in rows:
            instruction[row], text[row] = others[row][int(random[row].integers(len(others[row])))], []
        chunk, supervised = samples.chunk.copy(), samples.supervised.copy()
        chunk[refused] = held(spec, samples.state[refused])[:, None]
        supervised[refused] = supervised[refused].any(1, keepdims=True)
        labels = {name: np.where(refused[:, None], np.float32(np.nan), v) for name, v in samples.labels.items()}
        return replace(samples, instruction=instruction, text=text, chunk=chunk, supervised=supervised, labels=labels)
