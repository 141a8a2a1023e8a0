"""Where each frame of a video file lies in it, so that any can be read without seeking through a container."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from threading import Lock

import av
import numpy as np
from numpy.typing import NDArray

from embodied.recording.format import DatasetError

FILES = 512  # indexes kept; one of an hour at 30 frames/s takes 3 MB


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """The packets of one video in decoding order, n of them, each one frame."""

    path: Path
    decoder: str  # FFmpeg's name of it
    extradata: bytes | None
    time_base: Fraction
    height: int
    width: int
    pts: NDArray[np.int64]  # (n,) when the frame is shown, in time_base
    offset: NDArray[np.int64]  # (n,) bytes into the file
    size: NDArray[np.int64]  # (n,) bytes
    keys: NDArray[np.int64]  # packets that need no other, ascending
    shown: NDArray[np.int64]  # (n,) packets in the order in which they are shown

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def fps(self) -> float:
        """Return the frames a second, on average; 0 of a video with one frame."""
        span = int(self.pts[self.shown[-1]] - self.pts[self.shown[0]])
        return float((len(self) - 1) / (span * self.time_base)) if span else 0.0

    def packets_at(self, time_s: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return, for times (k,), the packets whose frames are nearest (k,), and how far away these are, s (k,)."""
        shown_s = self.pts[self.shown] * float(self.time_base)
        after = np.clip(np.searchsorted(shown_s, time_s), 1, max(len(self) - 1, 1))
        before = after - 1
        after = np.minimum(after, len(self) - 1)
        at = np.where(time_s - shown_s[before] <= shown_s[after] - time_s, before, after)
        return self.shown[at], np.abs(shown_s[at] - time_s)

    def key_of(self, packet: int) -> int:
        """Return the packet from which decoding has to begin for a packet's frame: the last key shown by then."""
        at = int(np.searchsorted(self.pts[self.keys], self.pts[packet], side="right")) - 1
        return int(self.keys[max(at, 0)])


def index_video(path: Path) -> VideoIndex:
    """Read through a video file's packets, decoding none; raise DatasetError where it is absent or truncated."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            packets = [(p.pts, p.pos, p.size, p.is_keyframe) for p in container.demux(stream) if p.size]
            found = (context.codec.name, context.extradata, stream.time_base, context.height, context.width)
            declared = stream.frames
    except FileNotFoundError:
        raise DatasetError(path, "no such file") from None
    except (av.error.FFmpegError, IndexError) as error:
        raise DatasetError(path, f"truncated or no video ({error})") from error
    size = path.stat().st_size
    whole = [p for p in packets if p[0] is not None and p[1] is not None and p[1] + p[2] <= size]
    if len(whole) < max(declared, len(packets), 1):
        raise DatasetError(path, f"truncated: {len(whole)} frames of {max(declared, len(packets))}")
    pts, offset, sizes = (np.array([p[i] for p in whole], np.int64) for i in range(3))
    keys = np.flatnonzero([p[3] for p in whole])
    if not len(keys):
        raise DatasetError(path, "truncated: no frame from which to begin")
    return VideoIndex(path, *found, pts, offset, sizes, keys, np.argsort(pts, kind="stable"))


class VideoIndexes:
    """Indexes of many files, each made when it is first asked for; safe from several threads."""

    def __init__(self) -> None:
        self._found: OrderedDict[Path, VideoIndex] = OrderedDict()
        self._lock = Lock()

    def __getitem__(self, path: Path) -> VideoIndex:
        with self._lock:
            if path in self._found:
                self._found.move_to_end(path)
                return self._found[path]
        index = index_video(path)  # outside the lock: two threads may both make one, which does no harm
        with self._lock:
            self._found[path] = index
            while len(self._found) > FILES:
                self._found.popitem(last=False)
        return index
