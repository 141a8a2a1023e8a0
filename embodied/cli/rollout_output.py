"""What a rollout leaves: its report, summary, episodes, videos, plot and recording, or what a fault left of them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embodied.delay import Execution
from embodied.errors import EmbodiedError
from embodied.loop import Episode
from embodied.report import OPERATED, Report, build_report, delay_entry
from embodied.rollouts import Job
from embodied.summary import summarise, summarise_delays

# In the output folder.
RECORDING = Path("recording")
SPOOLS = RECORDING / "episodes"  # while the rollout runs
VIDEOS = Path("videos")
STRIPS = Path("strips")
DELAYS = Path("delays")
EPISODES = Path("episodes.jsonl")

Results = Mapping[Job, Episode]  # in the order of the jobs


def write(folder: Path, protocol: Mapping[str, Any], results: Results, run: Mapping[str, Any]) -> Report:
    """Write what was asked for, and return the report: the first execution's, with `delays` if there are more.

    protocol is without the execution. Videos and spools are in the folder already, and maybe some of what a write that
    failed had got to.
    """
    by_execution = defaultdict[Execution, list[Episode]](list)
    for job, episode in results.items():
        by_execution[job.execution].append(episode)
    reports = [build_report({**protocol, "execution": e.to_dict()}, by_execution[e], run) for e in by_execution]
    report, summary = reports[0], summarise(reports[0])
    if len(reports) > 1:
        report = {**report, "delays": [delay_entry(each) for each in reports]}
        summary += "\n" + summarise_delays(report["delays"])
        _write_delays(folder, reports)
    _write_report(folder, report, summary)
    (folder / EPISODES).write_text("".join(episode_line(*result) for result in results.items()), encoding="utf-8")
    if videos := [job.video for job in results if job.video and job.video.exists()]:  # of no step there is none
        from embodied.recording.video import contact_sheet, write_png  # --videos 0 needs no av or cv2

        write_png(folder / "contact_sheet.png", contact_sheet(videos))
    _keep_one_strip(results)
    if recorded := [job.recording for job in results if job.recording]:
        from embodied.recording.rollout import join  # nor does --record 0 need pyarrow

        join(recorded, folder / RECORDING, {key: report[key] for key in ("protocol", "protocol_hash", "versions")})
        shutil.rmtree(folder / SPOOLS)
    return report


def _keep_one_strip(results: Results) -> None:
    """Of each task's film strips keep the first failure's, by seed."""
    kept = set[str]()
    for job, episode in results.items():
        if job.strip is not None and job.strip.exists():
            if episode.success or job.task in kept:
                job.strip.unlink()
            else:
                kept.add(job.task)


def episode_line(job: Job, episode: Episode) -> str:
    """Return an episode's line of episodes.jsonl."""
    record = {
        "task": episode.task,
        "seed": episode.seed,
        **job.execution.to_dict(),
        "instruction": episode.instruction,
        "success": episode.success,
        "steps": episode.steps,
        "reward": episode.reward,
        **({"failure": episode.failure.cause} if episode.failure else {}),
        "interventions": len(episode.interventions),
        "dropped": sum(cycle.dropped for cycle in episode.cycles),
        **({OPERATED: n} if (n := episode.policy_counts.get(OPERATED)) else {}),
    }
    return json.dumps(record, ensure_ascii=False) + "\n"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone, however that ends; raise EmbodiedError if another holds it.

    Where the system or its disk knows no such locks, everyone may.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # not on Windows
        yield
        return
    there = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(there, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(there)
        raise EmbodiedError(f"a rollout is still writing to {folder}; end it first") from error
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(there)


def rescue(folder: Path) -> bool:
    """Make a dataset of what was recorded up to a fault, say where it is, and return whether there is anything to keep.

    Where that fails too, as on a full disk, the spools stay for `embodied recover`.
    """
    videos = sorted((folder / VIDEOS).glob("*.mp4"))
    kept = [f"{len(videos)} videos"] if videos else []
    if (folder / EPISODES).exists() and (lines := (folder / EPISODES).read_text(encoding="utf-8").splitlines()):
        kept.append(f"{len(lines)} finished episodes in {EPISODES}")
    if (folder / SPOOLS).exists():
        try:
            kept.append(recover(folder, folder / RECORDING))
            shutil.rmtree(folder / SPOOLS)
        except (EmbodiedError, OSError) as error:
            command = f"embodied recover {folder} --out DIR makes a dataset of it"
            kept.append(f"what was recorded, which could not be joined here ({error}); {command}")
    if kept:
        print(f"kept in {folder}: {', '.join(kept)}", file=sys.stderr)
    return bool(kept)


def recover(folder: Path, out: Path) -> str:
    """Join the spools that a rollout left in folder into a dataset at out, and say what it holds.

    Raise EmbodiedError if there are none, or none with a row.
    """
    from embodied.recording.reader import DatasetReader
    from embodied.recording.rollout import join

    spools = sorted((folder / SPOOLS).glob("*"))
    if not spools:
        raise EmbodiedError(f"{folder} holds no episode of an interrupted rollout (in {SPOOLS})")
    interrupted = join(spools, out, {})
    reader = DatasetReader(out, frames=False)
    cut = "".join(f"; {e['task']} seed {e['seed']} was cut short after {e['frames']} frames" for e in interrupted)
    return f"a dataset of {len(reader.episodes)} episodes, {len(reader)} frames, in {out}{cut}"


def _write_delays(folder: Path, reports: list[Report]) -> None:
    from embodied.recording.delay_plot import plot_delays  # a rollout without --delay-ms needs no matplotlib

    for report in reports:
        execution = report["protocol"]["execution"]
        own = folder / DELAYS / f"{execution['mode']}_{execution['delay_ms']}ms"
        own.mkdir(parents=True, exist_ok=True)
        _write_report(own, report, summarise(report))
    control_hz = reports[0]["protocol"]["robot"]["spec"]["control_hz"]
    plot_delays(folder / "delay.png", [delay_entry(report) for report in reports], control_hz)


def _write_report(folder: Path, report: Report, summary: str) -> None:
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (folder / "summary.md").write_text(summary, encoding="utf-8")
