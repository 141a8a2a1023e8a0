"""From a frame to a grid of features by a small vision transformer, where the convolutional stem is not wanted."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from policies.trunk import Block, OptionError, Rotation, TrunkOptions, make_norm, rotary
from policies.vision import place

THETA_2D = 100.0  # grids are short beside texts: the base of Heo et al. 2024 (RoPE for vision transformers)
SECOND = 2


@dataclass(frozen=True)
class VitOptions:
    """What a vision transformer is made of."""

    layers: int = 4
    heads: int = 4
    rotary: bool = True  # 2-D rotary positions in every layer; without, cells know their places only in what comes out
    two_layers: bool = True  # what the second layer made, fine in place, joined to what the last made, fine in meaning
    blocks: TrunkOptions = field(default_factory=TrunkOptions)


class VisionTransformer(nn.Module):
    """A frame (B, 3, H, W) in [0, 1] to a grid of features (B, H / stride, W / stride, channels + 2), places last.

    Unified-IO 2 joins the second and the last-but-one layer of a pretrained tower, whose last layer serves the
    tower's own objective (section 3.1). This one is trained for ours, so its last layer is the other one.
    """

    def __init__(self, channels: int, stride: int, options: VitOptions | None = None) -> None:
        super().__init__()
        self.options = options or VitOptions()
        blocks, heads = self.options.blocks, self.options.heads
        if self.options.rotary and channels % (4 * heads):
            raise OptionError(f"2-D rotary positions need channels in fours a head, not {channels} of {heads} heads")
        if self.options.two_layers and self.options.layers <= SECOND:
            raise OptionError(f"two_layers needs more than {SECOND} layers, not {self.options.layers}")
        self.head_width = channels // heads
        self.patches = nn.Conv2d(3, channels, stride, stride)
        self.layers = nn.ModuleList(Block(channels, heads, 3 * channels, blocks) for _ in range(self.options.layers))
        if self.options.two_layers:
            self.join = nn.Linear(2 * channels, channels)
        self.norm = make_norm(blocks, channels)

    def forward(self, frame: Tensor) -> Tensor:
        """Return the grid's features, each with its place."""
        grid = self.patches(frame - 0.5)
        height, width = grid.shape[-2:]
        x = grid.flatten(2).transpose(1, 2)
        rotation = rotary_2d(height, width, self.head_width, x) if self.options.rotary else None
        made = []
        for layer in self.layers:
            x = layer(x, rotation, None, None)
            made.append(x)
        if self.options.two_layers:
            x = self.join(torch.cat([made[SECOND - 1], x], -1))
        return place(self.norm(x), height, width)


def rotary_2d(height: int, width: int, head_width: int, like: Tensor) -> Rotation:
    """Return the rotation of each cell, row by row: half of a head's planes turn with its row, half with its column."""
    rows = torch.arange(height, device=like.device).repeat_interleave(width)
    columns = torch.arange(width, device=like.device).repeat(height)
    by_row, by_column = (rotary(places, head_width // 2, like.dtype, THETA_2D) for places in (rows, columns))
    return torch.cat([by_row[0], by_column[0]], -1), torch.cat([by_row[1], by_column[1]], -1)
