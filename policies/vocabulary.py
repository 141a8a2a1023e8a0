"""The one vocabulary: special tokens, 1000 value tokens, byte-pair text, in this order of ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from policies.values import BINS

SPECIALS = (
    "<pad>",  # fills an instruction up to its slots; never attended to
    "<bos>",  # begins every sequence
    "<eos>",  # ends an answer
    "<image>",  # begins a camera's image tokens
    "<frame>",  # a slot that one image token of the frame fills
    "<state>",  # begins the state's value tokens
    "<history>",  # begins an earlier observation's tokens
    "<locate>",  # output mode: where the named things are, as value tokens; begins its slots
    "<pose>",  # output mode: a chunk of poses as value tokens; begins its slots
    "<text>",  # output mode: a text action, token by token
    "<query>",  # a slot whose answer is read as value tokens
    "<mask>",  # hides a token that is to be told from the others
    "<denoise-r>",  # [R]: some of a modality is hidden, at random
    "<denoise-s>",  # [S]: what comes after is hidden
    "<denoise-x>",  # [X]: most of a modality is hidden, in one piece
    "<rebuild>",  # output mode: colours of a frame's cells, as value tokens; begins its slots
)
PAD, BOS, EOS, IMAGE, FRAME, STATE, HISTORY, LOCATE, POSE, TEXT, QUERY, MASK = range(12)
DENOISE_R, DENOISE_S, DENOISE_X, REBUILD = range(12, len(SPECIALS))
FIRST_VALUE = len(SPECIALS)
FIRST_TEXT = FIRST_VALUE + BINS


class Vocabulary:
    """Text to ids and back. The tokenizer knows no special token, so a special's name typed by a user stays text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # A pretrained tokenizer has specials of its own; what looks like one in a text is text all the same.
        tokenizer.encode_special_tokens = True

    @classmethod
    def train(cls, corpus: Iterable[str], size: int = 768) -> Vocabulary:
        """Learn at most size byte-level byte pairs from corpus; any text can then be encoded."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.train_from_iterator(
            corpus, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
        )
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what save wrote."""
        return cls(Tokenizer.from_file(str(path)))

    def save(self, path: Path) -> None:
        """Write the byte pairs as a tokenizers JSON file."""
        self._tokenizer.save(str(path))

    @property
    def size(self) -> int:
        """Count every id: specials, values and byte pairs."""
        return FIRST_TEXT + self._tokenizer.get_vocab_size()

    @property
    def tokens(self) -> dict[str, int]:
        """Return each byte pair's number among them."""
        found: dict[str, int] = self._tokenizer.get_vocab()
        return found

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of text's byte pairs."""
        return [FIRST_TEXT + i for i in self._tokenizer.encode(text).ids]

    def decode_text(self, ids: Sequence[int]) -> str:
        """Return the text of byte-pair ids; raise ValueError for an id that is not text."""
        if any(i < FIRST_TEXT for i in ids):
            raise ValueError(f"ids {[i for i in ids if i < FIRST_TEXT]} are no text tokens")
        return str(self._tokenizer.decode([i - FIRST_TEXT for i in ids])).strip()
