"""--compile compiles the trunk's layers, and they learn what they learn without."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from torch import nn
from torch._dynamo.utils import counters

from embodied.cli import main
from tests.training_data import losses_of, make_material

STEPS = 4


def curves(folder: Path) -> list[list[float]]:
    """Train without --compile, then with it, and return the losses of both."""
    material = make_material(folder)
    for name, more in {"plain": (), "compiled": ("--compile",)}.items():
        assert main(material.arguments(folder / name, "--steps", str(STEPS), *more)) == 0
    return [[entry["loss"] for entry in losses_of(folder / name)] for name in ("plain", "compiled")]


def test_a_run_with_compile_does_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = nn.Module.compile
    # Traced as ever, but run as it was traced: making machine code of it takes half a minute.
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compiled(self, backend="eager", **options))
    counters.clear()
    plain, traced = curves(tmp_path)
    assert counters["frames"]["ok"] > 0 and not counters["graph_break"]
    np.testing.assert_allclose(traced, plain, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch makes machine code with a compiler of C++")
def test_compiled_layers_learn_what_others_learn(tmp_path: Path) -> None:
    counters.clear()
    plain, compiled = curves(tmp_path)
    assert counters["frames"]["ok"] > 0
    np.testing.assert_allclose(compiled, plain, rtol=1e-4)
