"""finetune on a pretrained model: what it costs, where its folder is, how it is measured."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from embodied.cli import main
from policies.backbones.folder import BackboneError
from policies.batch import Batch
from policies.checkpoint import CONFIG, WEIGHTS, load_checkpoint
from policies.mixture import Mixture
from policies.token import make as make_policy
from policies.train import Given, TrainConfig, train
from policies.training.dry_run import count_disk, count_memory
from policies.training.folder import LOG, STATE, read_lines
from policies.training.run import Run
from policies.training.saving import FILE, newest
from policies.training.start import Data, begin
from policies.training.team import Team
from tests.tiny_backbones import make
from tests.tiny_policy import record_toy

HEADER = 90_000  # bytes of a safetensors file that are names and places


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Describe a run of two steps on a tiny decoder, adapted by LoRA."""
    folder = tmp_path_factory.mktemp("material")
    data = (Given(record_toy(folder / "toy_data", episodes=51)),)  # of which one is held out
    backbone = make("llama", folder / "models")
    return TrainConfig(data, folder / "run", 2, batch=2, chunk=3, latents=2, backbone=backbone, precision="fp32")


@pytest.fixture(scope="module")
def trained(config: TrainConfig) -> Path:
    return train(config, say=lambda line: None)


def test_a_dry_run_counts_what_is_frozen_where_it_is(config: TrainConfig, trained: Path) -> None:
    run = Run(config, begin(config, Data.open(config.data)), Team())
    state, policy = count_disk(run)
    saved = newest(trained / STATE)
    assert saved is not None
    assert 0 <= (saved / FILE).stat().st_size - state < HEADER
    assert 0 <= (trained / WEIGHTS).stat().st_size - policy < HEADER
    memory, frozen = count_memory(run), 4 * sum(p.numel() for p in run.model.parameters() if not p.requires_grad)
    assert frozen > HEADER and memory["weights"] - frozen >= memory["their average"] == memory["gradients"]


def test_a_save_measures_a_backbone_on_no_more_than_six_of_the_runs_own_batches(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def validation(mixture: Mixture, *, size: int, batches: int) -> Iterator[Batch]:
        for batch in held_out(mixture, size=size, batches=batches):
            drawn.append(len(batch))
            yield batch

    held_out = Mixture.validation
    monkeypatch.setattr(Mixture, "validation", validation)
    command = config.command().split()[1:]
    command[command.index("--out") + 1] = str(tmp_path / "run")
    assert main([*command, "--save-every", "1"]) == 0
    entries = read_lines(tmp_path / "run" / LOG)
    assert [entry["step"] for entry in entries] == [1, 2] and all(entry["held_out_loss"] > 0 for entry in entries)
    # Of three more a few answers are shown.
    assert drawn == 2 * [*6 * [config.batch], 3]


def moved(trained: Path, tmp_path: Path, *, backbone: bool) -> Path:
    """Copy a run to where the path that it recorded leads nowhere, its backbone beside it or not."""
    root = tmp_path / "elsewhere"
    shutil.copytree(trained, root / "run")
    if backbone:
        shutil.copytree(trained.parent / "models", root / "models")
    told = json.loads((root / "run" / CONFIG).read_text())
    told["model"]["backbone"]["folder"] = str(tmp_path / "gone" / "llama")
    (root / "run" / CONFIG).write_text(json.dumps(told))
    return root / "run"


def test_a_run_and_its_backbone_may_be_moved_together(trained: Path, tmp_path: Path) -> None:
    assert load_checkpoint(moved(trained, tmp_path, backbone=True))


def test_a_backbone_that_is_gone_is_named_with_what_helps(trained: Path, tmp_path: Path) -> None:
    said = r"backbone .*gone/llama: no such folder, and checkpoint .*elsewhere/run needs it; say where it is now: "
    with pytest.raises(BackboneError, match=said + r"--backbone DIR of .*, --policy-option backbone=DIR of"):
        load_checkpoint(moved(trained, tmp_path, backbone=False))


def test_a_backbone_elsewhere_may_be_named_to_act_to_resume_and_to_start(
    config: TrainConfig, trained: Path, tmp_path: Path
) -> None:
    run = moved(trained, tmp_path, backbone=False)
    there = str(config.backbone)
    assert make_policy(run, backbone=there).checkpoint.model.config.backbone
    quiet = {"say": lambda line: None}
    train(replace(config, out=run, steps=3), resume=True, **quiet)
    told = json.loads((run / CONFIG).read_text())
    assert (told["trained"]["step"], told["trained"]["backbone"], told["trained"]["rank"]) == (3, "llama", 16)
    assert told["model"]["backbone"]["folder"] == there
    start = moved(trained, tmp_path / "again", backbone=False)
    train(replace(config, out=tmp_path / "other", start=start, chunk=None, latents=None, steps=1), **quiet)


def test_another_backbone_than_the_checkpoints_is_refused(config: TrainConfig, trained: Path, tmp_path: Path) -> None:
    other = make("llama", tmp_path / "other", seed=1)
    with pytest.raises(BackboneError, match="its weights are not those that the policy was trained on"):
        train(replace(config, out=trained, steps=3, backbone=other), resume=True, say=lambda line: None)
    with pytest.raises(BackboneError, match="its weights are not those that the policy was trained on"):
        make_policy(trained, backbone=str(other))
    with pytest.raises(BackboneError, match="no such folder"):
        make_policy(trained, backbone=str(tmp_path / "none"))
    with pytest.raises(BackboneError, match="stands on no vision that it could be"):
        make_policy(trained, vision=str(other))


def test_a_backbone_trained_in_full_needs_its_folder_no_more_but_no_other_kind_stands_in_for_it(
    config: TrainConfig, tmp_path: Path
) -> None:
    folder = make("llama", tmp_path)
    full = replace(config, out=tmp_path / "run", backbone=folder, adapt="full", steps=1)
    train(full, say=lambda line: None)
    shutil.rmtree(folder)
    assert load_checkpoint(train(replace(full, steps=2), resume=True, say=lambda line: None)).trained["step"] == 2
    with pytest.raises(BackboneError, match="its config is a Qwen2Config; the policy's is a LlamaConfig"):
        make_policy(full.out, backbone=str(make("qwen2", tmp_path)))
