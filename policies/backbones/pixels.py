"""Frames as a pretrained vision encoder was taught to see them: its own size, mean and deviation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.backbones.folder import BackboneError

PREPROCESSOR = "preprocessor_config.json"


class Pixels(nn.Module):
    """Resizes and normalises frames; a whole frame is squeezed into the square, as what is at its edge matters."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: Sequence[int], mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.size = (size[0], size[1])  # height and width
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1), persistent=False)

    def forward(self, frame: Tensor) -> Tensor:
        """Return (B, 3, *size), normalised, of frame (B, 3, H, W) in [0, 1]."""
        if tuple(frame.shape[-2:]) != self.size:
            frame = functional.interpolate(frame, self.size, mode="bicubic", antialias=True).clamp(0.0, 1.0)
        return (frame - self.mean) / self.deviation


def told_pixels(folder: Path, otherwise: int) -> dict[str, Any]:
    """Return what makes the Pixels of a folder's encoder: size, its own or a square of otherwise, mean and deviation.

    Raise BackboneError where the folder does not tell its mean and deviation.
    """
    path = folder / PREPROCESSOR
    if not path.is_file():
        raise BackboneError(folder, f"no {PREPROCESSOR} in it, which has the mean and deviation of its pixels")
    try:
        told = json.loads(path.read_text())
        mean, deviation = (_three(told[name]) for name in ("image_mean", "image_std"))
        sizes = [s for s in (told.get("crop_size"), told.get("size")) if isinstance(s, Mapping) and "height" in s]
        size = [int(sizes[0]["height"]), int(sizes[0]["width"])] if sizes else [otherwise, otherwise]
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(folder, f"{PREPROCESSOR} has no image_mean and image_std of 3 numbers") from error
    return {"size": size, "mean": mean, "deviation": deviation}


def _three(numbers: Any) -> list[float]:  # noqa: ANN401 - out of JSON
    values = list(map(float, numbers))
    if len(values) != 3:
        raise ValueError(f"{len(values)} numbers, not 3")
    return values
