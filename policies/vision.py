"""From a frame to a fixed number of image tokens: a convolutional stem, then a resampler that reads the instruction."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Stem(nn.Module):
    """A frame (B, 3, H, W) in [0, 1] to a grid of features (B, H / stride, W / stride, channels + 2), places last."""

    def __init__(self, channels: int, stride: int, blocks: int = 2) -> None:
        super().__init__()
        self.patches = nn.Sequential(
            nn.Conv2d(3, channels // 2, stride, stride // 2, stride // 4),
            nn.GELU(approximate="tanh"),
            nn.Conv2d(channels // 2, channels, 4, 2, 1),
        )
        self.blocks = nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))
        self.norm = nn.LayerNorm(channels)

    def forward(self, frame: Tensor) -> Tensor:
        """Return the grid's features, each with its place."""
        grid = self.patches(frame - 0.5)
        for block in self.blocks:
            grid = block(grid)
        height, width = grid.shape[-2:]
        features = self.norm(grid.flatten(2).transpose(1, 2))
        return place(features, height, width)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.rise = nn.Conv2d(channels, channels, 3, padding=1)
        self.fall = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, grid: Tensor) -> Tensor:
        """Return (B, C, H, W) as it came in, refined."""
        out: Tensor = grid + self.fall(functional.gelu(self.rise(self.norm(grid)), approximate="tanh"))
        return out


class PointingAttention(nn.Module):
    """Attention of a few queries to many keys, by unit queries times a learned sharpness, so it can become a point.

    A head that attends sharply returns the coordinates it looks at, which is how objects are located. The scaled
    cosine of Unified-IO 2's resampler (section 3.1), less the keys' norm: keys come normalised, and there are many.
    Without cosine it is the plain product over the root of the head's width.
    """

    def __init__(
        self, query_width: int, key_width: int, heads: int = 4, head_width: int = 32, *, cosine: bool = True
    ) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads, self.cosine = heads, cosine
        self.to_query = nn.Linear(query_width, inner, bias=False)
        self.to_key = nn.Parameter(torch.randn(heads, head_width, key_width) * key_width**-0.5)
        self.to_value = nn.Parameter(torch.randn(heads, key_width, head_width) * key_width**-0.5)
        self.out = nn.Linear(inner, query_width, bias=False)
        if cosine:
            self.log_sharpness = nn.Parameter(torch.full((heads, 1), 1.1))

    def forward(self, queries: Tensor, keys: Tensor, visible: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Look among keys (B, K, key_width), visible (B, K) or all.

        Return what each query found (B, Q, query_width), and where its heads looked (B, Q, heads, K), float32.

        The queries are projected into the keys' space rather than the keys into theirs: the product is the same
        kind, and there are 24 queries and heads to a thousand keys.
        """
        query = self.to_query(queries)
        query = self._scale(query.view(*query.shape[:2], self.heads, -1).float())
        probe = torch.einsum("bqhd,hdk->bqhk", query, self.to_key).flatten(1, 2)
        scores = (probe.to(keys.dtype) @ keys.transpose(1, 2)).float()
        if visible is not None:
            scores = scores.masked_fill(~visible[:, None, :], float("-inf"))
        looked = scores.softmax(-1)
        found = looked.to(keys.dtype) @ keys
        found = found.view(len(keys), -1, self.heads, keys.shape[-1])
        heads = torch.einsum("bqhk,hkd->bqhd", found, self.to_value.to(found.dtype))
        return self.out(heads.flatten(2)), looked.view(len(keys), -1, self.heads, keys.shape[1])

    def _scale(self, query: Tensor) -> Tensor:
        if not self.cosine:
            plain: Tensor = query * query.shape[-1] ** -0.5
            return plain
        scaled: Tensor = functional.normalize(query, dim=-1) * self.log_sharpness.clamp(max=4.0).exp()
        return scaled


class Resampler(nn.Module):
    """A camera's grid to a fixed number of image tokens: latents read the instruction, then look at the grid."""

    def __init__(
        self, grid_width: int, text_width: int, latents: int, width: int, layers: int = 2, *, cosine: bool = True
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width) * 0.5)
        self.layers = nn.ModuleList(ResamplerLayer(width, grid_width, text_width, cosine=cosine) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, grid: Tensor, text: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Resample grid (B, rows, columns, grid_width) as text (B, L, text_width), visible (B, L), asks.

        Return image tokens (B, latents, width), and where each looked at last (B, latents, heads, rows, columns).
        """
        tokens, cells = self.latents.expand(len(grid), -1, -1), grid.flatten(1, 2)
        looked = tokens
        for layer in self.layers:
            tokens, looked = layer(tokens, cells, text, visible)
        return self.norm(tokens), looked.view(*looked.shape[:-1], *grid.shape[1:3])


class ResamplerLayer(nn.Module):
    """Latents read the text, look at the grid, and think."""

    def __init__(self, width: int, grid_width: int, text_width: int, *, cosine: bool = True) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.read = PointingAttention(width, text_width, cosine=cosine)
        self.look = PointingAttention(width, grid_width, cosine=cosine)
        self.think = nn.Sequential(
            nn.Linear(width, 3 * width), nn.GELU(approximate="tanh"), nn.Linear(3 * width, width)
        )

    def forward(self, tokens: Tensor, grid: Tensor, text: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latents (B, latents, width), refined, and where they looked (B, latents, heads, K)."""
        said, _ = self.read(self.norms[0](tokens), text, visible)
        tokens = tokens + said
        seen, looked = self.look(self.norms[1](tokens), grid)
        tokens = tokens + seen
        return tokens + self.think(self.norms[2](tokens)), looked


def place(features: Tensor, rows: int, columns: int) -> Tensor:
    """Return features (B, rows·columns, C), row by row, as a grid (B, rows, columns, C + 2): last come a cell's row and
    column in [-1, 1].
    """
    down = torch.linspace(-1.0, 1.0, rows, dtype=features.dtype, device=features.device)
    across = torch.linspace(-1.0, 1.0, columns, dtype=features.dtype, device=features.device)
    places = torch.stack(torch.meshgrid(down, across, indexing="ij"), -1)
    grid = features.reshape(len(features), rows, columns, features.shape[-1])
    return torch.cat([grid, places.expand(len(grid), -1, -1, -1)], -1)


def wave(places: Tensor, octaves: int) -> Tensor:
    """Return the sines and cosines (..., 4 octaves) of places (..., 2) in [-1, 1], of a quarter wave to the end on.

    Of a place as a plain number a network learns coarse answers first and fine ones very late; of its waves it learns
    them at once (Fourier features, Tancik et al. 2020).
    """
    angles = places[..., None] * (torch.pi / 2 * 2.0 ** torch.arange(octaves, device=places.device)).to(places.dtype)
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)
