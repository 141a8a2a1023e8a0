"""One training run as numbers and paths: what it learns from, for how long, and what it may not change on the way."""

from __future__ import annotations

import math
import shlex
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch

from embodied.errors import EmbodiedError
from policies.backbones.folder import Adapt, Backbone
from policies.losses import Objective
from policies.training.precision import Precision

WARMUP_STEPS = 200
DECAY_PART = 0.3  # of the steps, at the end, in which the learning rate falls to nothing
CHUNK, LATENTS, RANK = 12, 6, 16  # of a fresh model, where nothing is said
SAVES, SAVE_STEPS = 10, (10, 500)  # in a run, and the fewest and most steps between two: each is measured as well
FIXED = ("batch", "seed", "denoise", "refuse")  # what a resumed run may not change, beside what its model is made with
USUAL = {"chunk": CHUNK, "latents": LATENTS, "history": 0, "adapt": "lora", "rank": RANK}
UNTOLD = ("out", "save_every", "keep", "rollout")  # what a checkpoint does not tell: nothing learnt depends on it
PRECISIONS = ("auto", "bf16", "fp32")


@dataclass(frozen=True)
class Given:
    """A dataset's folder, or a file of text, and how often a batch draws from it."""

    path: Path
    weight: float = 1.0  # beside the square root of its size
    share: float | None = None  # of every batch, whatever its size: old data is replayed so

    def __str__(self) -> str:
        part = f":{self.share:.3%}".replace(".000", "") if self.share is not None else f":{self.weight:g}"
        return str(self.path) if (self.weight, self.share) == (1.0, None) else f"{self.path}{part}"


@dataclass(frozen=True)
class RolloutPlan:
    """Rollouts of the policy as it is, while it is trained."""

    robot: str  # a module
    every: int = 0  # steps; 0: at every save
    episodes: int = 5  # a task
    task: str = "all"


