"""Records what a policy did: each watched episode goes to a spool as it runs, and spools are joined into a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied.errors import InvalidActionError, InvalidObservationError
from embodied.recording import format as layout
from embodied.recording.spool import Flags, Head, Spool, SpoolWriter
from embodied.recording.writer import DatasetWriter
from embodied.types import Action, Observation, Policy, PoseAction, RobotSpec, Step, Vector


class RolloutRecorder:
    """An Observer that spools one episode to path: the actions that were commanded, whether it succeeds or not.

    A row is `perturbed` where the robot's side carried out something else, or nothing. Where time is real that is told
    only by the step after, so that the row before is marked too: see Spool.episode. A row's
    labels are those of the Step before it, which a robot gives over gRPC too, so the first row has none and a recording
    does not depend on where the robot is.
    A context manager: an episode that does not end stays readable up to its last step.
    """

    def __init__(
        self,
        path: Path,
        spec: RobotSpec,
        *,
        task: str,
        seed: int,
        instruction: str | None = None,
        policy: Policy | None = None,
    ) -> None:
        """Record to path. Of a policy that says when an operator acts in its place those rows are marked."""
        self._path, self._spec, self._policy = path, spec, policy
        self._task, self._seed, self._instruction = task, seed, instruction
        self._labels: Mapping[str, Vector] = {}
        self._marked = False
        self._spool: SpoolWriter | None = None

    def began(self, observation: Observation) -> None:
        """Begin the episode with the instruction that the policy was given: the robot's own unless another was."""
        instruction = self._instruction or observation.instruction.strip()
        self._spool = SpoolWriter(self._path, Head(self._spec, self._task, self._seed, instruction))
        self._observation = observation

    def stepped(self, action: Action, step: Step) -> None:
        """Write a row.

        Raise InvalidActionError for anything but a pose, which the format has no column for, InvalidObservationError
        where a camera's frame is missing, and DatasetError where the disk is full.
        """
        assert self._spool is not None
        if not isinstance(action, PoseAction):
            raise InvalidActionError(f"a recording takes poses, and the policy said {action}; leave --record out")
        if missing := [c.name for c in self._spec.cameras if c.name not in self._observation.frames]:
            raise InvalidObservationError(f"{self._spec.name} sent no frame of {missing}; it cannot be recorded")
        flags = Flags(
            perturbed=bool(step.interventions or step.dropped or not step.executed),
            intervention=bool(getattr(self._policy, "intervening", False)),
            marker=self._marked,
        )
        self._spool.add(self._observation, action.values, step, labels=self._labels, flags=flags)
        self._observation, self._labels, self._marked = step.observation, step.labels, False

    def mark(self) -> None:
        """Mark the next row, for whoever looks for it in the dataset."""
        self._marked = True

    def ended(self, success: bool) -> None:
        """Mark the episode as whole."""
        assert self._spool is not None
        self._spool.finish(success)

    def close(self) -> None:
        """Close the file; an episode that did not end is then an interrupted one. Idempotent."""
        if self._spool is not None:
            self._spool.close()

    def __enter__(self) -> RolloutRecorder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def join(
    spools: Sequence[Path], path: Path, about: Mapping[str, Any], *, video: str | None = None
) -> list[dict[str, Any]]:
    """Write the episodes of spools, in their order, as one dataset at path; about becomes its collection.json.

    A label that only some have is NaN in the others. An interrupted episode is one that failed; collection.json lists
    them as `interrupted` if there are any, and they are returned. Spools without a whole row are left out. Raise
    DatasetError if path already holds a dataset, or no spool has a row.
    """
    read = [spool for spool in map(Spool, spools) if spool.head is not None and spool.rows]
    heads = [spool.head for spool in read if spool.head is not None]
    if not heads:
        raise layout.DatasetError(path, "no episode to write")
    sizes = {name: size for spool in read for name, size in spool.label_sizes.items()}
    writer = DatasetWriter(path, heads[0].spec, label_sizes=sizes, video=video)
    for spool in read:
        writer.add(spool.episode(sizes))
    interrupted = [
        {"task": head.task, "seed": head.seed, "frames": spool.rows}
        for spool, head in zip(read, heads, strict=True)
        if spool.interrupted
    ]
    writer.finish({**about, "interrupted": interrupted} if interrupted else about)
    return interrupted
