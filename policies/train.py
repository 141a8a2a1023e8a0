"""Trains a token policy on demonstrations: resumable, watched on held-out episodes, every number from its seed.

One process or several (torchrun): the whole batch of a step is the same, and so is what is learnt from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from embodied.machine import cores
from policies.batch import Batch
from policies.losses import Objective
from policies.mixture import Mixture
from policies.training.config import Given, RolloutPlan, TrainConfig
from policies.training.dry_run import describe_run
from policies.training.faults import naming_faults
from policies.training.folder import STATE, Folder, check_out, make_out
from policies.training.form import settle, tell_changes
from policies.training.precision import Precision, faster_precision
from policies.training.run import Run
from policies.training.saving import Saver, newest, read_state
from policies.training.start import Data, begin, go_on, mix
from policies.training.team import Team, join_team
from policies.training.watch import Watch

__all__ = ("Given", "Objective", "RolloutPlan", "TrainConfig", "dry_run", "train")

Say = Callable[[str], None]


def train(config: TrainConfig, *, resume: bool = False, say: Say = tqdm.write) -> Path:
    """Train, and return the checkpoint's folder, config.out.

    The folder holds the averaged weights as a checkpoint from the first save on, the run's whole state, logs, and a
    README. Raise EmbodiedError if the folder has a run in it and resume is false, has none or another one and it is
    true, a number of the config makes no sense, or memory or disk do not suffice.
    """
    with join_team() as team, naming_faults(config):
        run, mixture, data = _prepare(config, team, resume, say)
        with _writing(run, data, team) as (folder, saver), Watch(run, mixture, folder, say) as watch:
            if team.leads:
                say(_sizes(run, mixture))
            for parts in watch.steps(_batches(run, mixture)):
                learnt = run.learn(parts)
                watch.learnt(parts, learnt)
                saver.check()
                if run.step % config.save_steps == 0 or run.step == config.steps:
                    _save(run, saver)  # first: whatever becomes of the report, these steps are kept
                    watch.report()
                    watch.saved(saver)
    return config.out


def dry_run(config: TrainConfig, *, resume: bool = False) -> str:
    """Return in words what the run would need: parameters, tokens, memory, time and disk. Nothing is written."""
    notes: list[str] = []
    with join_team() as team, naming_faults(config):
        run, mixture, _ = _prepare(config, team, resume, notes.append)
        return "\n".join([*notes, describe_run(run, mixture)])


def _prepare(config: TrainConfig, team: Team, resume: bool, say: Say) -> tuple[Run, Mixture, Data]:
    """Return what is trained and on what, everything checked and nothing written."""
    config.require_sense(team.world)
    torch.manual_seed(config.seed)
    state = newest(config.out / STATE)
    check_out(config.out, resume, state)
    data = Data.open(config.data)
    checkpoint = go_on(config, data) if resume else begin(config, data)
    config = settle(config, checkpoint)
    config = _decided(config, team, checkpoint.trained["precision"] if resume else "auto")
    if resume and team.leads and (changes := tell_changes(config, checkpoint)):
        say(changes)
    mixture = mix(config, data, checkpoint)
    checkpoint.model.freeze_unused(mixture.plans, mixture.cameras, rebuild=config.denoise > 0)
    run = Run(config, checkpoint, team)
    if resume and state is not None:
        tensors = run.tensors()
        read_state(state, tensors, team)
        run.load(tensors)
    return run, mixture, data


def _decided(config: TrainConfig, team: Team, before: Precision) -> TrainConfig:
    """Return the config with its precision settled: as said, else as in the run that goes on, else the faster one."""
    if config.precision != "auto" or before != "auto":
        return replace(config, precision=before if config.precision == "auto" else config.precision)
    (votes,) = team.sum([float(faster_precision(team.device) == "bf16")])  # all processes must do the same
    return replace(config, precision="bf16" if 2 * votes > team.world else "fp32")


@contextlib.contextmanager
def _writing(run: Run, data: Data, team: Team) -> Iterator[tuple[Folder | None, Saver]]:
    """Yield the run's folder, None on all processes but the first, and what saves there; wait for the last save."""
    team.meet()  # none makes the folder before all have seen that it was free
    if team.leads:
        make_out(run.config.out)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(Folder(run.config.out, run.step)) if team.leads else None
        if folder:
            count = sum(p.numel() for p in run.model.parameters())
            folder.explain(run.config, data, parameters=count, world=team.world)
        saver = Saver(run.config.out / STATE, team, keep=run.config.keep, shard=run.config.shard)
        yield folder, stack.enter_context(saver)


def _batches(run: Run, mixture: Mixture) -> Iterator[tuple[Batch, ...]]:
    """Yield this process's parts of each batch that is left, those of one step together."""
    config, team, each = run.config, run.team, run.config.accumulate
    # A GPU learns faster than one core decodes frames; on a CPU the cores are learning's own.
    threads = max(1, cores() // (team.world * each)) if team.device.type == "cuda" else 1
    streams = [
        mixture.training(
            run.step,
            config.steps,
            size=config.batch,
            seed=config.seed,
            rank=team.rank * each + i,
            world=team.world * each,
            threads=threads,
        )
        for i in range(each)
    ]
    return zip(*streams, strict=True)


def _save(run: Run, saver: Saver) -> None:
    checkpoint, weights = run.export()
    saver.save(run.step, run.tensors(), lambda: checkpoint.save(run.config.out, weights))


def _sizes(run: Run, mixture: Mixture) -> str:
    count = sum(p.numel() for p in run.model.parameters())
    rows = [source.data.training_rows for source in mixture.sources]
    held_out = [getattr(source.data, "validation_rows", ()) for source in mixture.sources]
    return (
        f"{count / 1e6:.2f} M parameters, {sum(map(len, rows))} rows to learn from, {sum(map(len, held_out))} held out"
    )
