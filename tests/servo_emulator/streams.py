"""The cameras' process: frames of the live physics as MJPEG over HTTP, drawn only while somebody looks.

A process of its own, because OpenGL on a CPU holds Python's lock for milliseconds, and a servo answers in microseconds.
"""

from __future__ import annotations

import http.server
import multiprocessing
import multiprocessing.connection
import os
import socket
import socketserver
import threading
import time
from collections import Counter
from dataclasses import dataclass

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from envs.cameras import Cameras as SquareCameras
from envs.scene import Scene
from tests.servo_emulator.view import LIVE, LOST, NAMES, View

BOUNDARY = "frame"
ENCODING = [
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,  # a frame of 128 pixels stands for one of 640 made small
]
IDLE_S = 0.2
_OFF = (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_HAZE)

Frame = NDArray[np.uint8]


class CameraProcess:
    """Starts the process; whoever connects before it has drawn its first frame waits in the socket's queue."""

    def __init__(self, view: View, *, width: int, height: int, fps: float) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
            self.urls = {name: f"http://127.0.0.1:{listener.getsockname()[1]}/{name}" for name in NAMES}
            context = multiprocessing.get_context("spawn")
            arguments = (listener, view.path, width, height, fps)
            self._process = context.Process(target=_serve, args=arguments, daemon=True)
            self._process.start()

    def stop(self) -> None:
        """Close every stream."""
        self._process.kill()
        self._process.join()


def _serve(listener: socket.socket, path: str, width: int, height: int, fps: float) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_follow, args=(parent.sentinel,), name="parent", daemon=True).start()
    streams = _Streams(path, width, height)
    threading.Thread(target=_Server(listener, streams).serve_forever, name="http", daemon=True).start()
    streams.run(fps)


def _follow(sentinel: int) -> None:
    """End when the emulator does, however it does."""
    multiprocessing.connection.wait([sentinel])
    os._exit(0)


@dataclass(frozen=True)
class _Picture:
    number: int
    time_s: float  # wall clock, as a camera that stamps its frames has it
    jpeg: bytes


class _Streams:
    """Draws the watched cameras."""

    def __init__(self, path: str, width: int, height: int) -> None:
        self.watchers: Counter[str] = Counter()
        self.drawn = threading.Condition()
        self.pictures: dict[str, _Picture] = {}
        self._model = Scene().model
        self._data = mujoco.MjData(self._model)
        self.view = View(self._model, path)
        self._painter = _Painter(self._model, width, height)
        self.view.read(self._model, self._data)
        for name in NAMES:  # OpenGL takes its time over the first frame
            self._encode(name)

    def run(self, fps: float) -> None:
        deadline, number, period_s = time.monotonic(), 0, 1 / fps
        while True:
            watched = [name for name in NAMES if self.watchers[name] > 0]
            if watched:
                self.view.read(self._model, self._data)
            number += 1
            time_s = time.time()
            for name in watched:
                picture = _Picture(number, time_s, self._encode(name))
                with self.drawn:
                    self.pictures[name] = picture
                    self.drawn.notify_all()
            deadline = max(deadline + period_s, time.monotonic() - period_s)
            time.sleep(max(0.0, deadline - time.monotonic()))

    def _encode(self, name: str) -> bytes:
        frame = self._painter.draw(self._data, name)  # uint8 (height, width, 3) RGB
        _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), ENCODING)
        return jpeg.tobytes()


class _Painter:
    """Draws as envs.cameras does, which is square, or in another shape."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        self._square = SquareCameras(model, width) if width == height else None
        self._renderer = None if width == height else mujoco.Renderer(model, height, width)
        if self._renderer is not None:
            for flag in _OFF:
                self._renderer.scene.flags[flag] = 0

    def draw(self, data: mujoco.MjData, name: str) -> Frame:
        if self._square is not None:
            return self._square.draw(data, (name,))[name]
        assert self._renderer is not None
        self._renderer.update_scene(data, name)
        return np.asarray(self._renderer.render())


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, streams: _Streams) -> None:
        self.streams = streams
        super().__init__(listener.getsockname(), _Stream, bind_and_activate=False)
        self.socket.close()
        self.socket = listener


class _Stream(http.server.BaseHTTPRequestHandler):
    """One viewer of one camera."""

    server: _Server

    def do_GET(self) -> None:
        streams, name = self.server.streams, self.path.strip("/")
        if name not in NAMES:
            self.send_error(404, f"no camera {name!r}; there are {list(NAMES)}")
            return
        if streams.view.state(name) == LOST:
            self.send_error(503, "the camera is not there")
            return
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        streams.watchers[name] += 1
        try:
            self._stream(streams, name)
        except OSError:
            pass  # the viewer has gone
        finally:
            streams.watchers[name] -= 1

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _stream(self, streams: _Streams, name: str) -> None:
        seen = streams.pictures[name].number if name in streams.pictures else 0
        while streams.view.state(name) != LOST:
            with streams.drawn:
                streams.drawn.wait(IDLE_S)
                picture = streams.pictures.get(name)
            if picture is None or picture.number == seen or streams.view.state(name) != LIVE:
                continue
            seen = picture.number
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n"
            stamp = f"X-Timestamp: {picture.time_s:.6f}\r\n\r\n"
            self.wfile.write((head + stamp).encode() + picture.jpeg + b"\r\n")
