"""What an image-text model (SmolVLM, PaliGemma, Qwen-VL) sees with: its tower and projector, in a stem's place."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from policies.backbones.adaptation import adapt
from policies.backbones.encoder import drop_pooling
from policies.backbones.folder import Backbone, BackboneError
from policies.backbones.pixels import Pixels
from policies.vision import place

LANGUAGE_PARTS = ("language_model", "text_model")
PROJECTORS = ("connector", "multi_modal_projector", "visual.merger")
ANY_SIZE = 224  # pixels, a side, of a tower that takes any size and whose folder names none


class Eye(nn.Module):
    """A frame (B, 3, H, W) in [0, 1] to image tokens as the language part was taught to read them, places last."""

    def __init__(self, model: Any, pixels: Pixels, width: int) -> None:  # noqa: ANN401 - transformers types few of these
        """Take an image-text model without its language part, which is width wide."""
        super().__init__()
        self.model, self.pixels, self.channels = model, pixels, width

    def forward(self, frame: Tensor) -> Tensor:
        """Return (B, rows, columns, channels + 2): image tokens, each with its place."""
        tokens = self.tokens(frame)
        height, width = self.pixels.size
        rows = round(math.sqrt(tokens.shape[1] * height / width))
        return place(tokens, rows, tokens.shape[1] // rows)

    def tokens(self, frame: Tensor) -> Tensor:
        """Return the image tokens alone (B, n, width); how many there are is the model's and its pixels' own."""
        pixels = self.pixels(frame)
        if hasattr(self.model, "visual"):
            patches, grid = _patches(pixels, self.model.visual.config)
            seen: Any = self.model.get_image_features(patches, grid.to(pixels.device))
        elif hasattr(self.model, "connector"):
            # Idefics3 takes an image of zeros, which a grey frame is, for padding, and leaves it out.
            seen = self.model.get_image_features(pixels.masked_fill(pixels == 0.0, 1e-6)[:, None])
        else:
            seen = self.model.get_image_features(pixels)
        return torch.stack([*seen.pooler_output])


def language_part(model: Any) -> str:  # noqa: ANN401
    """Return what an image-text model calls its language part; raise BackboneError where it has none that is known."""
    found = [name for name in LANGUAGE_PARTS if hasattr(model.base_model, name)]
    if not found:
        raise BackboneError(type(model).__name__, f"has no part named {[*LANGUAGE_PARTS]}")
    return found[0]


def make_eye(core: Any, backbone: Backbone) -> Eye:  # noqa: ANN401
    """Return the eye of core, an image-text model without its language part; its projector is trained in any case."""
    drop_pooling(core)
    there = dict(core.named_modules())
    adapt(core, backbone, trained=[name for name in PROJECTORS if name in there])
    return Eye(core, Pixels(**backbone.pixels), core.config.get_text_config().hidden_size)


def _patches(pixels: Tensor, config: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - a class for each model
    """Return pixels (B, 3, H, W) as Qwen-VL's flat patches, in the order in which it merges them, and (B, 3) grids.

    A still frame stands for all the frames of a patch in time.
    """
    size, merged, frames = config.patch_size, config.spatial_merge_size, config.temporal_patch_size
    count, channels, height, width = pixels.shape
    rows, columns = height // size, width // size
    cut = pixels.view(count, channels, rows // merged, merged, size, columns // merged, merged, size)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)[:, :, :, :, :, :, None].expand(-1, -1, -1, -1, -1, -1, frames, -1, -1)
    grid = torch.tensor([[1, rows, columns]] * count)
    return cut.reshape(count * rows * columns, channels * frames * size * size), grid
