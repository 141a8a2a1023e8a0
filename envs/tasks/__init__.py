"""The tasks of the SO-101's table, one module each: a module here with a TASK is a task, nothing else to register."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from envs.layout import Layout
from envs.motions import Aim, View
from envs.scene import Scene

SLOW_M_S = 0.02  # a cube slower than this counts as at rest


class Task(Protocol):
    """What is asked of the arm: where things stand, how it is said, and when it is done."""

    name: str
    horizon: int  # control steps until the episode is cut off

    def layout(self, rng: np.random.Generator) -> Layout:
        """Draw where the objects stand, and which of them the task is about."""

    def instruction(self, rng: np.random.Generator, target: str, goal: str) -> str:
        """Say the task in words; target and goal are colours."""

    def success(self, scene: Scene) -> bool:
        """Return whether the goal of the scene's layout is met at this instant."""

    def goal_position(self, scene: Scene) -> tuple[float, float, float]:
        """Return the point the target, or the gripper, must come to, m in the base frame."""

    def motion(self, view: View) -> Aim:
        """Return what a scripted expert wants next; needed for demonstrations only."""


def all_tasks() -> dict[str, Task]:
    """Return every task of this package by name, in alphabetical order."""
    found: dict[str, Task] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        task: Task = importlib.import_module(f"{__name__}.{module.name}").TASK
        found[task.name] = task
    return found


def phrase(rng: np.random.Generator, templates: Sequence[str], **choices: Sequence[str]) -> str:
    """Fill a random template, each of its fields with a random one of the choices given for it."""
    words = {name: options[int(rng.integers(len(options)))] for name, options in choices.items()}
    return templates[int(rng.integers(len(templates)))].format(**words)