@dataclass(frozen=True)
class TrainConfig:
    """One training run; the same config on the same data gives the same weights."""

    data: tuple[Given, ...]
    out: Path
    steps: int
    batch: int = 64  # examples of a step, of all processes together
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    seed: int = 0
    start: Path | None = None  # a checkpoint to go on from; a fresh model otherwise
    eye: Path | None = None  # a checkpoint whose trained eye a fresh model begins with
    chunk: int | None = None  # this and what else of the model is None: as start has it, or as is usual
    latents: int | None = None
    save_every: int = 0  # steps; 0: a tenth of them, within SAVE_STEPS
    texts: tuple[Given, ...] = ()
    history: int | None = None  # earlier frames of the first camera
    pack: int = 0  # tokens of a row that examples are packed into; 0: one example a row, padded
    accumulate: int = 1  # parts that a batch is learnt from one after the other
    warmup: int = WARMUP_STEPS
    decay: float = DECAY_PART
    precision: Precision = "auto"
    compile: bool = False
    shard: bool = False  # weights, gradients and optimizer spread over the processes
    denoise: float = 0.0  # of the examples, of which something is hidden and to be told
    refuse: float = 0.0  # of the demonstrations, which are told another task's sentence and taught to stay put
    shrink: float | None = None  # side of the frames that the model looks at, as a part of theirs
    keep: int = 2  # the last states of the run that stay
    objective: Objective = field(default_factory=Objective)
    rollout: RolloutPlan | None = None
    backbone: Path | None = None  # a folder with a pretrained decoder or image-text model; a fresh trunk otherwise
    vision: Path | None = None  # a folder with a pretrained vision encoder
    adapt: Adapt | None = None  # what of them is trained
    rank: int | None = None  # of LoRA's matrices
    bits: Literal[4, 8] | None = None  # of their frozen weights

    @property
    def save_steps(self) -> int:
        """Return how many steps lie between two saves."""
        fewest, most = SAVE_STEPS
        return self.save_every or min(most, max(fewest, math.ceil(self.steps / SAVES)))

    def pretrained(self, folder: Path | None) -> Backbone | None:
        """Return how the model in a folder is to be adapted; None where there is no folder."""
        rank = self.rank or RANK
        return Backbone(str(folder), self.adapt or "lora", rank, 2 * rank, bits=self.bits) if folder else None

    def account(self, samples: int) -> dict[str, Any]:
        """Return what a checkpoint tells of its training; of a folder its name alone, as a path says whose machine."""
        names = [given.path.resolve().name for given in self.data]
        told = {k: v for k, v in asdict(self).items() if k not in (*UNTOLD, "data")}
        return {
            **told,
            "dataset": names[0] if len(names) == 1 else names,
            "texts": [given.path.resolve().name for given in self.texts],
            **{
                name: path.resolve().name if (path := getattr(self, name)) else None
                for name in ("start", "eye", "backbone", "vision")
            },
            "samples": samples,
            "torch": torch.__version__,
        }

    def command(self, *, world: int = 1) -> str:
        """Return the command line that begins this run."""
        parts = [f"torchrun --nproc-per-node {world} -m -- embodied finetune" if world > 1 else "embodied finetune"]
        parts += [f"--dataset {shlex.quote(str(given))}" for given in self.data]
        parts += [f"--text {shlex.quote(str(given))}" for given in self.texts]
        parts += [f"--out {shlex.quote(str(self.out))}", f"--steps {self.steps}"]
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in ("data", "texts", "out", "steps", "objective", "rollout"):
                continue
            if value in (each.default, USUAL.get(each.name, each.default)):
                continue
            flag = f"--{each.name.replace('_', '-')}"
            parts.append(flag if value is True else f"{flag} {shlex.quote(str(value))}")
        weights, usual = asdict(self.objective), asdict(Objective())
        parts += [f"--weight {name}={value:g}" for name, value in weights.items() if value != usual[name]]
        if self.rollout:
            parts.append(f"--rollout {self.rollout.robot} --rollout-every {self.rollout.every}")
            parts.append(f"--rollout-episodes {self.rollout.episodes} --rollout-task {self.rollout.task}")
        return " ".join(parts)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: warm up, hold, and fall in a straight line to nothing.

        A run may so be lengthened and resumed.
        """
        rising = (step + 1) / self.warmup if self.warmup else 1.0
        falling = (self.steps - step) / (self.decay * self.steps) if self.decay else 1.0
        return self.learning_rate * min(1.0, rising, max(0.0, falling))

    def require_sense(self, world: int) -> None:
        """Raise EmbodiedError naming the first number that makes no sense, and what it takes."""
        for what, value, good, takes in self._checks(world):
            if not good:
                raise EmbodiedError(f"the {what} is {value}; it takes {takes}")

    def _checks(self, world: int) -> list[tuple[str, object, bool, str]]:
        each, weights = world * self.accumulate, asdict(self.objective)
        return [
            (
                "learning rate",
                self.learning_rate,
                0 < self.learning_rate < math.inf,
                "a number above 0, such as 1e-3",
            ),
            ("weight decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "a number from 0 up, such as 0.02"),
            ("warm-up", self.warmup, self.warmup >= 0, "a number of steps from 0 up"),
            ("decay", self.decay, 0 <= self.decay <= 1, "a part of the steps, from 0 to 1"),
            ("share of denoising", self.denoise, 0 <= self.denoise < 1, "a number from 0 to below 1"),
            ("share of refusals", self.refuse, 0 <= self.refuse < 1, "a number from 0 to below 1"),
            ("shrink", self.shrink, self.shrink is None or 0 < self.shrink <= 1, "a number from above 0 to 1"),
            ("precision", self.precision, self.precision in PRECISIONS, f"one of {list(PRECISIONS)}"),
            *((f"batch of {world} processes and --accumulate {self.accumulate}", self.batch, not self.batch % each,
               f"a multiple of {each}") for _ in range(1)),
            *(("number of steps between rollouts", plan.every, not plan.every % self.save_steps,
               f"a multiple of the {self.save_steps} between two saves, which --save-every sets")
              for plan in [self.rollout] if plan is not None),
            *((f"weight of {given.path}", given.weight, 0 < given.weight < math.inf, "a number above 0")
              for given in (*self.data, *self.texts)),
            *((f"share of {given.path}", given.share, 0 < given.share < 1, "a percentage between 0 and 100")
              for given in (*self.data, *self.texts) if given.share is not None),
            *((f"weight of {name}", value, 0 <= value < math.inf, "a number from 0 up")
              for name, value in weights.items()),
        ]  # fmt: skip
