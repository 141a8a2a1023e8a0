"""Rows of demonstrations as numbers and frames, in a plan's own order of cameras and fields; what lacks is marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.layout import Flags, Gaps

Frames = NDArray[np.uint8]
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """B rows: an observation, the chunk that followed, the labels, a text action."""

    instruction: list[list[int]]  # B lists of text ids
    state: Array  # (B, n), 0 where it is not known
    known: Flags  # (B, n)
    cameras: Flags  # (B, cameras) whether there is a frame
    frames: list[Frames]  # a camera: (B, H, W, 3), zeros where there is none
    past: Frames  # (B, history, H, W, 3) of the first camera, the latest first
    remembered: Flags  # (B, history) whether there was one
    later: Frames  # (B, H, W, 3) of the first camera a chunk later; (B, 0, 0, 3) where nobody asks
    labels: dict[str, Array]  # name: (B, k), NaN where it is not known
    chunk: Array  # (B, steps, n)
    supervised: Flags  # (B, steps, n) what is to be learnt of it
    text: list[list[int]]  # B lists of text ids, empty where nothing was said

    def __len__(self) -> int:
        return len(self.state)

    @property
    def gaps(self) -> Gaps:
        """Return what they lack."""
        return Gaps(self.cameras, self.known, self.remembered)


def join(parts: Sequence[Samples]) -> Samples:
    """Return rows of several datasets of one embodiment as one; a label that one of them lacks is not known there."""
    names = {name: values.shape[1] for part in parts for name, values in part.labels.items()}

    def labels(part: Samples, name: str, width: int) -> Array:
        return part.labels.get(name, np.full((len(part), width), np.nan, np.float32))

    def all_of(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(part, name) for part in parts])

    arrays = ("state", "known", "cameras", "past", "remembered", "later", "chunk", "supervised")
    return Samples(
        instruction=[ids for part in parts for ids in part.instruction],
        text=[ids for part in parts for ids in part.text],
        frames=[np.concatenate(camera) for camera in zip(*[part.frames for part in parts], strict=True)],
        labels={n: np.concatenate([labels(part, n, width) for part in parts]) for n, width in names.items()},
        **{name: all_of(name) for name in arrays},  # type: ignore[arg-type]
    )
