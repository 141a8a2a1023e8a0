"""A checkpoint comes back as it was saved, and a broken one is named with what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from embodied.errors import UnknownNameError
from policies.checkpoint import CONFIG, TOKENIZER, WEIGHTS, Checkpoint, CheckpointError, load_checkpoint
from policies.model import PolicyModel
from policies.token import SHIPPED
from policies.trunk import TrunkOptions
from policies.vit import VitOptions
from tests.tiny_policy import PLAN, tiny_checkpoint


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint()


@pytest.fixture
def saved(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "run")
    return tmp_path / "run"


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / CONFIG).read_text())
        change(content)
        (folder / CONFIG).write_text(json.dumps(content))

    return apply


def test_it_comes_back_as_it_was_but_for_bf16(checkpoint: Checkpoint, saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.plan == PLAN
    assert (loaded.words, loaded.trained, loaded.model.config) == (
        checkpoint.words,
        checkpoint.trained,
        checkpoint.model.config,
    )
    assert not loaded.model.training
    mine, theirs = checkpoint.model.state_dict(), loaded.model.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor.to(torch.bfloat16).float(), theirs[name]), name
    assert loaded.vocabulary.encode_text("reach <pose>") == checkpoint.vocabulary.encode_text("reach <pose>")


def test_options_of_the_model_come_back(checkpoint: Checkpoint, tmp_path: Path) -> None:
    options = TrunkOptions(kv_heads=1, norm="layer", parallel=True)
    config = replace(
        checkpoint.model.config, grid_channels=16, trunk=options, vit=VitOptions(blocks=options), cosine=False
    )
    plans = (replace(PLAN, history=1, rebuild=2), replace(PLAN, spec=replace(PLAN.spec, name="other.robot"), chunk=2))
    model = PolicyModel(plans, config, checkpoint.vocabulary.size)
    Checkpoint(model, checkpoint.vocabulary, checkpoint.words, {}).save(tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert (loaded.model.config, loaded.plans) == (config, plans)
    assert loaded.plan_of("other.robot").chunk == 2
    with pytest.raises(UnknownNameError, match=r"no embodiment 'third'; the checkpoint has \['dummy', 'other.robot'\]"):
        loaded.plan_of("third")


def test_robots_whose_names_differ_in_a_sign_have_weights_of_their_own(checkpoint: Checkpoint, tmp_path: Path) -> None:
    names = ("so-101", "so_101", "so.101", "keys")
    plans = tuple(replace(PLAN, spec=replace(PLAN.spec, name=name), chunk=2 + i) for i, name in enumerate(names))
    model = PolicyModel(plans, checkpoint.model.config, checkpoint.vocabulary.size)
    assert [model._port(plan).position.shape[0] for plan in plans] == [plan.prefix for plan in plans]
    Checkpoint(model, checkpoint.vocabulary, checkpoint.words, {}).save(tmp_path)
    loaded = load_checkpoint(tmp_path).model
    for plan in plans:
        theirs = loaded._port(plan).position
        assert torch.equal(model._port(plan).position.to(torch.bfloat16).float(), theirs), plan.spec.name


def test_the_shipped_checkpoint_of_the_old_format_is_renewed_as_it_is_read() -> None:
    assert json.loads((SHIPPED / CONFIG).read_text())["format"] == 1
    old, new = load_file(SHIPPED / WEIGHTS), load_checkpoint(SHIPPED)
    weights = new.model.state_dict()
    table = old["embedding.weight"].float()
    torch.testing.assert_close(weights["embedding.weight"][:11], table[:11])
    torch.testing.assert_close(weights["embedding.weight"][-len(table) + 11 :], table[11:])
    assert torch.equal(weights["ports.so101.position"], old["position"].float())
    assert new.vocabulary.size == len(weights["embedding.weight"])


def test_saving_what_was_loaded_gives_the_same_files(saved: Path, tmp_path: Path) -> None:
    load_checkpoint(saved).save(tmp_path / "again")
    for name in (WEIGHTS, CONFIG, TOKENIZER):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()
    assert {path.name for path in saved.iterdir()} == {WEIGHTS, CONFIG, TOKENIZER}


def test_other_weights_can_be_saved_in_place_of_its_own(checkpoint: Checkpoint, tmp_path: Path) -> None:
    zeros = {name: torch.zeros_like(tensor) for name, tensor in checkpoint.model.state_dict().items()}
    checkpoint.save(tmp_path, zeros)
    assert not any(tensor.any() for tensor in load_checkpoint(tmp_path).model.state_dict().values())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: no such folder"):
        load_checkpoint(tmp_path / "nowhere")


BROKEN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no weights": (WEIGHTS, lambda folder: (folder / WEIGHTS).unlink()),
    "no config": (CONFIG, lambda folder: (folder / CONFIG).unlink()),
    "no tokenizer": (TOKENIZER, lambda folder: (folder / TOKENIZER).unlink()),
    "truncated weights": (WEIGHTS, lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9])),
    "weights that are none": (WEIGHTS, lambda folder: (folder / WEIGHTS).write_bytes(b"weights")),
    "empty weights": (WEIGHTS, lambda folder: (folder / WEIGHTS).write_bytes(b"")),
    "a tokenizer that is none": (TOKENIZER, lambda folder: (folder / TOKENIZER).write_text("{}")),
    "a truncated tokenizer": (TOKENIZER, lambda folder: (folder / TOKENIZER).write_text('{"version": "1.0", ')),
    "a config that is no JSON": (CONFIG, lambda folder: (folder / CONFIG).write_text("{")),
    "a config that is not text": (CONFIG, lambda folder: (folder / CONFIG).write_bytes(b"\xff\xfe\x00")),
    "a config that is a list": (CONFIG, lambda folder: (folder / CONFIG).write_text("[]")),
    "another format": ("format 9", edit(lambda content: content.update(format=9))),
    "no spec": (CONFIG, edit(lambda content: content["plans"][0].pop("spec"))),
    "a spec that lacks a field's range": (
        CONFIG,
        edit(lambda content: content["plans"][0]["spec"]["action"][0].pop("low")),
    ),
    "a range upside down": (CONFIG, edit(lambda content: content["plans"][0]["spec"]["state"][0].update(low=9.0))),
    "another size of model": (WEIGHTS, edit(lambda content: content["model"].update(width=64))),
    "a size that is no number": (CONFIG, edit(lambda content: content["model"].update(width="wide"))),
    "no heads": (CONFIG, edit(lambda content: content["model"].update(heads=0))),
    "a negative size": (CONFIG, edit(lambda content: content["model"].update(vision_width=-4))),
    "a size that nothing has": (CONFIG, edit(lambda content: content["model"].update(depth=3))),
    "a chunk that is no number": (CONFIG, edit(lambda content: content["plans"][0].update(chunk="five"))),
    "another length": (WEIGHTS, edit(lambda content: content["plans"][0].update(text_length=99))),
    "a camera too few": (WEIGHTS, edit(lambda content: content["model"].update(strides=[4]))),
    "no embodiment": (f"{CONFIG} has no embodiment's plan", edit(lambda content: content.update(plans=[]))),
    "limits that are a list": (CONFIG, edit(lambda content: content["plans"][0]["spec"].update(limits=[]))),
    "an account that is none": (CONFIG, edit(lambda content: content.update(trained=7))),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_checkpoint_is_refused_naming_the_file(saved: Path, what: str) -> None:
    named, damage = BROKEN[what]
    damage(saved)
    with pytest.raises(CheckpointError) as refusal:
        load_checkpoint(saved)
    assert str(saved) in str(refusal.value) and named in str(refusal.value)
    assert "\n" not in str(refusal.value)
