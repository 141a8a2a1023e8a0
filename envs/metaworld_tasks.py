"""What Meta-World's 50 tasks are called, how hard others say they are, and the sentences that ask for them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

Words = Literal["plain", "varied", "reworded", "misdirected"]

FILE = Path(__file__).parents[1] / "sim_assets" / "metaworld" / "tasks.toml"


@dataclass(frozen=True)
class Task:
    """One task: its tier, the sentences that demonstrations may say, and those kept for evaluation."""

    name: str
    tier: str  # easy | medium | hard | very_hard
    say: tuple[str, ...]  # the plain sentence first
    reword: tuple[str, ...]


def all_tasks() -> dict[str, Task]:
    """Return every task by name, in the order of the file."""
    with FILE.open("rb") as file:
        content = tomllib.load(file)
    return {
        name: Task(name, about["tier"], tuple(about["say"]), tuple(about["reword"])) for name, about in content.items()
    }


def sentence(tasks: dict[str, Task], name: str, words: Words, seed: int) -> str:
    """Return the instruction of an episode; the same seed, task and words give the same.

    plain is the task's one sentence, varied any that demonstrations may say, reworded one that they never say, and
    misdirected the plain sentence of another task: what success is left with it tells whether a policy reads.
    """
    if words == "plain":
        return tasks[name].say[0]
    rng = np.random.default_rng([seed, *name.encode()])
    if words == "misdirected":
        return tasks[str(rng.choice([other for other in tasks if other != name]))].say[0]
    return str(rng.choice(tasks[name].say if words == "varied" else tasks[name].reword))
