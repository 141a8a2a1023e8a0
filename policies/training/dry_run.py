"""What a run will need, told before it starts: parameters, tokens, memory, time and disk, measured on its own data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import torch
from torch import Tensor, nn
from tqdm import tqdm

from embodied.output import PROGRESS_AFTER_S
from policies.batch import Batch, pack
from policies.losses import count
from policies.mixture import Mixture
from policies.training.config import TrainConfig
from policies.training.run import Run
from policies.training.team import own

STEPS = 3  # timed, after one that is not
BATCHES = 4  # looked at for their tokens
SUGGESTED = 2  # rows of so many times the longest example, where --pack is not given
FLOAT32, BFLOAT16 = 4, 2  # bytes


@dataclass(frozen=True)
class Tokens:
    """What a step's batch is made of, the mean of a few."""

    examples: int
    real: float
    padded: float  # with one example a row
    packed: float  # with rows of width tokens
    width: int


def describe_run(run: Run, mixture: Mixture) -> str:
    """Return in words what the run will need; its weights are moved by a few steps on the way."""
    config = run.config
    tokens = count_tokens(config, mixture)
    parts = draw(run, mixture, 0)
    activations = measure_activations(run, parts[0])
    seconds = time_steps(run, mixture)
    lines = [*_parameters(run), *_tokens(tokens, config), *_memory(run, activations)]
    lines += _time(seconds, config) + _disk(run)
    return "\n".join(lines)


def draw(run: Run, mixture: Mixture, number: int) -> list[Batch]:
    """Return this process's parts of the batch of that number."""
    config, team = run.config, run.team
    each = config.accumulate
    return [
        mixture.batch(number, size=config.batch, seed=config.seed, rank=team.rank * each + i, world=team.world * each)
        for i in range(each)
    ]


def count_tokens(config: TrainConfig, mixture: Mixture) -> Tokens:
    """Return the tokens of whole batches as the data gives them, padded and packed."""
    batches = [mixture.batch(number, size=config.batch, seed=config.seed) for number in range(BATCHES)]
    longest = max(part.sequences.tokens.shape[1] for batch in batches for part in batch.parts)
    width = config.pack or SUGGESTED * longest
    return Tokens(
        examples=config.batch,
        real=sum(batch.tokens for batch in batches) / BATCHES,
        padded=sum(Batch(batch.parts).room for batch in batches) / BATCHES,
        packed=sum(pack(batch.parts, width).room for batch in batches) / BATCHES,
        width=width,
    )


def measure_activations(run: Run, batch: Batch) -> int:
    """Return how many bytes a forward pass keeps for the backward one, weights not counted."""
    weights = {p.untyped_storage().data_ptr() for p in run.model.parameters() if not hasattr(p, "full_tensor")}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if type(tensor) in (Tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), run.autocast():
        total, _, _ = run.learner(batch, count(batch))  # alive until all is counted
    del total
    return sum(kept.values())


def time_steps(run: Run, mixture: Mixture) -> list[float]:
    """Return how many seconds each of a few steps took, its data made beforehand, after one that warms up."""
    taken = []
    for number in tqdm(range(1 + STEPS), unit="step", desc="timing", delay=PROGRESS_AFTER_S, dynamic_ncols=True):
        parts = draw(run, mixture, number)
        begin_s = time.perf_counter()
        run.learn(parts)
        taken.append(time.perf_counter() - begin_s)
    return taken[1:]


def count_memory(run: Run) -> dict[str, int]:
    """Return the bytes that this process holds of each kind, activations not counted; of what is frozen its own."""
    state, model = run.tensors(), run.model
    moving, moments = ([t for n, t in state.items() if n.startswith(kind)] for kind in ("average.", "optimizer."))
    return {
        "weights": _bytes([*model.parameters(), *model.buffers()]),
        "their average": _bytes(moving),
        "gradients": _bytes([*run.trained.values()]),
        "optimizer": _bytes(moments),
        "copy to save": _bytes([*state.values()]) + FLOAT32 * _count([*run.average.values()]),
    }


def count_disk(run: Run) -> tuple[int, int]:
    """Return the bytes of a state and of the policy, headers not counted; what is frozen is in its folder alone."""
    state = sum(t.numel() * t.element_size() for t in run.tensors().values())
    return state, BFLOAT16 * _count([*run.average.values()])


def _parameters(run: Run) -> list[str]:
    total, trained = _count([*run.model.parameters()]), _count([*run.trained.values()])
    lines = [f"parameters        {total / 1e6:.2f} M, of which trained {trained / 1e6:.2f} M"]
    parts = [(name, [*child.parameters()]) for name, child in run.model.named_children()]
    parts += [(name, [p]) for name, p in run.model.named_parameters(recurse=False)]
    return lines + [f"  {name:<15} {_count(found) / 1e6:.3f} M" for name, found in parts if _count(found)]


def _tokens(tokens: Tokens, config: TrainConfig) -> list[str]:
    chosen = f"packed into rows of {config.pack}" if config.pack else "padded"
    return [
        f"tokens a batch    {tokens.real:.0f} of {tokens.examples} examples; the run has them {chosen}",
        f"  padded          {tokens.real / tokens.padded:.0%} of {tokens.padded:.0f} are real",
        f"  packed          {tokens.real / tokens.packed:.0%} of {tokens.packed:.0f} with --pack {tokens.width}",
    ]


def _memory(run: Run, activations: int) -> list[str]:
    rows = {**count_memory(run), "activations": activations}
    lines = [f"  {name:<15} {size / 1e6:.1f} MB" for name, size in rows.items()]
    return [f"memory            {sum(rows.values()) / 1e6:.0f} MB a process, beside the program and its data", *lines]


def _time(seconds: list[float], config: TrainConfig) -> list[str]:
    step_s = sorted(seconds)[len(seconds) // 2]
    whole = timedelta(seconds=round(step_s * config.steps))
    end = datetime.now().astimezone() + whole
    return [
        f"time              {step_s:.3f} s a step ({', '.join(f'{s:.3f}' for s in seconds)}), "
        f"{config.batch / step_s:.1f} samples/s",
        f"  {config.steps} steps      {whole}, until {end:%Y-%m-%d %H:%M}, without evaluations",
    ]


def _disk(run: Run) -> list[str]:
    state, policy = count_disk(run)
    size = state * (run.config.keep + 1) + 2 * policy
    return [f"disk              {size / 1e6:.0f} MB in {run.config.out} ({run.config.keep + 1} states, a policy)"]


def _count(parameters: Sequence[Tensor]) -> int:
    return sum(p.numel() for p in parameters)


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(own(tensor).nbytes for tensor in tensors)
