"""Pretrained backbones: each class loads from its folder, is masked as we say, adapted, kept small and told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from policies.backbones.adaptation import merge
from policies.backbones.encoder import load_encoder
from policies.backbones.folder import Backbone, BackboneError
from policies.backbones.language import Language, load_language
from policies.backbones.words import load_vocabulary
from policies.vocabulary import FIRST_TEXT
from tests.tiny_backbones import DECODERS, ENCODERS, IMAGE_TEXT, make

TEXT = "put the red cube on the blue cube"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold each tiny model, made when it is first asked for."""
    return tmp_path_factory.mktemp("backbones")


def folder(folders: Path, name: str) -> Path:
    return folders / name if (folders / name).is_dir() else make(name, folders)


def load(folders: Path, name: str, **options: object) -> Language:
    torch.manual_seed(1)
    return load_language(Backbone(str(folder(folders, name)), rank=2, alpha=4, **options), attention="eager")


def run(language: Language, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return hidden states of ids (B, L), causal unless a mask is given."""
    length = ids.shape[1]
    mask = torch.ones(1, length, length, dtype=torch.bool).tril() if mask is None else mask
    return language.decoder(language.embedding(ids), mask, torch.arange(length).expand(len(ids), -1))


@pytest.mark.parametrize("name", DECODERS)
def test_words_and_next_word_logits_are_those_of_the_pretrained_model_to_the_last_bit(folders: Path, name: str) -> None:
    language, path = load(folders, name, adapt="frozen"), folder(folders, name)
    ids = torch.tensor([load_vocabulary(path).encode_text(TEXT)])
    old = AutoModelForCausalLM.from_pretrained(path, attn_implementation="eager", dtype=torch.float32)
    with torch.inference_mode():
        assert torch.equal(language.embedding(ids), old.get_input_embeddings()(ids - FIRST_TEXT))
        ours = language.embedding.logits(run(language, ids))[..., FIRST_TEXT:]
        assert torch.equal(ours, old(input_ids=ids - FIRST_TEXT).logits.float())


@pytest.mark.parametrize("name", [*DECODERS, "paligemma", "qwen2_vl", "smolvlm"])
def test_a_token_sees_what_the_mask_says_in_every_layer(folders: Path, name: str) -> None:
    # Two examples in one row, each a prefix of 3 that sees itself whole, and 2 that are causal.
    language = load(folders, name, adapt="frozen")
    position = torch.arange(5).repeat(2)
    segment = torch.tensor([0] * 5 + [1] * 5)
    mask = (segment[:, None] == segment[None]) & ((position < 3)[None] | (position[None] <= position[:, None]))
    with torch.inference_mode():
        x = language.embedding(torch.arange(FIRST_TEXT + 10, FIRST_TEXT + 20)[None])
        together = language.decoder(x, mask[None], position[None])
        alone = [language.decoder(x[:, s], mask[None, s, s], position[None, s]) for s in (slice(0, 5), slice(5, 10))]
        torch.testing.assert_close(together, torch.cat(alone, 1), rtol=1e-4, atol=1e-5)
        nudge = torch.randn(1, 1, 32)
        told, late = (
            (language.decoder(x + nudge * (torch.arange(10) == at)[:, None], mask[None], position[None]) - together)
            for at in (2, 4)  # the last of the first example's prefix; its last token, which nobody but itself sees
        )
    told, late = told.abs().amax(-1)[0], late.abs().amax(-1)[0]
    assert (told[:5] > 1e-5).all() and (told[5:] == 0).all()
    assert (late[:4] == 0).all() and late[4] > 1e-5


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2", "qwen2_vl"])
def test_with_a_cache_tokens_one_by_one_are_as_all_at_once(folders: Path, name: str) -> None:
    language = load(folders, name, adapt="frozen")
    x = language.embedding(torch.arange(FIRST_TEXT, FIRST_TEXT + 12).view(2, 6))
    mask, cache, parts = torch.ones(1, 6, 6, dtype=torch.bool).tril(), language.decoder.new_cache(), []
    with torch.inference_mode():
        for first, last in ((0, 4), (4, 5), (5, 6)):
            position = torch.arange(first, last).expand(2, -1)
            parts.append(language.decoder(x[:, first:last], mask[:, first:last, :last], position, cache))
        whole = language.decoder(x, mask, torch.arange(6).expand(2, -1))
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)


def test_a_sequence_longer_than_a_decoder_reaches_is_refused(folders: Path) -> None:
    language = load(folders, "gpt2", adapt="frozen")
    with pytest.raises(BackboneError, match="reaches 128 tokens"):
        run(language, torch.full((1, 129), FIRST_TEXT))


def test_what_looks_like_a_special_token_in_a_text_is_text(folders: Path) -> None:
    vocabulary = load_vocabulary(folder(folders, "llama"))
    ids = vocabulary.encode_text("</s> stop")
    assert FIRST_TEXT + 1 not in ids
    assert vocabulary.decode_text(ids) == "</s> stop"


@pytest.mark.parametrize("two_layers", [False, True])
@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_gives_a_grid_with_coordinates_last(folders: Path, name: str, two_layers: bool) -> None:
    encoder, described = load_encoder(Backbone(str(folder(folders, name)), rank=2, alpha=4), two_layers=two_layers)
    assert encoder.channels == (64 if two_layers else 32)
    features = encoder(torch.rand(2, 3, 48, 40))
    assert features.shape == (2, 4, 4, encoder.channels + 2)
    assert features[0, 0, 0, -2:].tolist() == [-1, -1] and features[0, 0, 3, -2:].tolist() == [-1, 1]
    features.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)
    assert described.pixels["mean"] == [0.4, 0.5, 0.6]


def test_pixels_are_normalised_by_the_folder_s_own_numbers(folders: Path) -> None:
    encoder, _ = load_encoder(Backbone(str(folder(folders, "vit")), adapt="frozen"))
    seen = encoder.pixels(torch.full((1, 3, 64, 64), 0.5))
    torch.testing.assert_close(seen[0, :, 0, 0], torch.tensor([0.5, 0.0, -1 / 3]))


@pytest.mark.parametrize("name", IMAGE_TEXT)
def test_an_image_text_model_gives_its_own_image_tokens(folders: Path, name: str) -> None:
    language = load(folders, name)
    assert language.eye is not None
    grey = torch.full((1, 3, 32, 32), 0.5)
    tokens = language.eye.tokens(torch.cat([torch.rand(1, 3, 32, 32), grey]))
    assert tokens.shape == (2, 16 if name == "paligemma" else 4, language.decoder.width)
    tokens.sum().backward()
    assert all(p.grad is not None for p in language.eye.parameters() if p.requires_grad)
    projector = [n for n, p in language.eye.named_parameters() if p.requires_grad and "lora" not in n]
    assert projector and all("connector" in n or "projector" in n or "merger" in n for n in projector)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_lora_begins_as_nothing_is_merged_exactly_and_is_all_that_a_state_has(folders: Path, name: str) -> None:
    ids = torch.arange(FIRST_TEXT, FIRST_TEXT + 12).view(2, 6)
    plain, language = load(folders, name, adapt="frozen"), load(folders, name, adapt="lora")
    assert not plain.decoder.state_dict()
    assert torch.equal(run(plain, ids), run(language, ids))
    trained = {n for n, p in language.decoder.named_parameters() if p.requires_grad}
    assert set(language.decoder.state_dict()) == trained and all("lora_" in n for n in trained)
    for parameter in (p for p in language.decoder.parameters() if p.requires_grad):
        torch.nn.init.normal_(parameter, std=0.1)
    again = load(folders, name, adapt="lora")
    again.decoder.load_state_dict(language.decoder.state_dict())
    expected = run(language, ids).detach()
    assert torch.equal(run(again, ids), expected)
    merge(again.decoder)
    assert not any("lora" in n for n, _ in again.decoder.named_parameters())
    torch.testing.assert_close(run(again, ids), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(expected, run(plain, ids), atol=1e-2)


def test_lora_adapts_the_layers_it_is_told(folders: Path) -> None:
    language = load(folders, "llama", targets=("q_proj", "v_proj"))
    kinds = {name.split(".lora_")[0].rpartition(".")[2] for name in language.decoder.state_dict()}
    assert kinds == {"q_proj", "v_proj"}
    with pytest.raises(BackboneError, match=r"no linear layers \['query'\].*'q_proj'"):
        load(folders, "llama", targets=("query",))


@pytest.mark.parametrize(("bits", "near"), [(8, 0.03), (4, 0.5)])
def test_rounded_weights_are_near_train_only_what_is_not_frozen_and_come_back_whole(
    folders: Path, bits: int, near: float
) -> None:
    ids = torch.arange(FIRST_TEXT, FIRST_TEXT + 12).view(2, 6)
    whole, rounded = load(folders, "llama"), load(folders, "llama", bits=bits)
    kept = rounded.decoder.state_dict()
    assert set(kept) == set(whole.decoder.state_dict())
    exact, off = run(whole, ids), run(rounded, ids)
    assert 0 < (exact - off).norm() / exact.norm() < near
    off.square().mean().backward()
    reached = {n for n, p in rounded.decoder.named_parameters() if p.grad is not None}
    assert reached == set(kept)
    for parameter in (p for p in rounded.decoder.parameters() if p.requires_grad):
        torch.nn.init.normal_(parameter, std=0.1)
    whole.decoder.load_state_dict(rounded.decoder.state_dict())  # full precision, as trained beside rounded weights
    assert not torch.equal(run(whole, ids), exact)
    with pytest.raises(BackboneError, match="quantized"):
        merge(rounded.decoder)


def test_nothing_to_round_is_refused(folders: Path) -> None:
    with pytest.raises(BackboneError, match="no linear layers to keep in 8 bits"):
        load(folders, "gpt2", bits=8)


def test_trained_in_full_it_needs_no_folder(folders: Path) -> None:
    language = load(folders, "llama", adapt="full")
    described = replace(language.backbone, folder="/nowhere")
    again = load_language(described, attention="eager")
    again.decoder.load_state_dict(language.decoder.state_dict())
    again.embedding.load_state_dict(language.embedding.state_dict())
    ids = torch.arange(FIRST_TEXT, FIRST_TEXT + 12).view(2, 6)
    assert torch.equal(run(again, ids), run(language, ids))
    assert len(language.decoder.state_dict()) == len([*language.decoder.parameters()])


def test_a_folder_that_is_not_the_one_is_told(folders: Path, tmp_path: Path) -> None:
    described = load(folders, "llama").backbone
    with pytest.raises(BackboneError, match="no such folder"):
        load_language(replace(described, folder=str(tmp_path / "gone")))
    other = make("llama", tmp_path, seed=1)
    with pytest.raises(BackboneError, match="not those that the policy was trained on"):
        load_language(replace(described, folder=str(other)))
    with pytest.raises(BackboneError, match="is a LlamaForCausalLM; the policy was trained on a MistralForCausalLM"):
        load_language(replace(described, architecture="MistralForCausalLM"))
    with pytest.raises(BackboneError, match="is no vision encoder"):
        load_encoder(Backbone(str(folder(folders, "llama"))))
    with pytest.raises(BackboneError, match="AutoModelForCausalLM cannot load it"):
        load_language(Backbone(str(folder(folders, "vit"))))
    (other / "model.safetensors").write_bytes(b"\x00")
    with pytest.raises(BackboneError, match="cannot load it"):
        load_language(Backbone(str(other)))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"adapt": "some"}, "no way to adapt 'some'"),
        ({"bits": 3}, "no weights of 3 bits"),
        ({"bits": 4, "adapt": "full"}, "are frozen"),
        ({"rank": 0}, "rank 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(BackboneError, match=match):
        Backbone("folder", **options)
