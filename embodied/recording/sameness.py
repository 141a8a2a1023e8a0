"""What makes two episodes the same: their numbers, whatever their place, seed or frames."""

from __future__ import annotations

import hashlib

from embodied.recording.episodes import EpisodeRange
from embodied.recording.reader import DatasetReader


def digest(reader: DatasetReader, episode: EpisodeRange) -> bytes:
    """Return a digest of an episode's states and actions."""
    rows = slice(episode.start, episode.stop)
    return hashlib.sha256(reader.state[rows].tobytes() + b"|" + reader.action[rows].tobytes()).digest()
