"""A collection of demonstrations that can be killed and resumed: parts are kept as they finish, and joined at the end.

A part is some seeds of one task, a small dataset of its own under staging/. The dataset that they become is ordered by
task and seed, and is the same at any number of workers.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from tqdm import tqdm

from embodied.recording import format as layout
from embodied.recording.episode import Episode
from embodied.recording.plan import Plan
from embodied.recording.reader import DatasetReader
from embodied.recording.staging import STAGING, begun, check_directory, clear, open_staging, remove_unfinished
from embodied.recording.workers import Failure, Job, Probe, record
from embodied.recording.writer import DatasetWriter

SEEDS_PER_PART = 25
SEEDS_IN_RESERVE = 5  # of a part that is recorded only where earlier ones had failures


@dataclass(frozen=True)
class Part:
    """Some seeds of one task: the unit in which a collection resumes."""

    task: str
    seeds: range
    path: Path

    @property
    def outcome(self) -> Path:
        """Return the file that is written last: while it is absent the part is not finished."""
        return self.path / "outcome.json"

    @property
    def finished(self) -> bool:
        """Whether nothing of the part is left to record."""
        return self.outcome.exists()


class Collection:
    """A collection in a directory. Raises DatasetError where the directory belongs to something else."""

    def __init__(self, path: Path, plan: Plan, probe: Probe, *, resume: bool = False, finish: bool = False) -> None:
        self._path, self._plan, self._probe = path, plan, probe
        check_directory(path, resume=resume or finish)
        self._fixed = plan.fixed()
        if finish and (driver := begun(path).get("driver")):  # who drove need not be there any more
            self._fixed["driver"] = driver
        seen = {"spec": layout.plain(probe.spec.to_dict()), "labels": dict(probe.label_sizes)}
        self._lock = open_staging(path, {**self._fixed, **seen})
        self.parts = tuple(
            Part(task, seeds, path / STAGING / f"{task}-{seeds.start:06d}-{seeds.stop - 1:06d}")
            for task in plan.tasks
            for seeds in _split(plan)
        )

    def close(self) -> None:
        """Let other processes into the directory; idempotent."""
        self._lock.close()

    def run(self, workers: int) -> int:
        """Record every unfinished part, showing progress, and return the rows recorded.

        Raise DatasetError if not one episode of a first part succeeds.
        """
        total = sum(len(part.seeds) for part in self.parts)
        rows = 0
        with tqdm(total=total, unit="episode", smoothing=0.05) as progress:
            progress.update(sum(len(part.seeds) for part in self.parts if part.finished))
            for parts in self._rounds():
                wanted = [part for part in parts if not part.finished]
                short = [part for part in wanted if not self._enough(part)]  # known only after the rounds before
                total -= sum(len(part.seeds) for part in wanted) - sum(len(part.seeds) for part in short)
                progress.total = total
                rows += self._record(short, workers, progress) if short else 0
        return rows

    def _rounds(self) -> list[list[Part]]:
        """Return the parts in the order of recording: tasks in turn, and in one round where all are wanted."""
        ordered = sorted(self.parts, key=lambda part: part.seeds.start)
        if self._plan.keep is None:
            return [ordered]
        return [list(parts) for _, parts in groupby(ordered, key=lambda part: part.seeds.start)]

    def _enough(self, part: Part) -> bool:
        """Whether the seeds before the part's, all of them recorded, gave what is to be kept of its task."""
        before = [p for p in self.parts if p.task == part.task and p.seeds.start < part.seeds.start and p.finished]
        kept = sum(int(layout.read_json(p.outcome)["kept"]) for p in before)
        return self._plan.keep is not None and kept >= self._plan.keep

    def _record(self, parts: Sequence[Part], workers: int, progress: tqdm[Any]) -> int:
        """Record parts and return their rows; raise DatasetError if not one episode of the first succeeds."""
        part_of: dict[Job, Part] = {(part.task, seed): part for part in parts for seed in part.seeds}
        results: dict[Part, list[Episode | Failure]] = defaultdict(list)
        rows = failed = 0
        for job, result in record(self._plan, self._probe.label_sizes, list(part_of), workers):
            part = part_of[job]
            results[part].append(result)
            if isinstance(result, Failure):
                failed += 1
            else:
                rows += len(result)
            progress.set_postfix(rows=rows, failed=failed)
            progress.update()
            if len(results[part]) == len(part.seeds):
                self._keep(part, results.pop(part))
                if not rows and isinstance(result, Failure):
                    raise layout.DatasetError(self._path, f"not one success in {failed} episodes; {result}")
        return rows

    def assemble(self, about: Mapping[str, Any], *, video: str | None = None) -> dict[str, Any]:
        """Join the finished parts into one dataset, and return what its collection.json holds.

        video is a codec for videos in place of pictures. Raise DatasetError if they hold no episode.
        """
        remove_unfinished(self._path)
        writer = DatasetWriter(self._path, self._probe.spec, label_sizes=self._probe.label_sizes, video=video)
        tasks: dict[str, dict[str, Any]] = {
            task: {"attempted": 0, "kept": 0, "rows": 0, "failed": []} for task in self._plan.tasks
        }
        for part in tqdm([p for p in self.parts if p.finished], unit="part", desc="join"):
            outcome, tally = layout.read_json(part.outcome), tasks[part.task]
            tally["attempted"] += len(part.seeds)
            tally["failed"] += outcome["failed"]
            left = None if self._plan.keep is None else self._plan.keep - tally["kept"]
            for episode in _episodes(part)[:left] if outcome["kept"] and left != 0 else ():
                writer.add(episode)
                tally["kept"] += 1
                tally["rows"] += len(episode)
        collection = {**about, **self._fixed, "episodes": self._plan.episodes, "tasks": tasks}
        writer.finish(collection)
        clear(self._path)
        self.close()
        return collection

    def _keep(self, part: Part, results: Sequence[Episode | Failure]) -> None:
        episodes = sorted((r for r in results if isinstance(r, Episode)), key=lambda e: e.seed)
        failures = sorted((r for r in results if isinstance(r, Failure)), key=lambda f: f.seed)
        shutil.rmtree(part.path, ignore_errors=True)  # of a part whose writing was killed
        if episodes:
            writer = DatasetWriter(part.path, self._probe.spec, label_sizes=self._probe.label_sizes)
            for episode in episodes:
                writer.add(episode)
            writer.finish()
        layout.write_json(part.outcome, {"kept": len(episodes), "failed": [asdict(f) for f in failures]})


def _episodes(part: Part) -> list[Episode]:
    reader = DatasetReader(part.path)
    return [reader.episode(i) for i in range(len(reader.episodes))]


def _split(plan: Plan) -> list[range]:
    """Return the seeds in parts; those that only stand in for failures in small ones, lest too many be recorded."""
    stop = plan.seed + plan.episodes
    enough = stop if plan.keep is None else min(stop, plan.seed + plan.keep)
    starts = [*range(plan.seed, enough, SEEDS_PER_PART), *range(enough, stop, SEEDS_IN_RESERVE)]
    return [range(first, after) for first, after in pairwise([*starts, stop])]
