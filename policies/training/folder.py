"""The folder of a run: what is logged there, and what it tells a reader who comes upon it."""

from __future__ import annotations

import importlib
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from embodied.errors import EmbodiedError
from embodied.recording.training_plot import draw_curves, draw_gaze
from embodied.versions import installed
from policies.checkpoint import CONFIG, WEIGHTS
from policies.training.config import TrainConfig
from policies.training.evaluation import Sample, describe
from policies.training.run import Learnt
from policies.training.start import Data

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

STATE, LOG, LOSSES, EVENTS, SAMPLES = "state", "log.jsonl", "losses.jsonl", "events", "samples"
PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "embodied-runtime")
README, CURVES = "README.md", "curves.png"
BEFORE_A_SAVE = (README, LOSSES, EVENTS, STATE)  # what a run has written by then
REDRAW_S = 60.0


def check_out(out: Path, resume: bool, state: Path | None) -> None:
    """Raise EmbodiedError unless out is free for a new run, or has one to resume, as asked; state is its newest one.

    Free is also the folder of a run that ended before it had saved anything: nothing in it is worth keeping.
    """
    if out.exists() and not out.is_dir():
        raise EmbodiedError(f"{out} is a file; --out takes a folder")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    vain = LOSSES in names and state is None and all(name in BEFORE_A_SAVE or name.endswith(".part") for name in names)
    if resume and vain:
        raise EmbodiedError(f"nothing to resume in {out}: its run had saved nothing; leave out --resume to begin again")
    if resume and state is None:
        raise EmbodiedError(f"nothing to resume in {out}: no {STATE}{_policy_at(out)}")
    if not resume and names and not vain:
        instead = "or --resume to go on with the run in it" if state else f"which is to be new{_policy_at(out)}"
        raise EmbodiedError(f"{out} is not empty; give another --out, {instead}")


def _policy_at(out: Path) -> str:
    there = (out / CONFIG).is_file() and (out / WEIGHTS).is_file()
    return f"; it has a policy, from which --start {out} with another --out goes on" if there else ""


def make_out(out: Path) -> None:
    """Make the folder; raise EmbodiedError if it cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbodiedError(f"cannot write to {out}: {error.strerror}") from error


class Folder:
    """Writes logs, TensorBoard files, pictures and a README; what a run that was cut short logged beyond step goes."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        for name in (LOG, LOSSES):
            _cut(path / name, step)
        self._losses = (path / LOSSES).open("a", buffering=1)
        self._events = _open_events(path / EVENTS, step)
        self._drawn_s = time.monotonic()

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._draw()
        self._losses.close()
        if self._events is not None:
            self._events.close()

    def learnt(self, step: int, learnt: Learnt) -> None:
        """Log one step, its numbers to the last bit."""
        self._losses.write(json.dumps({"step": step, "loss": learnt.loss, **learnt.terms}) + "\n")

    def log(self, entry: Mapping[str, Any]) -> None:
        """Log what is known at a save, and draw the curves anew from time to time."""
        with (self.path / LOG).open("a") as file:
            file.write(json.dumps(entry) + "\n")
        if self._events is not None:
            for name, value in entry.items():
                if isinstance(value, float):
                    self._events.add_scalar(name.replace("held_out_", "held_out/"), value, entry["step"])
            self._events.flush()
        if time.monotonic() - self._drawn_s > REDRAW_S:
            self._draw()

    def show(self, step: int, samples: Sequence[Sample]) -> None:
        """Write what the policy answers to a few examples, and where its image tokens look."""
        folder = self.path / SAMPLES
        folder.mkdir(exist_ok=True)
        (folder / f"{step:08d}.txt").write_text(describe(samples), encoding="utf-8")
        seen = [sample for sample in samples if sample.looked and sample.frames]
        if seen:
            draw_gaze(folder / f"{step:08d}.png", [(s.instruction, s.frames[0], s.looked[0]) for s in seen])
        if self._events is not None:
            self._events.add_text("samples", "```\n" + describe(samples) + "\n```", step)

    def explain(self, config: TrainConfig, data: Data, *, parameters: int, world: int) -> None:
        """Write the README."""
        (self.path / README).write_text(_readme(config, data, parameters, world), encoding="utf-8")

    def _draw(self) -> None:
        self._drawn_s = time.monotonic()
        entries = read_lines(self.path / LOG)
        if len(entries) > 1:  # one point is no curve
            draw_curves(self.path / CURVES, entries)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines; a last line that was cut short is none."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _cut(path: Path, step: int) -> None:
    lines = [entry for entry in read_lines(path) if entry["step"] <= step]
    if path.is_file():
        path.write_text("".join(json.dumps(entry) + "\n" for entry in lines), encoding="utf-8")


def _open_events(path: Path, step: int) -> SummaryWriter | None:
    """Return TensorBoard's writer, None where it is not installed."""
    try:
        module = importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return None
    writer: SummaryWriter = module.SummaryWriter(str(path), purge_step=step + 1, flush_secs=30)
    return writer


def _readme(config: TrainConfig, data: Data, parameters: int, world: int) -> str:
    sources = [
        f"| {r.path.resolve().name} | {r.spec.name} | {len(r.episodes)} | {len(r)} | {_size(r.path):.1f} |"
        for r in data.readers
    ]
    versions = installed(PACKAGES)
    robot, policy = data.readers[0].spec.name, f"--policy policies.token --checkpoint {config.out}"
    return "\n".join(
        [
            f"# {config.out.resolve().name}",
            "",
            "A policy in training, and everything that it was made with.",
            "",
            "| file | what it is |",
            "|---|---|",
            "| config.json, model.safetensors, tokenizer.json | the policy: averaged weights, usable at any time |",
            f"| {LOG}, {CURVES} | what was measured at every save |",
            f"| {LOSSES} | the loss of every step |",
            f"| {SAMPLES}/ | held-out examples answered, and where the image tokens looked |",
            f"| {EVENTS}/ | the same for TensorBoard: `tensorboard --logdir {config.out}` |",
            f"| {STATE}/ | weights, their average, optimizer and position, to go on from |",
            "",
            "```",
            config.command(world=world),
            f"{config.command(world=world)} --resume",
            f"embodied rollout --robot MODULE {policy} --task all --episodes 50 --out runs/evaluation",
            f"embodied serve policies.token --checkpoint {config.out}",
            "```",
            "",
            "The first line began it, the second goes on after a crash or for more --steps, the third evaluates it on",
            f"the module of its robot, {robot}, the fourth serves it.",
            "",
            "| dataset | robot | episodes | rows | MB |",
            "|---|---|---|---|---|",
            *sources,
            "",
            f"{parameters / 1e6:.2f} M parameters. {', '.join(f'{k} {v}' for k, v in versions.items())}.",
            f"Code: {_commit() or 'not under git'}.",
            "",
            "Parameters of the run:",
            "",
            "```json",
            json.dumps(config.account(config.steps * config.batch), indent=1),
            "```",
            "",
        ]
    )


def _size(path: Path) -> float:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
