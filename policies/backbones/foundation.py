"""The pretrained parts that a policy stands on, loaded together: a trunk with its words, what it sees with, or none."""

from __future__ import annotations

from dataclasses import dataclass

from policies.backbones.decoder import Decoder
from policies.backbones.encoder import Encoder, load_encoder
from policies.backbones.eye import Eye
from policies.backbones.folder import Backbone
from policies.backbones.language import load_language
from policies.backbones.words import PretrainedEmbedding


@dataclass(frozen=True)
class Foundation:
    """Pretrained parts, and the descriptions by which they can be loaded again."""

    decoder: Decoder | None = None
    embedding: PretrainedEmbedding | None = None
    eye: Encoder | Eye | None = None  # of the image-text model, or the encoder given beside it
    backbone: Backbone | None = None
    vision: Backbone | None = None


def load_foundation(backbone: Backbone | None, vision: Backbone | None, *, two_layers: bool = False) -> Foundation:
    """Load a decoder or image-text model, a vision encoder, both or none; raise BackboneError where one cannot be."""
    language = load_language(backbone) if backbone else None
    encoder, described = load_encoder(vision, two_layers=two_layers) if vision else (None, None)
    if language is None:
        return Foundation(eye=encoder, vision=described)
    return Foundation(language.decoder, language.embedding, encoder or language.eye, language.backbone, described)
