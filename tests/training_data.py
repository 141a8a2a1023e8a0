"""A toy dataset and a start to train from, and the command that does it in processes of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from embodied.cli import main
from policies.training.folder import LOSSES
from tests.tiny_policy import TOY_PLAN, record_toy, tiny_checkpoint

PATIENCE_S = 240.0
# Processes are forked from one that has imported torch once and done nothing else.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.training_data", "policies.train"])

Limit = tuple[int, int]


@dataclass(frozen=True)
class Material:
    """What a run of a test begins from."""

    dataset: Path
    start: Path
    texts: Path

    def arguments(self, out: Path, *more: str) -> list[str]:
        given = ["finetune", "--dataset", str(self.dataset), "--start", str(self.start), "--out", str(out)]
        return [*given, "--text", str(self.texts), "--batch", "8", "--precision", "fp32", "--warmup", "2", *more]


def make_material(folder: Path) -> Material:
    tiny_checkpoint(TOY_PLAN).save(folder / "tiny")
    (folder / "texts.txt").write_text("push the red cube\nreach the target and wait\nhome is where the arm is\n")
    return Material(record_toy(folder / "toy_data"), folder / "tiny", folder / "texts.txt")


def start_training(arguments: Sequence[str], log: Path, *, limit: Limit | None = None) -> BaseProcess:
    """Run a command line in a process; limit is a resource and how much of it there is, beyond what is in use."""
    process = PROCESSES.Process(target=_run, args=([list(arguments)], str(log), limit, {}))
    process.start()
    return process


def start_team(commands: Sequence[Sequence[str]], log: Path, *, world: int = 2) -> list[BaseProcess]:
    """Run command lines, one after the other, in world processes that know of each other as torchrun tells them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = []
    for rank in range(world):
        told = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        lines = [list(arguments) for arguments in commands]
        process = PROCESSES.Process(target=_run, args=(lines, f"{log}.{rank}", None, told))
        process.start()
        processes.append(process)
    return processes


def finish(process: BaseProcess) -> int | None:
    """Wait for a process and return its status; None if it had to be ended."""
    process.join(PATIENCE_S)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def losses_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / LOSSES).read_text().splitlines()]


def _run(commands: list[list[str]], log: str, limit: Limit | None, told: dict[str, str]) -> None:
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    os.environ.update(told)
    if told:
        torch.distributed.init_process_group("gloo")  # once, as joining takes longer than the runs do
    if limit is not None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        more = used if limit[0] == resource.RLIMIT_AS else 0
        resource.setrlimit(limit[0], (limit[1] + more, resource.RLIM_INFINITY))
    for arguments in commands:
        if status := main(arguments):
            sys.exit(status)
    if told:
        torch.distributed.destroy_process_group()
