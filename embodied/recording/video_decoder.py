"""Decodes chosen frames of a video: only what lies between the key frame before one and itself is decoded."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence

import av
from av.video.reformatter import VideoReformatter

from embodied.recording.format import DatasetError
from embodied.recording.video_index import VideoIndex
from embodied.types import Frame

# FFmpeg's AV1 decoder has hardware alone; libdav1d is the one that decodes on a processor.
SOFTWARE = {"av1": "libdav1d"}
CONTEXTS = 32  # decoders kept a thread: one for each kind of video


class VideoDecoder:
    """Decodes frames of any number of files; safe from several threads and after a fork.

    Nothing stays open between calls but a decoder for each thread: a file's bytes are read where its index says, so
    that no container has to seek.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    def frames(self, index: VideoIndex, packets: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Yield each packet of packets with its frame, uint8 (H, W, 3) RGB, in any order.

        Raise DatasetError, naming the file and the frame's time, for one that cannot be decoded.
        """
        groups: dict[int, list[int]] = {}
        for packet in sorted(set(packets)):
            groups.setdefault(index.key_of(packet), []).append(packet)
        try:
            file = os.open(index.path, os.O_RDONLY)
        except OSError as error:
            raise DatasetError(index.path, f"cannot be read: {error.strerror}") from error
        try:
            for key, wanted in groups.items():
                yield from self._group(index, file, key, wanted)
        finally:
            os.close(file)

    def _group(self, index: VideoIndex, file: int, key: int, wanted: list[int]) -> Iterator[tuple[int, Frame]]:
        """Yield the frames of packets that a key frame leads to.

        Where groups lean on the one before, as encoders may have it, the decoder finds that its pictures lack one, and
        has to begin a group earlier.
        """
        missing = {int(index.pts[packet]): packet for packet in wanted}
        before = index.keys[index.keys < key]
        for start in (key, *before[-1:].tolist()):
            context, reformatter = self._context(index), self._local.reformatter
            try:
                context.flush_buffers()
                for shown in _decoded(context, index, file, range(start, wanted[-1] + 1)):
                    if (packet := missing.pop(shown.pts, None)) is not None:
                        yield packet, reformatter.reformat(shown, format="rgb24", threads=1).to_ndarray()
                    if not missing:
                        return
                reason = ""
            except (av.error.FFmpegError, EOFError) as error:
                self._local.contexts = {}  # what state it is in now nobody knows
                reason = f" ({error})"
        raise DatasetError(index.path, f"{_at(index, missing)} cannot be decoded{reason}")

    def _context(self, index: VideoIndex) -> av.VideoCodecContext:
        """Return this thread's decoder for the file's kind of video; a forked process makes its own."""
        local, process = self._local, os.getpid()
        if getattr(local, "process", None) != process:
            local.process, local.contexts, local.reformatter = process, {}, VideoReformatter()
        kind = (index.decoder, index.extradata, index.width, index.height)
        if kind not in local.contexts:
            if len(local.contexts) >= CONTEXTS:
                local.contexts.pop(next(iter(local.contexts)))
            context = av.CodecContext.create(SOFTWARE.get(index.decoder, index.decoder), "r")
            context.extradata = index.extradata
            context.width, context.height = index.width, index.height
            context.thread_count = 1  # one frame at a time has nothing for threads to share, and they add delay
            context.options = {"err_detect": "explode"}
            local.contexts[kind] = context
        return local.contexts[kind]


def _decoded(
    context: av.VideoCodecContext, index: VideoIndex, file: int, packets: Sequence[int]
) -> Iterator[av.VideoFrame]:
    for at in packets:
        data = os.pread(file, int(index.size[at]), int(index.offset[at]))
        if len(data) < index.size[at]:
            raise EOFError("the file ends before it")
        packet = av.Packet(data)
        packet.pts, packet.time_base = int(index.pts[at]), index.time_base
        yield from context.decode(packet)
    yield from context.decode(None)  # what the decoder still holds back


def _at(index: VideoIndex, missing: dict[int, int]) -> str:
    return f"the frame at {float(next(iter(missing), 0) * index.time_base):.3f} s"
