"""Draws a contact sheet of a dataset: a strip an episode, of each camera's first, middle and last frames."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from tqdm import tqdm

from embodied.errors import EmbodiedError
from embodied.output import PROGRESS_AFTER_S
from embodied.recording.episodes import EpisodeRange
from embodied.recording.frame_checks import looks
from embodied.recording.reader import DatasetReader
from embodied.recording.video import FONT, GREEN, GROUND, INK, RED
from embodied.types import Frame

HEIGHT_PX = 160  # of a picture
CAPTION_PX = 40
GAP_PX = 4
EPISODES = 8
LOOKS = 3  # of each camera in a sheet of several episodes
LOOKS_ALONE = 10  # of each camera in the sheet of one episode, a camera a row


def dataset_sheet(reader: DatasetReader, episodes: Sequence[EpisodeRange]) -> Frame:
    """Draw a strip an episode: uint8 (H, W, 3) RGB. Raise EmbodiedError for a dataset without cameras."""
    _require_cameras(reader)
    strips = []
    for episode in tqdm(episodes, unit="episode", desc="pictures", delay=PROGRESS_AFTER_S):
        views = [_views(reader, name, looks(episode, LOOKS), LOOKS) for name in _names(reader)]
        strips.append(_captioned(np.concatenate(views, axis=1), episode))
    return np.concatenate(strips)


def episode_sheet(reader: DatasetReader, episode: EpisodeRange) -> Frame:
    """Draw one episode, a row a camera: uint8 (H, W, 3) RGB. Raise EmbodiedError for a dataset without cameras."""
    _require_cameras(reader)
    rows = looks(episode, LOOKS_ALONE)
    views = [_views(reader, name, rows, len(rows), start=episode.start) for name in _names(reader)]
    width = max(view.shape[1] for view in views)
    return _captioned(np.concatenate([_widened(view, width) for view in views]), episode)


def _names(reader: DatasetReader) -> list[str]:
    return [camera.name for camera in reader.spec.cameras]


def _require_cameras(reader: DatasetReader) -> None:
    if not reader.spec.cameras:
        raise EmbodiedError(f"{reader.path} has no camera, so there is nothing to draw: leave --pictures out")


def _views(reader: DatasetReader, camera: str, rows: Sequence[int], places: int, *, start: int | None = None) -> Frame:
    """Draw a camera's frames side by side; those after start tell their row within the episode."""
    spec = reader.spec.camera(camera)
    width = round(HEIGHT_PX * spec.width / spec.height)
    view = np.full((HEIGHT_PX, places * (width + GAP_PX), 3), GROUND, np.uint8)
    for i, row in enumerate(rows):
        frame = cv2.resize(reader.frame(camera, row), (width, HEIGHT_PX), interpolation=cv2.INTER_AREA)
        left = i * (width + GAP_PX)
        view[:, left : left + width] = frame
        text = "" if start is None else f"{row - start}"
        _write(view, f"{camera} {text}" if i == 0 else text, (left + 4, HEIGHT_PX - 6))
    return view


def _captioned(view: Frame, episode: EpisodeRange) -> Frame:
    caption = np.full((CAPTION_PX, view.shape[1], 3), GROUND, np.uint8)
    caption[:, :6] = GREEN if episode.success else RED
    outcome = "success" if episode.success else "no success"
    rows = episode.stop - episode.start
    _write(caption, f"episode {episode.index}  {episode.task}  {rows} rows  {outcome}", (14, 16))
    _write(caption, episode.instruction, (14, 33))
    return np.concatenate([caption, view])


def _widened(view: Frame, width: int) -> Frame:
    blank = np.full((view.shape[0], width - view.shape[1], 3), GROUND, np.uint8)
    return np.concatenate([view, blank], axis=1)


def _write(image: Frame, text: str, at: tuple[int, int]) -> None:
    """Write a line on a dark ground; the font has ASCII only."""
    plain = text.encode("ascii", "replace").decode()
    if plain:
        (width, height), below = cv2.getTextSize(plain, FONT, 0.42, 1)
        corners = (at[0] - 2, at[1] - height - 2), (at[0] + width + 1, at[1] + below)
        cv2.rectangle(image, *corners, GROUND, cv2.FILLED)
    cv2.putText(image, plain, at, FONT, 0.42, INK, 1, cv2.LINE_AA)
