"""A collection that an operator drives: finished episodes are kept as they end, and joined into a dataset at the end.

Each episode is a spool under staging/ called after its task and seed, so that none can be counted twice. It counts
once it has lost its .partial, in one rename; one that a kill cut short is not kept, and its seed comes again. A seed
that the operator discarded leaves an empty file in its place.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embodied.loop import FIRST_EVALUATION_SEED
from embodied.recording import format as layout
from embodied.recording.rollout import join
from embodied.recording.spool import PARTIAL, SUFFIX, Spool
from embodied.recording.staging import STAGING, begun, check_directory, clear, open_staging, remove_unfinished
from embodied.types import RobotSpec

DISCARDED = ".discarded"
ANY_SEED = "[0-9]" * 6  # a glob: seeds of demonstrations are below 1 000 000


@dataclass(frozen=True)
class Slot:
    """An episode to be recorded, and the spool that it goes to."""

    task: str
    seed: int
    path: Path


class OperatedCollection:
    """A collection in a directory. Raises DatasetError where the directory belongs to something else."""

    def __init__(self, path: Path, fixed: Mapping[str, Any], *, resume: bool = False) -> None:
        """Begin or go on; fixed is what may not change on the way: see fixed_by, or what an earlier session left."""
        check_directory(path, resume=resume)
        self._path, self._fixed = path, dict(fixed)
        self._lock = open_staging(path, self._fixed)
        self._episodes = path / STAGING / "episodes"
        self._episodes.mkdir(exist_ok=True)
        self.interrupted = len(cut_short := list(self._episodes.glob(f"*{PARTIAL}")))
        for spool in cut_short:
            spool.unlink()

    def kept(self, task: str) -> int:
        """Return how many episodes of a task are finished and kept."""
        return len(list(self._episodes.glob(f"{_stem(task, ANY_SEED)}{SUFFIX}")))

    def next(self, task: str) -> Slot:
        """Return the episode that comes next: its seed is the first that was neither kept nor discarded.

        Raise DatasetError where that would be an evaluation's.
        """
        taken = {path.name.partition(".")[0] for path in self._episodes.iterdir()}
        seed: int = self._fixed["seed"]
        while _stem(task, f"{seed:06d}") in taken:
            seed += 1
        if seed >= FIRST_EVALUATION_SEED:
            raise layout.DatasetError(
                self._path, f"no seed is left for {task}: those from {FIRST_EVALUATION_SEED} on are for evaluation"
            )
        return Slot(task, seed, self._episodes / f"{_stem(task, f'{seed:06d}')}{SUFFIX}")

    def again(self, slot: Slot) -> None:
        """Forget what was recorded of an episode that is to be recorded once more."""
        _partial(slot).unlink(missing_ok=True)

    def discard(self, slot: Slot) -> None:
        """Forget an episode for good: its seed does not come again."""
        slot.path.with_suffix(DISCARDED).touch()
        self.again(slot)

    def free_bytes(self) -> int:
        """Return how much room the disk has, less what joining all that was recorded so far will take."""
        recorded = sum(path.stat().st_size for path in self._episodes.glob(f"*{SUFFIX}"))
        return shutil.disk_usage(self._path).free - recorded

    def assemble(self, about: Mapping[str, Any], *, video: str | None = None) -> dict[str, Any]:
        """Join what is kept into one dataset, by task and seed, and return what its collection.json holds.

        Killed at any moment it can be done again: until the dataset is whole, the spools stay. Raise DatasetError if
        there is nothing to join. video is a codec for videos in place of pictures.
        """
        spools = sorted(self._episodes.glob(f"*{SUFFIX}"))
        remove_unfinished(self._path)
        fixed = {name: value for name, value in self._fixed.items() if name != "spec"}  # which has a file of its own
        collection = {**about, **fixed, **self._tally(spools)}
        join(spools, self._path, collection, video=video)
        clear(self._path)
        self.close()
        return collection

    def close(self) -> None:
        """Let other processes into the directory; idempotent."""
        self._lock.close()

    def _tally(self, spools: list[Path]) -> dict[str, Any]:
        """Say of each task what is in the dataset and what is not."""
        tasks: dict[str, dict[str, Any]] = {}
        for path in spools:
            spool = Spool(path)
            assert spool.head is not None
            tally = tasks.setdefault(spool.head.task, {"kept": 0, "successes": 0, "failures": 0, "rows": 0})
            tally["kept"] += 1
            tally["successes" if spool.success else "failures"] += 1
            tally["rows"] += spool.rows
        for task, tally in tasks.items():
            tally["discarded"] = len(list(self._episodes.glob(f"{_stem(task, ANY_SEED)}{DISCARDED}")))
        rule = "finished episodes, marked a success or a failure; discarded and interrupted ones are not"
        return {"kept": rule, "tasks": tasks}


def fixed_by(spec: RobotSpec, seed: int) -> dict[str, Any]:
    """Return what may not change in a collection: seed is that of each task's first episode."""
    return {"operated": True, "seed": seed, "spec": layout.plain(spec.to_dict())}


def fixed_there(path: Path) -> dict[str, Any]:
    """Return what may not change of the collection that a session left; raise DatasetError where there is none."""
    check_directory(path, resume=True)
    fixed = begun(path)
    if "operated" not in fixed:
        raise layout.DatasetError(path, "holds a collection of an expert's; leave --teleop out")
    return fixed


def fixed_again(path: Path, spec: RobotSpec, seed: int) -> dict[str, Any]:
    """Return what may not change of the collection that a session left, for another to go on with.

    The port, the cameras' addresses, and whether the arm is at an address itself may have changed. Raise
    SpecMismatchError where it was of another robot, DatasetError where it began with another seed.
    """
    fixed = fixed_there(path)
    RobotSpec.from_dict(fixed["spec"]).require_same(spec, expected=f"the collection in {path}")
    if seed != fixed["seed"]:
        raise layout.DatasetError(path, f"began with --seed {fixed['seed']}, and this is {seed}")
    return fixed


def _stem(task: str, seed: str) -> str:
    """Return a spool's name without what follows: a task's may hold what a file's may not, and no two share one."""
    safe = "".join(c if c.isalnum() or c == "_" else f"-{ord(c):x}-" for c in task)
    return f"{safe}-{seed}"


def _partial(slot: Slot) -> Path:
    return slot.path.with_name(slot.path.name + PARTIAL)
