"""Findings: what a check of a dataset came upon, with file, episode and row, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embodied.recording.episodes import EpisodeRange
from embodied.recording.reader import DatasetReader

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error) or that deserves a look (warning)."""

    level: Level
    check: str  # one word a kind of finding
    file: str  # relative to the dataset
    episode: int | None  # None: the dataset as a whole
    row: int | None  # within the episode; None: all of it
    found: str
    mend: str

    def __str__(self) -> str:
        episode = "" if self.episode is None else f" episode {self.episode}"
        row = "" if self.row is None else f" row {self.row}"
        return f"{self.level:7}  {self.check:10}  {self.file}{episode}{row}: {self.found}; {self.mend}"


@dataclass(frozen=True)
class Thresholds:
    """What counts as too few or too short."""

    shortest: int = 5  # rows of an episode
    fewest: int = 5  # episodes of a task


class Examined:
    """A dataset under examination, as a finding tells of it."""

    def __init__(self, reader: DatasetReader) -> None:
        self.reader = reader

    @property
    def fps(self) -> float:
        """Return the rate that info.json names, Hz."""
        return float(self.reader.info.get("fps") or self.reader.spec.control_hz)

    def at(
        self, level: Level, check: str, episode: EpisodeRange, found: str, mend: str, *, row: int | None = None
    ) -> Finding:
        """Return a finding of an episode; row is within it."""
        file = self.reader.file_of(episode.start + (row or 0)).relative_to(self.reader.path)
        return Finding(level, check, str(file), episode.index, row, found, mend)


def whole(level: Level, check: str, file: Path | str, found: str, mend: str) -> Finding:
    """Return a finding of the dataset as a whole."""
    return Finding(level, check, str(file), None, None, found, mend)


def drop_it(episode: EpisodeRange) -> str:
    """Return what to do about an episode that is beyond repair."""
    return f"drop it (embodied data drop --episodes {episode.index})"
