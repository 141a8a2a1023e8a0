"""Trains a token policy on demonstrations: resumable, watched on held-out episodes, every number from its seed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from embodied.errors import EmbodiedError
from embodied.recording.reader import DatasetReader
from policies.checkpoint import Checkpoint, load_checkpoint
from policies.data import Batch, Examples, labels_of
from policies.layout import UNSUPERVISED, Plan
from policies.losses import compute_losses, mean_bins
from policies.model import ModelConfig, PolicyModel
from policies.values import decode_values, ranges
from policies.vocabulary import Vocabulary

STATE, LOG = "state.safetensors", "log.jsonl"
EMA_DECAY = 0.999
DECAY_PART = 0.3  # of the steps, at the end, in which the learning rate falls to nothing
WARMUP_STEPS = 200
FIXED = ("batch", "seed", "chunk", "latents")  # what a resumed run may not change


@dataclass(frozen=True)
class TrainConfig:
    """One training run; the same config on the same data gives the same weights."""

    dataset: Path
    out: Path
    steps: int
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    seed: int = 0
    start: Path | None = None  # a checkpoint to go on from; a fresh model otherwise
    chunk: int = 12
    latents: int = 6
    save_every: int = 500

    def account(self, samples: int) -> dict[str, Any]:
        """Return what a checkpoint tells of its training; of a folder its name alone, as a path says whose machine."""
        plain = {k: v.resolve().name if isinstance(v, Path) else v for k, v in asdict(self).items() if k != "out"}
        return {**plain, "samples": samples, "torch": torch.__version__}


def train(config: TrainConfig, *, resume: bool = False, say: Callable[[str], None] = tqdm.write) -> Path:
    """Train, and return the checkpoint's folder, config.out.

    The folder holds the averaged weights as a checkpoint from the first save on, the run's whole state, and
    log.jsonl. Raise EmbodiedError if the folder has a run in it and resume is false, has none or another one and it
    is true, or a number of the config makes no sense.
    """
    _check_numbers(config)
    torch.manual_seed(config.seed)
    _check_out(config.out, resume)
    reader = DatasetReader(config.dataset)
    checkpoint = _go_on(config, reader) if resume else _begin(config, reader)
    run = _Run(config, checkpoint)
    if resume:
        run.load()
    examples = Examples(reader, checkpoint.plan, checkpoint.vocabulary)
    _make_out(config.out)
    count = sum(p.numel() for p in checkpoint.model.parameters())
    say(
        f"{count / 1e6:.2f} M parameters, {len(examples.training_rows)} rows to learn from, "
        f"{len(examples.validation_rows)} held out"
    )
    first = run.step
    batches = examples.training(first, config.steps, size=config.batch, seed=config.seed)
    with tqdm(total=config.steps, initial=first, unit="step", dynamic_ncols=True) as bar:
        for batch in batches:
            loss = run.learn(batch)
            bar.update()
            bar.set_postfix(loss=f"{loss:.2f}", refresh=False)
            if run.step % config.save_every == 0 or run.step == config.steps:
                say(run.report(examples))
                run.save()
    return config.out


class _Run:
    """The state of a run: weights, their moving average, the optimizer, the step."""

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint) -> None:
        self.config, self.checkpoint, self.step = config, checkpoint, 0
        self.model = checkpoint.model.float().train()
        self.average = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        matrices = [p for p in self.model.parameters() if p.ndim >= 2]
        others = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
        self._losses: list[float] = []
        self._began_s, self._began_step = time.monotonic(), 0

    def learn(self, batch: Batch) -> float:
        """Take one step and return the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * _schedule(self.step, self.config.steps)
        with torch.autocast("cpu", torch.bfloat16):
            answers = self.model(batch.sequences, batch.frames)
        loss = compute_losses(self.checkpoint.plan, answers, batch.sequences).total
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        state = self.model.state_dict()
        torch._foreach_lerp_([*self.average.values()], [state[n] for n in self.average], 1 - decay)
        self._losses.append(loss.item())
        if not np.isfinite(self._losses[-1]):
            raise EmbodiedError(f"the loss is {self._losses[-1]} at step {self.step}; lower the learning rate")
        return self._losses[-1]

    def report(self, examples: Examples) -> str:
        """Measure the averaged weights on held-out episodes, append to the log and return a line for people."""
        held_out = self.evaluate(examples)
        spent_s = time.monotonic() - self._began_s
        entry = {
            "step": self.step,
            "loss": float(np.mean(self._losses[-self.config.save_every :])),
            "samples_per_s": round((self.step - self._began_step) * self.config.batch / spent_s, 1),
            **held_out,
        }
        with (self.config.out / LOG).open("a") as log:
            log.write(json.dumps(entry) + "\n")
        return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in entry.items())

    @torch.inference_mode()
    def evaluate(self, examples: Examples) -> dict[str, float]:
        """Return the held-out errors: of the chunk as a fraction of range, of each label in its own unit (median)."""
        model = self.model
        kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.average)
        model.eval()
        pose: list[float] = []
        labels: dict[str, list[Any]] = {}
        for batch in examples.validation(size=64, batches=6):
            with torch.autocast("cpu", torch.bfloat16):
                answers = model(batch.sequences, batch.frames)
            asked = batch.sequences.pose_targets != UNSUPERVISED
            found = mean_bins(answers.pose).numpy()
            pose.append(float(np.abs(found - batch.sequences.pose_targets)[asked].mean()) / 1000)
            for name, errors in _label_errors(self.checkpoint.plan, answers.locate, batch).items():
                labels.setdefault(name, []).append(errors)
        model.load_state_dict(kept)
        model.train()
        medians = {name: float(np.median(np.concatenate(errors))) for name, errors in labels.items()}
        return {"pose_error": float(np.mean(pose)), **medians} if pose else {}

    def save(self) -> None:
        """Write the checkpoint, then the run's state, each file replaced whole."""
        account = self.config.account(self.step * self.config.batch)
        self.checkpoint.with_trained({**account, "step": self.step}).save(self.config.out, self.average)
        tensors = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        tensors |= {f"average.{n}": t for n, t in self.average.items()}
        for name, parameter in self.model.named_parameters():
            state = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer.{key}.{name}": value for key, value in state.items()}
        part = self.config.out / f"{STATE}.part"
        save_file({n: t.detach().contiguous() for n, t in tensors.items()}, part, {"step": str(self.step)})
        part.replace(self.config.out / STATE)

    def load(self) -> None:
        """Read what save wrote; raise EmbodiedError if it is damaged or of another model."""
        path = self.config.out / STATE
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in list(file.keys())}
                self.step = self._began_step = int(file.metadata()["step"])
            self.model.load_state_dict({n: tensors[f"model.{n}"] for n in self.average})
            self.average = {n: tensors[f"average.{n}"] for n in self.average}
        except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise EmbodiedError(
                f"{path} is damaged or of another model ({reason}); begin again in another --out"
            ) from error
        for name, parameter in self.model.named_parameters():
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"optimizer.{key}.{name}" in tensors]
            self.optimizer.state[parameter] = {key: tensors[f"optimizer.{key}.{name}"] for key in keys}


