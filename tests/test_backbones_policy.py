"""A policy on a pretrained model: it answers, is trained, saved small, and comes back the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.backbones.folder import Backbone, BackboneError
from policies.backbones.words import load_vocabulary
from policies.batch import Batch, Part
from policies.checkpoint import Checkpoint, load_checkpoint
from policies.layout import lay_out
from policies.model import ModelConfig, PolicyModel
from policies.vocabulary import TEXT, Vocabulary
from tests.tiny_backbones import make
from tests.tiny_policy import PLAN

SIZES = ModelConfig(vision_width=32, grid_channels=16, strides=(8,) * len(PLAN.spec.cameras), text_layers=1)


def build(folder: Path, vision: Path | None = None, **options: object) -> Checkpoint:
    torch.manual_seed(0)
    backbone = Backbone(str(folder), rank=2, alpha=4, **options)
    sizes = replace(SIZES, backbone=backbone, vision=Backbone(str(vision), rank=2) if vision else None)
    vocabulary = load_vocabulary(folder)
    return Checkpoint(PolicyModel([PLAN], sizes, vocabulary.size), vocabulary, frozenset({"go"}), {})


def batch(vocabulary: Vocabulary, text: bool = True) -> Batch:
    random, spec = np.random.default_rng(0), PLAN.spec
    sequences = lay_out(
        PLAN,
        instruction=[vocabulary.encode_text("go")[: PLAN.text_length]] * 2,
        state=np.array([[(f.low + f.high) / 2 for f in spec.state]] * 2),
        text=[vocabulary.encode_text("up")] * 2 if text else None,
    )
    frames = [
        torch.from_numpy(random.integers(0, 255, (2, c.height, c.width, 3), dtype=np.uint8)) for c in spec.cameras
    ]
    return Batch((Part(PLAN, sequences, frames),))


@pytest.mark.parametrize(("name", "options"), [("llama", {}), ("llama", {"adapt": "full"}), ("smolvlm", {})])
def test_a_policy_on_a_pretrained_model_learns_and_comes_back_the_same(
    tmp_path: Path, name: str, options: dict[str, object]
) -> None:
    folder = make(name, tmp_path)
    checkpoint = build(folder, **options)
    asked = batch(checkpoint.vocabulary)
    model = checkpoint.model
    (answers,) = model(asked)
    (answers.pose.square().mean() + answers.text.square().mean()).backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1).step()
    with torch.no_grad():
        for parameter in model.parameters():  # what a checkpoint rounds to bf16 is then no difference
            if parameter.requires_grad:
                parameter.copy_(parameter.bfloat16())
    checkpoint.save(tmp_path / "saved")
    again = load_checkpoint(tmp_path / "saved")
    with torch.inference_mode():
        expected, found = model.eval()(asked)[0], again.model(asked)[0]
    torch.testing.assert_close(found.pose, expected.pose, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(found.text, expected.text, rtol=1e-2, atol=1e-2)
    assert again.vocabulary.encode_text("</s> go") == checkpoint.vocabulary.encode_text("</s> go")


def test_a_text_action_is_written_token_by_token_as_it_would_be_read(tmp_path: Path) -> None:
    checkpoint = build(make("llama", tmp_path))
    with torch.inference_mode():
        whole = checkpoint.model(batch(checkpoint.vocabulary))[0]
        begun = checkpoint.model(batch(checkpoint.vocabulary, text=False), use_cache=True)[0]
        first = checkpoint.model.next_text([TEXT, TEXT], begun, PLAN.prefix)
    torch.testing.assert_close(first, whole.text[:, 0], rtol=1e-3, atol=1e-3)


def test_where_a_squeezed_frame_is_looked_at_is_told_in_the_encoder_s_own_rows_and_columns(tmp_path: Path) -> None:
    checkpoint = build(make("llama", tmp_path), vision=make("vit", tmp_path))
    (answers,) = checkpoint.model(batch(checkpoint.vocabulary))
    assert [looked.shape[-2:] for looked in answers.looked] == [(4, 4)] * len(PLAN.spec.cameras)


def test_a_frozen_trunk_s_weights_stay_in_its_folder_and_must_be_there(tmp_path: Path) -> None:
    folder = make("llama", tmp_path)
    build(folder, vision=make("vit", tmp_path)).save(tmp_path / "saved")
    loaded = load_checkpoint(tmp_path / "saved")
    assert not [n for n in loaded.model.state_dict() if "base_layer" in n or "embedding.text" in n or "tower.emb" in n]
    folder.rename(tmp_path / "moved")
    with pytest.raises(BackboneError, match=r"backbone .*llama: no such folder"):
        load_checkpoint(tmp_path / "saved")
