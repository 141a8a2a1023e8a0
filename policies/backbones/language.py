"""A folder's decoder or image-text model taken apart: blocks as the trunk, table as the embedding, tower as the eye."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from policies.backbones.adaptation import adapt, leave_frozen_out
from policies.backbones.decoder import Decoder
from policies.backbones.eye import ANY_SIZE, Eye, language_part, make_eye
from policies.backbones.folder import Backbone, config_of, load_pretrained
from policies.backbones.pixels import told_pixels
from policies.backbones.words import PretrainedEmbedding


@dataclass(frozen=True)
class Language:
    """A pretrained trunk, its words, what it sees with where it can, and what the same can be loaded again by."""

    decoder: Decoder
    embedding: PretrainedEmbedding
    backbone: Backbone
    eye: Eye | None = None


def load_language(backbone: Backbone, *, attention: str | None = None) -> Language:
    """Load a folder's image-text model or, of any other kind, its causal decoder, adapted as backbone says.

    attention is transformers' name for how it is computed: fused, "sdpa", where the class can, else "eager". Raise
    BackboneError where that cannot be done.
    """
    kind = config_of(backbone)
    sees = kind is not None and kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    auto = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    model, described = load_pretrained(auto, backbone, attention=attention)
    if not sees:
        return _take_apart(model, model.get_decoder(), described)
    core, name = model.base_model, language_part(model)
    config = core.config.vision_config
    told = described.pixels or told_pixels(Path(described.folder), getattr(config, "image_size", ANY_SIZE))
    language = _take_apart(model, getattr(core, name), replace(described, pixels=told))
    setattr(core, name, None)  # the decoder's from here on, and has one name in a state
    return replace(language, eye=make_eye(core, language.backbone))


def _take_apart(model: Any, body: Any, backbone: Backbone) -> Language:  # noqa: ANN401 - transformers types few of these
    """Return the language part of model, whose blocks and table are in body."""
    table, head = body.get_input_embeddings(), model.get_output_embeddings()
    tied = head is None or head.weight is table.weight
    cap = getattr(body.config.get_text_config(), "final_logit_softcapping", None)
    embedding = PretrainedEmbedding(table, None if tied else head, cap)
    body.set_input_embeddings(None)  # it is the embedding's from here on, and has one name in a state
    adapt(body, backbone)
    if backbone.adapt != "full":
        embedding.requires_grad_(False)
        embedding.own.requires_grad_(True)
        leave_frozen_out(embedding)
    return Language(Decoder(body, checkpointing=backbone.checkpointing), embedding, backbone)
