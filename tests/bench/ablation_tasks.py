"""Small tasks that need what an option is for: each draws its own examples without end and tells its loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.trunk import Trunk, TrunkOptions
from policies.vision import Resampler, Stem
from policies.vit import VisionTransformer, VitOptions

BATCH = 32
SIDE, CELL = 32, 4  # pixels of a frame, and of a square in it
CELLS = SIDE // CELL
COLOURS = torch.tensor([[1.0, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.2, 1.0], [1.0, 0.9, 0.1]])


@dataclass(frozen=True)
class Variant:
    """One way to build the model of a task; the defaults are the project's."""

    task: str
    trunk: TrunkOptions = field(default_factory=TrunkOptions)
    vit: VitOptions = field(default_factory=lambda: VitOptions(layers=3, heads=2))
    cosine: bool = True
    history: bool = True
    z: float = 0.0
    bf16: bool = False


class Recall(nn.Module):
    """Sixteen pairs of a key and a value in the prefix, then eight keys asked for their values: a trunk alone."""

    PAIRS, ASKED, KEYS, VALUES, WIDTH = 16, 8, 64, 64, 64

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.keys, self.values = nn.Embedding(self.KEYS, self.WIDTH), nn.Embedding(self.VALUES, self.WIDTH)
        self.trunk = Trunk(self.WIDTH, 3, 4, 2 * self.WIDTH, variant.trunk)
        self.head = nn.Linear(self.WIDTH, self.VALUES)
        length = self.PAIRS + self.ASKED
        index = torch.arange(length)
        # What is asked sees all pairs and itself, pairs see each other: the policy's prefix and its query slots.
        self.mask = ((index < self.PAIRS) | (index == index[:, None])).expand(BATCH, -1, -1)
        self.positions = index.expand(BATCH, -1)

    def loss(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return what to minimise on a new batch, and the cross-entropy in it."""
        keys = torch.rand(BATCH, self.KEYS, generator=random).argsort(1)[:, : self.PAIRS]
        values = torch.randint(self.VALUES, (BATCH, self.PAIRS), generator=random)
        asked = torch.rand(BATCH, self.PAIRS, generator=random).argsort(1)[:, : self.ASKED]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.variant.bf16):
            pairs = self.keys(keys) + self.values(values)
            x = torch.cat([pairs, self.keys(keys.gather(1, asked))], 1)
            logits = self.head(self.trunk(x, self.mask, self.positions)[:, self.PAIRS :]).float()
        entropy = functional.cross_entropy(logits.flatten(0, 1), values.gather(1, asked).flatten())
        return entropy + self.variant.z * logits.logsumexp(-1).square().mean(), entropy


class Seeing(nn.Module):
    """A frame, or two, and a word in; a row and a column out: a stem, then the resampler."""

    WIDTH = 64

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.words = nn.Embedding(len(COLOURS), 32)
        self.see = Stem(32, CELL)
        self.resampler = Resampler(34, 32, 2, self.WIDTH, cosine=variant.cosine)
        self.past = Resampler(34, 32, 2, self.WIDTH, cosine=variant.cosine) if variant.task == "moving" else None
        tokens = 4 if self.past and variant.history else 2
        self.head = nn.Sequential(nn.Linear(tokens * self.WIDTH, 128), nn.GELU(), nn.Linear(128, 2 * CELLS))

    def loss(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return what to minimise on a new batch, the gaze's surprise in it as in training, and the cross-entropy."""
        frames, word, gaze, target = DRAWN[self.variant.task](random)
        text, visible = self.words(word[:, None]), torch.ones(BATCH, 1, dtype=torch.bool)
        tokens, looked = self.resampler(self.see(frames[0]), text, visible)
        if self.past is not None and self.variant.history:
            before, _ = self.past(self.see(frames[1]), text, visible)
            tokens = torch.cat([tokens, before], 1)
        logits = self.head(tokens.flatten(1)).view(-1, CELLS)
        entropy = functional.cross_entropy(logits, target.flatten())
        surprise = -(looked.flatten(-2)[torch.arange(BATCH), 0, :, gaze] + 1e-6).log().mean()
        return entropy + 0.2 * surprise, entropy


class Beside(nn.Module):
    """A frame of coloured cells: what colour is the one below and to the right of each? A vision transformer alone."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.see = VisionTransformer(32, CELL, variant.vit)
        self.head = nn.Linear(34, len(COLOURS))

    def loss(self, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of a new batch, which is what to minimise, twice."""
        colours = torch.randint(len(COLOURS), (BATCH, CELLS * CELLS), generator=random)
        places = torch.arange(CELLS * CELLS).expand(BATCH, -1)
        logits = self.head(self.see(paint(places, COLOURS[colours], random)))
        target = colours.view(BATCH, CELLS, CELLS)[:, 1:, 1:]
        entropy = functional.cross_entropy(logits[:, :-1, :-1].flatten(0, 2), target.flatten())
        return entropy, entropy


# Frames, latest first; the word (B,); the cell to look at (B,); the row and column to tell (B, 2).
Drawing = tuple[list[Tensor], Tensor, Tensor, Tensor]


def draw_pointing(random: torch.Generator) -> Drawing:
    """Draw four squares of four colours: where is the one of that colour?"""
    places = torch.rand(BATCH, CELLS * CELLS, generator=random).argsort(1)[:, :4]
    word = torch.randint(4, (BATCH,), generator=random)
    gaze = places.gather(1, word[:, None])[:, 0]
    return [paint(places, COLOURS.expand(BATCH, -1, -1), random)], word, gaze, split(gaze)


def draw_moving(random: torch.Generator) -> Drawing:
    """Draw a square that moves evenly: where will it be next?"""
    now = torch.randint(2, CELLS - 2, (BATCH, 2), generator=random)
    speed = torch.randint(-2, 3, (BATCH, 2), generator=random)
    colour = COLOURS[torch.randint(4, (BATCH, 1), generator=random)]
    cells = [place @ torch.tensor([CELLS, 1]) for place in (now, now - speed)]
    frames = [paint(cell[:, None], colour, random) for cell in cells]
    return frames, torch.zeros(BATCH, dtype=torch.long), cells[0], now + speed


def paint(places: Tensor, colours: Tensor, random: torch.Generator) -> Tensor:
    """Return frames (B, 3, SIDE, SIDE) with squares at places (B, n) in colours (B, n, 3), on noise."""
    grid = torch.full((BATCH, CELLS * CELLS, 3), 0.5)
    grid = grid.scatter(1, places[..., None].expand(-1, -1, 3), colours)
    frames = grid.view(BATCH, CELLS, CELLS, 3).permute(0, 3, 1, 2)
    frames = frames.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)
    return (frames + 0.1 * torch.randn(frames.shape, generator=random)).clamp(0.0, 1.0)


def split(places: Tensor) -> Tensor:
    """Return the rows and columns (B, 2) of cells (B,)."""
    return torch.stack([places // CELLS, places % CELLS], 1)


DRAWN: dict[str, Callable[[torch.Generator], Drawing]] = {
    "pointing": draw_pointing,
    "moving": draw_moving,
}


def build(variant: Variant) -> Recall | Seeing | Beside:
    """Return the model of a variant's task."""
    models: dict[str, type[Recall | Seeing | Beside]] = {"recall": Recall, "beside": Beside}
    return models.get(variant.task, Seeing)(variant)
