"""What an answer may look like: decoding follows this grammar, and a sequence that breaks it is no action.

pose answer:  <pose> (value token a field, a step) × chunk <eos>
text answer:  <text> one of the robot's skills, in byte pairs <eos>
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from embodied.types import PoseAction, RobotSpec, TextAction
from policies.values import BINS, decode_values, ranges
from policies.vocabulary import EOS, FIRST_VALUE, POSE, TEXT, Vocabulary


def write_pose(bins: NDArray[np.int64]) -> list[int]:
    """Return the pose answer whose value tokens are bins (chunk, n)."""
    return [POSE, *(FIRST_VALUE + bins.ravel()).tolist(), EOS]


def parse(
    answer: Sequence[int], spec: RobotSpec, vocabulary: Vocabulary, *, chunk: int
) -> list[PoseAction] | list[TextAction] | None:
    """Return the actions an answer says, or None where it breaks the grammar: the caller then holds."""
    if len(answer) < 3 or answer[-1] != EOS:
        return None
    if answer[0] == POSE:
        return _parse_pose(np.asarray(answer[1:-1]), spec, chunk)
    if answer[0] == TEXT:
        # The vocabulary folds case, so a skill is known by its tokens, not by the text that they decode to.
        spelled = list(answer[1:-1])
        return next(([TextAction(skill)] for skill in spec.skills if vocabulary.encode_text(skill) == spelled), None)
    return None


def _parse_pose(body: NDArray[np.int64], spec: RobotSpec, chunk: int) -> list[PoseAction] | None:
    bins = body - FIRST_VALUE
    if len(body) != chunk * len(spec.action) or (bins < 0).any() or (bins >= BINS).any():
        return None
    poses = decode_values(bins.reshape(chunk, len(spec.action)), *ranges(spec.action))
    return [PoseAction(pose.astype(np.float32)) for pose in poses]


class SkillTree:
    """Which tokens may come next in a text answer, so that only a skill of the robot can be spelled."""

    def __init__(self, skills: Iterable[str], vocabulary: Vocabulary) -> None:
        self._next: dict[tuple[int, ...], set[int]] = {}
        for skill in skills:
            ids = [*vocabulary.encode_text(skill), EOS]
            for i, token in enumerate(ids):
                self._next.setdefault(tuple(ids[:i]), set()).add(token)

    def allowed(self, written: Sequence[int]) -> list[int]:
        """Return the ids that may follow written, in order; empty after <eos> or where nothing can be spelled."""
        return sorted(self._next.get(tuple(written), ()))
