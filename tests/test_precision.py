"""Matrices are multiplied in what is faster here, and a run keeps to what it began with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from policies.checkpoint import load_checkpoint
from policies.train import Given, TrainConfig, train
from policies.training.precision import faster_precision
from tests.tiny_policy import TOY_PLAN, record_toy, tiny_checkpoint


@pytest.mark.parametrize("given", ["bf16", "fp32"])
def test_a_run_keeps_to_its_precision(tmp_path: Path, given: str) -> None:
    tiny_checkpoint(TOY_PLAN).save(tmp_path / "tiny")
    data = (Given(record_toy(tmp_path / "data", episodes=1)),)

    def precision(steps: int, said: str, *, resume: bool) -> object:
        config = TrainConfig(
            data,
            tmp_path / "run",
            steps,
            batch=2,
            start=tmp_path / "tiny",
            precision=said,  # type: ignore[arg-type]
        )
        return load_checkpoint(train(config, resume=resume, say=lambda line: None)).trained["precision"]

    assert precision(1, given, resume=False) == given
    assert precision(2, "auto", resume=True) == given


def test_left_to_itself_a_run_takes_the_faster_one(tmp_path: Path) -> None:
    tiny_checkpoint(TOY_PLAN).save(tmp_path / "tiny")
    data = (Given(record_toy(tmp_path / "data", episodes=1)),)
    out = train(TrainConfig(data, tmp_path / "run", 1, batch=2, start=tmp_path / "tiny"), say=lambda line: None)
    faster = faster_precision(torch.device("cpu"))
    assert faster in ("bf16", "fp32") and load_checkpoint(out).trained["precision"] == faster
