"""The state of a run, weights, their moving average and the optimizer, and the one step that moves it on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from embodied.errors import EmbodiedError
from policies.batch import Batch
from policies.checkpoint import Checkpoint
from policies.losses import count
from policies.training.config import TrainConfig
from policies.training.team import Learner, Team, blocks, gradients_summed, own, spread, whole

EMA_DECAY = 0.999
CLIP_NORM = 1.0
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Learnt:
    """What a step came to: the loss of the whole batch, and its terms."""

    loss: float
    terms: Mapping[str, float]


class Run:
    """What is trained, and how far it is."""

    def __init__(self, config: TrainConfig, checkpoint: Checkpoint, team: Team) -> None:
        self.config, self.checkpoint, self.team, self.step = config, checkpoint, team, 0
        self.model = checkpoint.model.float().to(team.device).train()
        self.learner = Learner(self.model, config.objective)
        if config.compile:
            for block in blocks(self.model):
                block.compile(dynamic=True)
        self.spread = spread(self.learner, team, shard=config.shard)
        self.trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad and p.numel()}
        state, trained = self.model.state_dict(), set(map(id, self.trained.values()))
        # By name, tied ones' too: where a tensor lies tells nothing of one that this process has no part of.
        moving = {n for n, p in self.model.named_parameters(remove_duplicate=False) if id(p) in trained}
        self._moving = [name for name in state if name in moving]
        # What is frozen is its own average, and may be a large language model: it is not kept twice.
        self.average = {name: t.detach().clone() if name in self._moving else t for name, t in state.items()}
        matrices = [p for p in self.trained.values() if p.ndim >= 2]
        others = [p for p in self.trained.values() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)

    def learn(self, parts: Sequence[Batch]) -> Learnt:
        """Take one step on a batch, given as this process's parts of it, and return what the whole batch came to."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        learnt = self._compute_gradients(parts)
        if not np.isfinite(learnt.loss):
            raise EmbodiedError(f"the loss is {learnt.loss} at step {self.step + 1}; lower the learning rate")
        for parameter in self.trained.values():
            if parameter.grad is None:  # whatever a batch leaves unused, in any number of parts, moves on alike
                parameter.grad = torch.zeros_like(parameter)
        torch.nn.utils.clip_grad_norm_(self.trained.values(), CLIP_NORM)
        self.optimizer.step()
        self.step += 1
        self._average()
        return learnt

    def autocast(self) -> torch.autocast:
        """Return a context in which matrices are multiplied in the config's precision."""
        return torch.autocast(self.team.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the model have its averaged weights within, and answer as it would when acting."""
        state = self.model.state_dict()
        kept = {name: own(tensor).clone() for name, tensor in state.items()}
        _fill(state, self.average)
        self.model.eval()
        try:
            yield
        finally:
            _fill(self.model.state_dict(), kept)
            self.model.train()

    def tensors(self) -> dict[str, Tensor]:
        """Return the whole state by name, tensors alone; of shards those of this process."""
        found = {f"model.{n}": t for n, t in self.model.state_dict().items()}
        found |= {f"average.{n}": self.average[n] for n in self._moving}
        for name, parameter in self.trained.items():
            state = self.optimizer.state[parameter] or _no_moments(parameter)
            found |= {f"optimizer.{key}.{name}": state[key] for key in MOMENTS}
        return {**found, "position": torch.tensor([self.step, self.config.seed])}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what tensors() returned after it was filled anew."""
        self.step = int(tensors["position"][0])
        for name, parameter in self.trained.items():
            self.optimizer.state[parameter] = {key: tensors[f"optimizer.{key}.{name}"] for key in MOMENTS}

    def export(self) -> tuple[Checkpoint, dict[str, Tensor]]:
        """Return what a policy needs, to be saved: the checkpoint, and copies of its averaged weights.

        Every process must call it.
        """
        account = self.config.account(self.step * self.config.batch)
        weights = {name: whole(tensor).detach().cpu().clone() for name, tensor in self.average.items()}
        return self.checkpoint.with_trained({**account, "step": self.step}), weights

    def _compute_gradients(self, parts: Sequence[Batch]) -> Learnt:
        weights, team = self.config.objective.weights, self.team
        names = [*weights]
        counted = [count(part) for part in parts]
        sums = team.sum([sum(each.get(name, 0) for each in counted) for name in names])
        counts = {name: int(total) for name, total in zip(names, sums, strict=True)}
        results = np.zeros(1 + len(names))
        for index, part in enumerate(parts):
            # What is drawn at random, as by dropout, is told by the step and the part, so nothing of it need be kept.
            torch.manual_seed(hash((self.config.seed, self.step, team.rank * len(parts) + index)))
            with gradients_summed(self.spread, now=index == len(parts) - 1):
                with self.autocast():
                    total, terms, _ = self.spread(part, counts)
                # Gradients are averaged over the processes, and are to be summed: the counts are everyone's.
                torch.autograd.backward(total * team.world)
            results += [float(total.detach()), *(float(terms[n].detach()) if n in terms else 0.0 for n in names)]
        loss, *sums = team.sum(results.tolist())
        return Learnt(
            loss, {name: value for name, value in zip(names, sums, strict=True) if counts[name] and weights[name]}
        )

    def _average(self) -> None:
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        state = self.model.state_dict()
        averages, weights = ([own(source[n]) for n in self._moving] for source in (self.average, state))
        torch._foreach_lerp_(averages, weights, 1 - decay)


def _fill(state: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        own(tensor).copy_(own(weights[name]))


def _no_moments(parameter: Tensor) -> dict[str, Tensor]:
    moments = {key: torch.zeros_like(parameter) for key in MOMENTS[1:]}
    return {**moments, "step": torch.zeros((), dtype=torch.float32, device=own(parameter).device)}
