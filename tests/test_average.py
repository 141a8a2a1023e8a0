"""The mean of two checkpoints lies between them, acts, and is refused where there is none."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embodied.errors import EmbodiedError
from policies.average import average, main
from policies.checkpoint import CONFIG, WEIGHTS, CheckpointError
from policies.token import TokenPolicy, make
from policies.vocabulary import Vocabulary
from tests.policy_contract import random_observation
from tests.tiny_policy import CORPUS, PLAN, SKILLS, SPEC, tiny_checkpoint

SAY = "reach the target"


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "first", tmp_path / "second"
    for seed, folder in enumerate(folders):
        tiny_checkpoint(seed=seed).save(folder)
    return folders


def test_every_weight_is_the_mean_and_the_account_tells_of_both(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mean"
    monkeypatch.setattr(sys, "argv", ["average", *map(str, runs), "--share", "0.25", "--out", str(out)])
    assert main() == 0
    first, second, mean = (load_file(folder / WEIGHTS) for folder in (*runs, out))
    assert first.keys() == mean.keys()
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, (0.75 * first[name].float() + 0.25 * second[name].float()).bfloat16())
    trained = json.loads((out / CONFIG).read_text())["trained"]
    assert trained == {"mean_of": [{"share": 0.75, "steps": 0}, {"share": 0.25, "steps": 0}]}
    policy = make(out)
    policy.reset(SAY, SPEC)
    assert len(policy.act(random_observation(SPEC, 0, SAY))) == policy.horizon
    assert main() == 2, "what is there already is kept"


def test_the_ends_are_the_checkpoints_themselves(runs: tuple[Path, Path]) -> None:
    seen = random_observation(SPEC, 0, SAY)

    def said(policy: TokenPolicy) -> list[bytes]:
        policy.reset(SAY, SPEC)
        return [action.values.tobytes() for action in policy.act(seen) if hasattr(action, "values")]

    ends = [said(TokenPolicy(average(*runs, share))) for share in (0.0, 1.0)]
    assert ends == [said(make(folder)) for folder in runs]
    assert ends[0] != ends[1]


def test_what_went_on_with_more_words_has_a_mean_that_knows_them(runs: tuple[Path, Path], tmp_path: Path) -> None:
    more = replace(tiny_checkpoint(seed=2), words=frozenset({"raise"}))
    more.save(tmp_path / "more")
    assert average(runs[0], tmp_path / "more").words == tiny_checkpoint().words | {"raise"}


def test_a_mean_that_there_is_not_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    one = tiny_checkpoint()
    alike = Vocabulary.train([text.replace("r", "z") for text in (*CORPUS, *SKILLS)], size=320)
    assert alike.size == one.vocabulary.size
    replace(one, vocabulary=alike).save(tmp_path / "words")
    with pytest.raises(CheckpointError, match="is of other text tokens than"):
        average(runs[0], tmp_path / "words")
    tiny_checkpoint(replace(PLAN, latents=4)).save(tmp_path / "other")
    with pytest.raises(CheckpointError, match="is of other robots than"):
        average(runs[0], tmp_path / "other")
    with pytest.raises(CheckpointError, match="no such folder"):
        average(runs[0], tmp_path / "nowhere")
    with pytest.raises(EmbodiedError, match=r"the share is 1\.5"):
        average(*runs, share=1.5)
