"""Frames of one camera, read from disk when they are asked for: pictures in parquet columns, or videos."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embodied.machine import memory_bytes
from embodied.recording import jpeg
from embodied.recording.format import DatasetError
from embodied.recording.tables import naming_broken
from embodied.recording.video_decoder import VideoDecoder
from embodied.recording.video_index import VideoIndex, VideoIndexes
from embodied.types import Camera, Frame

Told = Callable[[int], str]  # a row -> where a person finds it
# Of compressed pictures, a camera: drawn at random, each that is not kept costs the reading of its row group.
CACHE_BYTES = max(256 * 2**20, (memory_bytes() or 0) // 16)


class FrameStore(Protocol):
    """Frames of one camera by row; safe from several threads."""

    def frames(self, rows: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Yield each row of rows with its frame, uint8 (H, W, 3), in the order that is cheapest.

        Raise DatasetError, naming the file and the row, for a frame that is not there or cannot be decoded.
        """

    def encoded(self, row: int) -> NDArray[np.uint8]:
        """Return the frame of a row as bytes of a JPEG or PNG, uint8 (bytes,)."""

    def error(self, row: int, reason: str) -> DatasetError:
        """Return the error of a row's frame, which names the file that it is in."""


class Pictures:
    """Pictures in a parquet column: the row groups last used are kept, up to CACHE_BYTES."""

    def __init__(self, files: Sequence[Path], column: str, told: Told) -> None:
        self._files, self._column, self._told = list(files), column, told
        self._about = [_metadata(file) for file in files]
        groups = [m.row_group(g).num_rows for m in self._about for g in range(m.num_row_groups)]
        self._places = [(f, g) for f, m in enumerate(self._about) for g in range(m.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(groups, dtype=np.int64)])
        self._cache: OrderedDict[int, pa.Array] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def encoded(self, row: int) -> NDArray[np.uint8]:
        """Return the bytes of a row's picture without copying them."""
        group = self._group_of(row)
        array = self._group(group)
        _, offsets, data = array.buffers()
        at = array.offset + row - int(self._starts[group])
        start, stop = np.frombuffer(offsets, np.int32)[at : at + 2]
        return np.frombuffer(data, np.uint8)[start:stop] if data is not None else np.empty(0, np.uint8)

    def frames(self, rows: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Yield each row with its frame, those of one row group together."""
        for row in sorted(rows):
            try:
                frame = jpeg.decode(self.encoded(row))
            except ValueError as error:
                raise self.error(row, str(error)) from error
            yield row, frame

    def error(self, row: int, reason: str) -> DatasetError:
        """Return the error of a row's picture."""
        file, _ = self._places[self._group_of(row)]
        return DatasetError(self._files[file], f"{self._column!r} of {self._told(row)}: {reason}")

    def _group_of(self, row: int) -> int:
        return int(np.searchsorted(self._starts, row, side="right")) - 1

    def _group(self, group: int) -> pa.Array:
        with self._lock:
            if (found := self._cache.get(group)) is not None:
                self._cache.move_to_end(group)
                return found
        array = self._read(group)
        with self._lock:
            if group not in self._cache:
                self._cache[group] = array
                self._bytes += array.nbytes
            while self._bytes > CACHE_BYTES and len(self._cache) > 1:
                self._bytes -= self._cache.popitem(last=False)[1].nbytes
        return array

    def _read(self, group: int) -> pa.Array:
        file, inner = self._places[group]
        path, about = self._files[file], self._about[file]
        with naming_broken(path), pq.ParquetFile(path, metadata=about, memory_map=True) as parquet:
            column = parquet.read_row_group(inner, columns=[self._column], use_threads=False).column(0)
        return column.combine_chunks().field("bytes")


@dataclass(frozen=True)
class Footage:
    """Where an episode's frames lie: from a time in a video file on."""

    file: Path
    start_s: float
    first_row: int


class Videos:
    """Videos of many episodes a file; what is kept in memory is where each frame lies."""

    def __init__(self, footage: Sequence[Footage], timestamp: NDArray[np.float32], fps: float, told: Told) -> None:
        """Read footage, which lies in the order of its rows; timestamp is every row's since its episode began."""
        self._footage, self._timestamp, self._fps, self._told = list(footage), timestamp, fps, told
        self._starts = np.array([f.first_row for f in footage], np.int64)
        self._indexes, self._decoder = VideoIndexes(), VideoDecoder()

    def encoded(self, row: int) -> NDArray[np.uint8]:
        """Return a row's frame as a JPEG."""
        (_, frame), *_ = self.frames([row])
        return np.frombuffer(jpeg.encode(frame), np.uint8)

    def frames(self, rows: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Yield each row with its frame, those of one file together, and of one group of pictures decoded at once."""
        by_file: dict[Path, list[int]] = {}
        for row in rows:
            by_file.setdefault(self._of(row).file, []).append(row)
        for file, wanted in by_file.items():
            index = self.index(file)
            packets = self._packets(index, wanted)
            rows_of: dict[int, list[int]] = {}
            for row, packet in zip(wanted, packets.tolist(), strict=True):
                rows_of.setdefault(packet, []).append(row)
            try:
                for packet, frame in self._decoder.frames(index, packets.tolist()):
                    for row in rows_of.pop(packet):
                        yield row, frame
            except DatasetError as error:
                row = rows_of[min(rows_of)][0]  # they come in the order of the file
                raise self.error(row, error.reason) from error

    def error(self, row: int, reason: str) -> DatasetError:
        """Return the error of a row's frame."""
        return DatasetError(self._of(row).file, f"{self._told(row)}: {reason}")

    def index(self, file: Path) -> VideoIndex:
        """Return where a file's frames lie; raise DatasetError where its rate is not the dataset's."""
        index = self._indexes[file]
        if index.fps and abs(index.fps / self._fps - 1) > 0.01:
            raise DatasetError(file, f"runs at {index.fps:g} frames/s, and meta/info.json says fps {self._fps:g}")
        return index

    def _packets(self, index: VideoIndex, rows: list[int]) -> NDArray[np.int64]:
        start_s = np.array([self._of(row).start_s for row in rows])
        time_s = start_s + self._timestamp[rows].astype(np.float64)
        packets, off_s = index.packets_at(time_s)
        # Half a period away the neighbouring frame would be as near: there is no telling which one it is.
        if (off := off_s > 0.4 / self._fps).any():
            at = int(np.argmax(off))
            raise self.error(
                rows[at],
                f"at {time_s[at]:.3f} s there is no frame: the nearest is {off_s[at]:.3f} s away, and the file has "
                f"{len(index)} at {index.fps:g} a second",
            )
        return packets

    def _of(self, row: int) -> Footage:
        return self._footage[int(np.searchsorted(self._starts, row, side="right")) - 1]


def gather(store: FrameStore, camera: Camera, rows: Sequence[int], threads: int) -> NDArray[np.uint8]:
    """Return the frames of rows in their order, uint8 (rows, H, W, 3), decoded by so many threads.

    Neighbours stay on one thread: they may share what has to be read or decoded before them. Raise DatasetError for a
    frame that is not of the camera's size.
    """
    places: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row, []).append(place)
    found = np.empty((len(rows), camera.height, camera.width, 3), np.uint8)

    def decode(part: NDArray[np.int64]) -> None:
        for row, frame in store.frames(part.tolist()):
            if frame.shape != found.shape[1:]:
                raise store.error(row, f"is {frame.shape}, and meta/info.json says {found.shape[1:]}")
            for place in places[row]:
                found[place] = frame

    parts = np.array_split(np.sort(np.fromiter(places, np.int64)), min(threads, max(len(places), 1)))
    if len(parts) == 1:
        decode(parts[0])
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(decode, parts))
    return found


def _metadata(file: Path) -> pq.FileMetaData:
    with naming_broken(file):
        return pq.read_metadata(file, memory_map=True)
