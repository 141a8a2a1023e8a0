"""What a collection is to hold: of which robot, which tasks and seeds, and what disturbs the expert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embodied.origin import Origin
from embodied.recording.demonstration import USUAL, Bursts


@dataclass(frozen=True)
class Drive:
    """A policy that acts until the expert takes over."""

    policy: str  # a module, or an address
    checkpoint: Path | None
    options: Mapping[str, Any]
    within: int  # steps in which the expert takes over
    origin: Origin  # what it was made from, wherever it runs

    def fixed(self) -> dict[str, Any]:
        """Return what may not change on the way."""
        made_from = {key: value for key, value in asdict(self.origin).items() if key != "versions"}
        return {**made_from, "within": self.within}


@dataclass(frozen=True)
class Plan:
    """What to collect. Tasks and episodes may grow when a collection is resumed; nothing else may change."""

    robot: str
    options: Mapping[str, Any]
    tasks: tuple[str, ...]
    episodes: int  # seeds attempted a task; those that fail are dropped
    seed: int
    perturb: float
    bursts: Bursts = USUAL
    drive: Drive | None = None
    rehearse: bool = False  # play without frames first, and record what succeeded
    keep: int | None = None  # successes of a task that are enough: the first ones, by seed
    scenes: int = 0  # pictures of each seed's scene, in place of a demonstration

    def fixed(self) -> dict[str, Any]:
        """Return what may not change on the way."""
        fixed = {"robot": self.robot, "options": dict(self.options), "seed": self.seed, "perturb": self.perturb}
        fixed["keep"] = self.keep
        if self.bursts != USUAL:
            fixed["bursts"] = [self.bursts.most, self.bursts.steps]
        if self.scenes:
            fixed["scenes"] = self.scenes
        if self.drive is not None:
            fixed["driver"] = self.drive.fixed()
        return fixed
