"""Text by a pretrained tokenizer and embedding, with our specials and value tokens put before it."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoTokenizer

from policies.backbones.folder import BackboneError, gguf_options, weight_files
from policies.embedding import fourier
from policies.values import BINS
from policies.vocabulary import FIRST_TEXT, FIRST_VALUE, Vocabulary


class PretrainedEmbedding(nn.Module):
    """Ids to embeddings, and hidden states to logits: a small table of our own, then the pretrained one as it was.

    Ids below FIRST_TEXT are ours; FIRST_TEXT + i is the pretrained tokenizer's i.
    """

    def __init__(self, text: nn.Embedding, head: nn.Module | None, cap: float | None = None) -> None:
        """Take the pretrained table, its own output layer (None: tied to it), and a bound of its logits (Gemma 2)."""
        super().__init__()
        self.text, self.head, self.cap = text, head, cap
        self.own = nn.Embedding(FIRST_TEXT, text.embedding_dim)
        with torch.no_grad():  # begins among the old ones, so that the trunk meets nothing of an unknown size
            spread, centre = text.weight.std(0), text.weight.mean(0)
            self.own.weight.copy_(centre + 0.5 * spread * torch.randn(self.own.weight.shape))
            usual = text.weight.norm(dim=1).mean()
            self.own.weight[FIRST_VALUE:] += 0.5 * usual * fourier(BINS, text.embedding_dim)

    @property
    def size(self) -> int:
        """Count every id, those of the pretrained table that its tokenizer never says too."""
        return FIRST_TEXT + self.text.num_embeddings

    def forward(self, ids: Tensor) -> Tensor:
        """Return (..., width) of int64 ids (...)."""
        own = self.own(ids.clamp(max=FIRST_TEXT - 1))
        # Called, not indexed: some classes scale what they look up.
        text = self.text((ids - FIRST_TEXT).clamp(min=0))
        return torch.where((ids >= FIRST_TEXT)[..., None], text, own)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return (..., size) in float32."""
        text = functional.linear(hidden, self.text.weight) if self.head is None else self.head(hidden)
        if self.cap is not None:
            text = torch.tanh(text / self.cap) * self.cap
        return torch.cat([functional.linear(hidden, self.own.weight), text], -1).float()


def load_vocabulary(folder: Path) -> Vocabulary:
    """Return a vocabulary whose text is a pretrained tokenizer's; raise BackboneError where the folder has none.

    Nothing is added to a text, and what looks like a special token in it stays text.
    """
    path = folder / "tokenizer.json"
    try:
        if path.is_file():
            tokenizer = Tokenizer.from_file(str(path))
        else:
            options = gguf_options(weight_files(folder))
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **options).backend_tokenizer
    except BackboneError:
        raise
    except Exception as error:  # tokenizers raises no narrower type
        raise BackboneError(folder, f"has no tokenizer that can be read ({str(error)[:200]})") from error
    tokenizer.post_processor = None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return Vocabulary(tokenizer)
