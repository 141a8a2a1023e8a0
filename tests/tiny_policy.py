"""Real checkpoints and recordings, small enough for a test: random weights, a toy robot's demonstrations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from embodied.recording.demonstration import demonstrate
from embodied.recording.writer import DatasetWriter
from embodied.types import Field
from policies.checkpoint import Checkpoint
from policies.layout import Label, Plan
from policies.model import ModelConfig, PolicyModel
from policies.vocabulary import Vocabulary
from tests import toy_world
from tests.dummy_robot import DummyRobot

CONFIG = ModelConfig(
    width=32, layers=1, heads=2, feedforward=32, vision_width=32, grid_channels=16, strides=(4, 8), text_layers=1
)
CORPUS = ("reach the red cube", "push the blue cube into the bowl", "reach the target", "push the target")
SKILLS = ("Home", "move left", "move right", "wait")
SPEC = replace(DummyRobot(front=(32, 32), wrist=(24, 32)).spec, skills=SKILLS)
LABELS = (
    Label("goal_box", tuple(Field(str(i), "", 0.0, 1.0) for i in range(4))),
    Label("target", tuple(Field(str(i), "m", -0.5, 0.5) for i in range(3))),
)
PLAN = Plan(SPEC, LABELS, chunk=5, text_length=8, latents=3)
TOY_LABEL = Label("target_position", tuple(Field(str(i), "", 0.0, high) for i, high in enumerate((1.0, 1.0, 30.0))))
TOY_PLAN = Plan(toy_world.make().spec, (TOY_LABEL,), chunk=4, text_length=8, latents=2)


def tiny_vocabulary(corpus: Iterable[str] = CORPUS) -> Vocabulary:
    """Learn few byte pairs."""
    return Vocabulary.train([*corpus, *SKILLS], size=320)


def tiny_checkpoint(plan: Plan = PLAN, seed: int = 0) -> Checkpoint:
    """Make a model with random weights, its answers spread over their ranges."""
    vocabulary = tiny_vocabulary()
    torch.manual_seed(seed)
    model = PolicyModel([plan], replace(CONFIG, strides=CONFIG.strides[: len(plan.spec.cameras)]), vocabulary.size)
    with torch.no_grad():
        for port in model.ports.values():
            port.pose_head.weight.mul_(20.0)
    words = frozenset(" ".join(CORPUS).split())
    return Checkpoint(model.eval(), vocabulary, words, {"steps": 0})


def record_toy(path: Path, *, episodes: int = 3, labels: bool = True) -> Path:
    """Record the toy robot's expert; every other episode says that it was disturbed at its steps 3 and 4."""
    robot = toy_world.make()
    sizes = {"target_position": 3} if labels else {}
    writer = DatasetWriter(path, robot.spec, label_sizes=sizes)
    for seed in range(episodes):
        task = ("reach", "push")[seed % 2]
        episode = demonstrate(robot, toy_world.expert(robot), task=task, seed=seed, label_sizes=sizes)
        if seed % 2:
            perturbed = np.isin(np.arange(len(episode)), (3, 4))
            text = tuple("" if i < 5 else said for i, said in enumerate(episode.text))
            episode = replace(episode, perturbed=perturbed, text=text)
        writer.add(episode)
    writer.finish()
    return path