def _check_out(out: Path, resume: bool) -> None:
    if resume and not (out / STATE).is_file():
        raise EmbodiedError(f"nothing to resume in {out}: no {STATE}")
    if not resume and out.is_dir() and any(out.iterdir()):
        raise EmbodiedError(f"{out} is not empty; give another --out, or --resume to go on with the run in it")
    if out.exists() and not out.is_dir():
        raise EmbodiedError(f"{out} is a file; --out takes a folder")


def _make_out(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbodiedError(f"cannot write to {out}: {error.strerror}") from error


def _check_numbers(config: TrainConfig) -> None:
    if not 0 < config.learning_rate < np.inf:
        raise EmbodiedError(f"the learning rate is {config.learning_rate}; it takes a number above 0, such as 1e-3")
    if not 0 <= config.weight_decay < np.inf:
        raise EmbodiedError(f"the weight decay is {config.weight_decay}; it takes a number from 0 up, such as 0.02")


def _go_on(config: TrainConfig, reader: DatasetReader) -> Checkpoint:
    """Return the checkpoint of the run in config.out, whose plan and vocabulary its weights are bound to."""
    run = load_checkpoint(config.out)
    run.plan.spec.require_same(reader.spec, expected=f"the run in {config.out}")
    now = config.account(0)
    if changed := [name for name in FIXED if run.trained.get(name, now[name]) != now[name]]:
        lines = ", ".join(f"{name} {run.trained[name]}, not {now[name]}" for name in changed)
        raise EmbodiedError(
            f"the run in {config.out} began with {lines}; resume it with the same, or give another --out"
        )
    return run


def _begin(config: TrainConfig, reader: DatasetReader) -> Checkpoint:
    words = frozenset(re.findall(r"\w+", " ".join(reader.instructions).lower()))
    if config.start is not None:
        start = load_checkpoint(config.start)
        start.plan.spec.require_same(reader.spec, expected=f"checkpoint {config.start}")
        return Checkpoint(start.model, start.vocabulary, start.words | words, config.account(0))
    vocabulary = Vocabulary.train(
        [*reader.instructions, *reader.spec.skills, *sorted({text for text in reader.text if text})]
    )
    longest = max(len(vocabulary.encode_text(text)) for text in reader.instructions)
    plan = Plan(reader.spec, labels_of(reader), config.chunk, longest + 4, config.latents)
    sizes = ModelConfig(strides=tuple(4 if i == 0 else 8 for i in range(len(reader.spec.cameras))))
    return Checkpoint(PolicyModel(plan, sizes, vocabulary.size), vocabulary, words, config.account(0))


def _schedule(step: int, steps: int) -> float:
    """Warm up, hold, and fall in a straight line to nothing: a run may be lengthened and resumed."""
    return min(1.0, (step + 1) / WARMUP_STEPS, max(0.0, (steps - step) / (DECAY_PART * steps)))


def _label_errors(plan: Plan, logits: Tensor, batch: Batch) -> dict[str, Any]:
    """Return, for each label, the distance (B,) between the point or box believed and the true one."""
    found = mean_bins(logits).numpy()
    errors = {}
    for slot, label in enumerate(plan.labels):
        width = len(label.fields)
        low, high = ranges(label.fields)
        true = batch.sequences.locate_targets[:, slot, :width]
        known = (true != UNSUPERVISED).all(-1)
        gap = decode_values(found[:, slot, :width], low, high) - decode_values(true, low, high)
        if known.any():
            errors[label.name] = np.linalg.norm(gap[known], axis=-1)
    return errors
