"""Writes a camera's frames as LeRobot has videos: many episodes a file, a key frame every second one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from embodied.recording import format as layout
from embodied.recording.scheduling import ordinary_scheduling
from embodied.types import Camera, Frame

GOP = 2  # lerobot's own: a random frame costs two decoded ones at most
# Encoder and options. On two cores these keep up with a simulator; less quality blurs a cube six pixels wide.
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"crf": "18", "preset": "veryfast", "bf": "0", "threads": "1"}),
    "av1": ("libsvtav1", {"crf": "25", "preset": "10", "svtav1-params": "lp=1"}),
}
DEFAULT_CODEC = "h264"


@dataclass(frozen=True)
class Filmed:
    """Where an episode's frames went: times are s in the file."""

    chunk_index: int
    file_index: int
    from_timestamp: float
    to_timestamp: float


class VideoWriter:
    """Writes one camera's videos under a dataset; each is whole once close() or the next file has come.

    Raises DatasetError, naming the file, where the disk is full or the frames' size is none that a codec takes.
    """

    def __init__(self, path: Path, key: str, camera: Camera, *, fps: float, codec: str) -> None:
        if camera.width % 2 or camera.height % 2:
            size = f"{camera.height} x {camera.width}"
            raise layout.DatasetError(path, f"camera {camera.name!r} is {size}: a video needs even sizes; use images")
        self._path, self._key, self._camera = path, key, camera
        self._rate, self._codec = Fraction(fps).limit_denominator(1000), codec
        self._number = self._frames = self._bytes = 0
        self._container: Any = None

    def add(self, frames: Iterable[Frame]) -> Filmed:
        """Append an episode's frames, uint8 (H, W, 3) each, and return where they went."""
        if self._bytes >= layout.VIDEO_FILE_SIZE_MB * 1e6:
            self.close()
            self._number, self._frames, self._bytes = self._number + 1, 0, 0
        with self._told():
            if self._container is None:
                self._open()
            first = self._frames
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                picture.pts = self._frames
                self._mux(self._stream.encode(picture))
                self._frames += 1
        start_s, stop_s = (float(at / self._rate) for at in (first, self._frames))
        return Filmed(*divmod(self._number, layout.FILES_PER_CHUNK), start_s, stop_s)

    def close(self) -> None:
        """Flush the encoder and give the file its name; idempotent."""
        if self._container is None:
            return
        with self._told():
            self._mux(self._stream.encode(None))
            self._container.close()
            os.replace(self._partial, self._file)
        self._container = None

    def discard(self) -> None:
        """Leave the file that is not whole away."""
        if self._container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._container.close()
            self._container = None
            self._partial.unlink(missing_ok=True)

    def about(self) -> dict[str, Any]:
        """Return what info.json says of the videos, as lerobot 0.4.4 has it."""
        fps = int(self._rate) if self._rate.denominator == 1 else float(self._rate)
        return {
            "video.height": self._camera.height,
            "video.width": self._camera.width,
            "video.codec": self._codec,
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": fps,
            "video.channels": 3,
            "has_audio": False,
        }

    @property
    def _file(self) -> Path:
        chunk_index, file_index = divmod(self._number, layout.FILES_PER_CHUNK)
        found = layout.VIDEO_PATH.format(video_key=self._key, chunk_index=chunk_index, file_index=file_index)
        return self._path / found

    @property
    def _partial(self) -> Path:
        return self._file.with_name(self._file.name + ".partial")

    def _open(self) -> None:
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 greets on stderr otherwise
        self._file.parent.mkdir(parents=True, exist_ok=True)
        encoder, options = CODECS[self._codec]
        self._container = av.open(str(self._partial), "w", format="mp4")
        self._stream = self._container.add_stream(encoder, rate=self._rate, options={**options, "g": str(GOP)})
        self._stream.width, self._stream.height = self._camera.width, self._camera.height
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = 1 / self._rate
        with ordinary_scheduling():
            self._stream.codec_context.open()

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._bytes += packet.size
            self._container.mux(packet)

    @contextlib.contextmanager
    def _told(self) -> Any:  # noqa: ANN401  a context manager
        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            file = self._file
            self.discard()
            raise layout.DatasetError(file, f"cannot be written: {error}") from error
