"""A toy dataset and a start to train from, and the command that does it in a process of its own, or in several."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.training.folder import LOSSES
from tests.tiny_policy import TOY_PLAN, record_toy, tiny_checkpoint

PATIENCE_S = 240.0
ROOT = Path(__file__).parents[1]


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


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def start_training(arguments: list[str], *, prefix: tuple[str, ...] = ("-m", "embodied")) -> subprocess.Popen[str]:
    command = [sys.executable, *prefix, *arguments]
    return subprocess.Popen(
        command, env=environment(), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str]) -> int:
    """Wait for a process, showing what it said if it failed, and return its status."""
    try:
        said, _ = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun ends the processes that it started
        said, _ = process.communicate()
    print(said)
    return process.returncode


def losses_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / LOSSES).read_text().splitlines()]
