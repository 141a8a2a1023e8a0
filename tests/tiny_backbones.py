"""Tiny folders of pretrained models with random weights, one of each class, as a hub would have them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = 320  # rows of the table, more than the tokenizer has words
SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
WORDS = {**SIZE, "vocab_size": TEXT, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256}
SIGHT = {**SIZE, "num_hidden_layers": 4, "image_size": 32, "patch_size": 8}
ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}

DECODERS = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**WORDS, **ENDS, tie_word_embeddings=True)),
    "qwen2": lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**WORDS, **ENDS)),
    "qwen3": lambda: tf.Qwen3ForCausalLM(tf.Qwen3Config(**WORDS, **ENDS)),
    "mistral": lambda: tf.MistralForCausalLM(tf.MistralConfig(**WORDS, **ENDS)),
    "gemma": lambda: tf.GemmaForCausalLM(tf.GemmaConfig(**WORDS, **ENDS)),
    "gemma2": lambda: tf.Gemma2ForCausalLM(tf.Gemma2Config(**WORDS, **ENDS, sliding_window=128)),
    "gemma3": lambda: tf.Gemma3ForCausalLM(
        tf.Gemma3TextConfig(**WORDS, **ENDS, sliding_window=128, layer_types=["sliding_attention", "full_attention"])
    ),
    "gpt2": lambda: tf.GPT2LMHeadModel(
        tf.GPT2Config(**ENDS, vocab_size=TEXT, n_embd=32, n_layer=2, n_head=4, n_positions=128)
    ),
    "gpt_neox": lambda: tf.GPTNeoXForCausalLM(
        tf.GPTNeoXConfig(**SIZE, **ENDS, vocab_size=TEXT, max_position_embeddings=256)
    ),
    "phi": lambda: tf.PhiForCausalLM(tf.PhiConfig(**SIZE, **ENDS, vocab_size=TEXT, max_position_embeddings=256)),
}
ENCODERS = {
    "siglip": lambda: tf.SiglipVisionModel(tf.SiglipVisionConfig(**SIGHT)),
    "siglip_whole": lambda: tf.SiglipModel(
        tf.SiglipConfig(text_config={**SIZE, "vocab_size": TEXT, "projection_size": 32}, vision_config=SIGHT)
    ),
    "clip": lambda: tf.CLIPVisionModel(tf.CLIPVisionConfig(**SIGHT)),
    "dinov2": lambda: tf.Dinov2Model(tf.Dinov2Config(**{**SIGHT, "mlp_ratio": 2})),
    "vit": lambda: tf.ViTModel(tf.ViTConfig(**SIGHT)),
}


def _idefics(model: type, config: type) -> tf.PreTrainedModel:
    text = {**WORDS, **ENDS, "model_type": "llama"}
    return model(
        config(vision_config=SIGHT, text_config=text, image_token_id=5, scale_factor=2, tie_word_embeddings=False)
    )


def _qwen(model: type, config: type, vision: dict[str, object]) -> tf.PreTrainedModel:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    return model(config(text_config={**WORDS, **ENDS, "rope_parameters": rope}, vision_config=vision))


QWEN2 = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 8, "mlp_ratio": 2}
QWEN25 = {
    **{"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "patch_size": 8, "out_hidden_size": 32},
    **{"window_size": 32, "fullatt_block_indexes": [1]},
}
IMAGE_TEXT = {
    "smolvlm": lambda: _idefics(tf.SmolVLMForConditionalGeneration, tf.SmolVLMConfig),
    "idefics3": lambda: _idefics(tf.Idefics3ForConditionalGeneration, tf.Idefics3Config),
    "paligemma": lambda: tf.PaliGemmaForConditionalGeneration(
        tf.PaliGemmaConfig(
            vision_config={**SIGHT, "model_type": "siglip_vision_model", "projection_dim": 32},
            text_config={**WORDS, **ENDS, "model_type": "gemma"},
            image_token_index=5,
            projection_dim=32,
        )
    ),
    "qwen2_vl": lambda: _qwen(tf.Qwen2VLForConditionalGeneration, tf.Qwen2VLConfig, QWEN2),
    "qwen2_5_vl": lambda: _qwen(tf.Qwen2_5_VLForConditionalGeneration, tf.Qwen2_5_VLConfig, QWEN25),
}
CLASSES = DECODERS | ENCODERS | IMAGE_TEXT


def make(name: str, folder: Path, seed: int = 0) -> Path:
    """Write a model of a class, a tokenizer and a preprocessor into a new folder of its name, and return it."""
    torch.manual_seed(seed)
    model = CLASSES[name]().eval()
    for parameter in model.parameters():  # small weights would make every answer the same
        torch.nn.init.normal_(parameter, std=0.2) if parameter.ndim > 1 else None
    path = folder / name
    model.save_pretrained(path)
    if name not in ENCODERS:
        _tokenizer().save(str(path / "tokenizer.json"))
    if name not in DECODERS:
        told = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3], "size": {"height": 32, "width": 32}}
        (path / "preprocessor_config.json").write_text(json.dumps(told))
    return path


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["put the red cube on the blue cube", "push the green ball to the left"], trainer)
    return tokenizer
