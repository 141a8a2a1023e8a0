"""Teaches to stay put where what is told is not there to be done: a demonstration under another task's sentence.

Where a scene alone says what its one task is, a network learns to do that whatever it is told, as nothing it is shown
says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from embodied.holding import held
from embodied.types import RobotSpec
from policies.layout import Ids
from policies.samples import Samples

Sentences = Sequence[list[int]]  # each as text ids


@dataclass(frozen=True)
class Refusing:
    """How often."""

    share: float = 0.0  # of demonstrations

    def teach(
        self,
        spec: RobotSpec,
        samples: Samples,
        rows: Ids,
        others: Callable[[int], Sentences],
        random: Sequence[np.random.Generator],
    ) -> Samples:
        """Give a share of the samples another task's sentence, to be answered by staying where they are.

        spec: a robot that can be held. rows: where the samples are in their dataset. others: the sentences of a row's
        other tasks, none where it has none. random: a generator for each sample. Whoever is taught no action, as of a
        scene, is left alone; of a sample that is changed nothing else is asked, as the things that it has labels of
        are not what its sentence is about.
        """
        if not self.share:
            return samples
        refused = np.array([rng.random() < self.share for rng in random], bool) & samples.supervised.any((1, 2))
        instruction, text = list(samples.instruction), list(samples.text)
        for at in np.flatnonzero(refused).tolist():
            if sentences := others(int(rows[at])):
                instruction[at], text[at] = sentences[int(random[at].integers(len(sentences)))], []
            else:
                refused[at] = False
        chunk, supervised = samples.chunk.copy(), samples.supervised.copy()
        chunk[refused] = held(spec, samples.state[refused])[:, None]
        supervised[refused] = supervised[refused].any(1, keepdims=True)
        labels = {name: np.where(refused[:, None], np.float32(np.nan), v) for name, v in samples.labels.items()}
        return replace(samples, instruction=instruction, text=text, chunk=chunk, supervised=supervised, labels=labels)
