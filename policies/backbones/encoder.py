"""A pretrained vision encoder (SigLIP, DINOv2, CLIP, ViT) in a stem's place: a frame in, a grid of features out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from policies.backbones.adaptation import adapt
from policies.backbones.folder import Backbone, BackboneError, load_pretrained
from policies.backbones.pixels import Pixels, told_pixels
from policies.vision import place


class Encoder(nn.Module):
    """A frame (B, 3, H, W) in [0, 1] to features (B, rows, columns, channels + 2), places last, as a Stem."""

    def __init__(self, tower: PreTrainedModel, pixels: Pixels, *, two_layers: bool = False) -> None:
        """Read the last layer, or, with two_layers, the second and the last but one, joined (Unified-IO 2)."""
        super().__init__()
        config = tower.config
        self.tower, self.pixels, self.two_layers = tower, pixels, two_layers
        self.grid = (pixels.size[0] // config.patch_size, pixels.size[1] // config.patch_size)
        self.channels = int(config.hidden_size) * (2 if two_layers else 1)

    def forward(self, frame: Tensor) -> Tensor:
        """Return the grid's features, each with its place."""
        out = self.tower(self.pixels(frame), output_hidden_states=self.two_layers)
        layers = [out.hidden_states[2], out.hidden_states[-2]] if self.two_layers else [out.last_hidden_state]
        rows, columns = self.grid
        # What stands before the patches, a class token or registers, is no place in the frame.
        features = torch.cat([layer[:, -rows * columns :] for layer in layers], -1)
        return place(features, rows, columns)


def load_encoder(backbone: Backbone, *, two_layers: bool = False) -> tuple[Encoder, Backbone]:
    """Load a folder's AutoModel, of a model of images and text its vision part, and describe it for a later load.

    Raise BackboneError where it has none, or fewer layers than two_layers reads.
    """
    model, described = load_pretrained(AutoModel, backbone)
    part = getattr(model, "vision_model", None)
    tower = part if isinstance(part, PreTrainedModel) else model
    config = tower.config
    if not hasattr(config, "patch_size") or not hasattr(config, "image_size"):
        raise BackboneError(backbone.folder, f"a {type(model).__name__} is no vision encoder of patches")
    if two_layers and config.num_hidden_layers < 3:
        raise BackboneError(backbone.folder, f"{config.num_hidden_layers} layers; two_layers needs 3 or more")
    told = described.pixels or told_pixels(Path(described.folder), config.image_size)
    drop_pooling(tower)
    adapt(tower, described)
    encoder = Encoder(tower, Pixels(**told), two_layers=two_layers)
    _freeze_unused(encoder)
    return encoder, replace(described, pixels=told)


def drop_pooling(module: nn.Module) -> None:
    """Leave out, anywhere in module, what makes one vector of all cells, which nothing here reads."""
    for part in [part for part in module.modules() if isinstance(part, PreTrainedModel)]:
        if getattr(part, "use_head", False):
            setattr(part, "use_head", False)  # noqa: B010 - as torch types it, a module has no flags
            part.register_module("head", None)
        if getattr(part, "pooler", None) is not None:
            part.register_module("pooler", None)


def _freeze_unused(encoder: Encoder) -> None:
    """Train nothing that has no part in the features: the last layer, where that before it is read, or a last norm.

    A gradient that never comes would stop training on several processes.
    """
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    if trained:
        size = encoder.pixels.size
        features = encoder(torch.zeros(1, 3, *size))
        reached = torch.autograd.grad(features.sum(), trained, allow_unused=True)
        for parameter, gradient in zip(trained, reached, strict=True):
            parameter.requires_grad_(gradient is not None)
