"""The processes that train together: who this one is, what they sum up, and a model that is spread over them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from embodied.errors import EmbodiedError
from policies.batch import Batch
from policies.losses import Objective, compute_losses
from policies.model import Answers, PolicyModel

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Team:
    """One process among world; the first of them, rank 0, writes and shows."""

    rank: int = 0
    world: int = 1
    device: torch.device = CPU

    @property
    def leads(self) -> bool:
        """Return whether this is the process that writes and shows."""
        return self.rank == 0

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """Return the sums over all processes; each must call it, with as many numbers."""
        if self.world == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(total)
        sums: list[float] = total.tolist()
        return sums

    def meet(self) -> None:
        """Wait until every process is here."""
        if self.world > 1:
            dist.barrier()


@contextlib.contextmanager
def join_team() -> Iterator[Team]:
    """Yield the team that torchrun started, over gloo, or nccl on GPUs; without torchrun a team of one.

    A process group that there is already is used, and left. Raise EmbodiedError for more processes than GPUs.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else CPU
    if device.type == "cuda" and local >= (gpus := torch.cuda.device_count()):
        raise EmbodiedError(f"process {local} of this machine has no GPU of its own: torchrun --nproc-per-node {gpus}")
    if "WORLD_SIZE" not in os.environ and not dist.is_initialized():
        yield Team(device=device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    found = dist.is_initialized()
    if not found:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(dist.get_rank(), dist.get_world_size(), device)
    finally:
        if not found:
            dist.destroy_process_group()


class Learner(nn.Module):
    """A model and what it minimises as one module, so that a spread model's losses are made where its weights are."""

    def __init__(self, model: PolicyModel, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective, self.touch = model, objective, False

    def forward(self, batch: Batch, counts: Mapping[str, int]) -> tuple[Tensor, dict[str, Tensor], list[Answers]]:
        """Return what to minimise, its terms, and the answers; counts are those of the whole step."""
        answers = self.model(batch)
        losses = compute_losses(batch, answers, self.objective, counts)
        total = losses.total
        if self.touch:  # processes wait for each other's gradients, also of weights that only some of them used
            inside = {id(p) for block in blocks(self.model) for p in block.parameters()}
            loose = [p for p in self.model.parameters() if p.requires_grad and id(p) not in inside]
            total = total + 0.0 * torch.stack([p.sum() for p in loose]).sum()
        return total, losses.terms, answers


def blocks(model: PolicyModel) -> list[nn.Module]:
    """Return the trunk's layers, every one of which every batch goes through."""
    lists = [m for m in model.trunk.modules() if isinstance(m, nn.ModuleList)]
    return [*lists[0]] if lists else []


def spread(learner: Learner, team: Team, *, shard: bool) -> nn.Module:
    """Return learner as all processes train it: as it is, copied (DDP), or sharded in place (FSDP2).

    Raise EmbodiedError for shards without torchrun.
    """
    learner.touch = team.world > 1
    if shard:
        if not dist.is_initialized():
            raise EmbodiedError(
                "--shard needs processes: torchrun --nproc-per-node N -m -- embodied finetune ... --shard"
            )
        mesh = init_device_mesh(team.device.type, (team.world,))
        for block in blocks(learner.model):
            fully_shard(block, mesh=mesh)
        # A tensor of no numbers, such as the reading of labels where there are none, has no shards.
        fully_shard(learner, mesh=mesh, ignored_params={p for p in learner.parameters() if not p.numel()})
        return learner
    return DistributedDataParallel(learner, broadcast_buffers=False) if team.world > 1 else learner


@contextlib.contextmanager
def gradients_summed(learner: nn.Module, now: bool) -> Iterator[None]:
    """Sum gradients over the processes in the backward pass within, or leave it to a later one."""
    if isinstance(learner, FSDPModule):
        learner.set_requires_gradient_sync(now)
    quiet = isinstance(learner, DistributedDataParallel) and not now
    with learner.no_sync() if quiet else contextlib.nullcontext():  # type: ignore[operator]
        yield


def own(tensor: Tensor) -> Tensor:
    """Return what of a tensor this process holds: all of it, or its shard."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor, put together from its shards where it has some; every process must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
