"""Shows what the robot's cameras see in a browser on this machine, for an operator who is not beside the robot."""

from __future__ import annotations

import http.server
import threading
from typing import Self

from embodied.errors import EmbodiedError
from embodied.recording import jpeg
from embodied.types import Observation, RobotSpec

BOUNDARY = "frame"
WAIT_S = 1.0
PAGE = """<!doctype html><title>{name}</title><style>body{{background:#111;color:#eee;font:16px sans-serif;margin:1em}}
img{{height:80vh;max-width:48%;object-fit:contain;image-rendering:pixelated}}</style><p>{name}</p>{images}"""


class Screen:
    """A page at url with every camera's newest frame; a context manager."""

    def __init__(self, spec: RobotSpec, port: int) -> None:
        """Serve on loopback at a port, 0 for a free one; raise EmbodiedError where that is taken."""
        self._spec = spec
        self._frames: dict[str, bytes] = {}
        self._shown = 0
        self._news = threading.Condition()
        self._closed = False
        screen = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                screen._answer(self)

            def log_message(self, format: str, *arguments: object) -> None:
                """Keep the operator's terminal free."""

        try:
            self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise EmbodiedError(f"nothing can be shown on port {port}: {error.strerror}; choose another") from error
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, name="screen", daemon=True).start()

    def show(self, observation: Observation) -> None:
        """Put the frames of an observation in the place of those shown."""
        frames = {name: jpeg.encode(frame) for name, frame in observation.frames.items()}
        with self._news:
            self._frames, self._shown = frames, self._shown + 1
            self._news.notify_all()

    def close(self) -> None:
        """Serve no longer; idempotent."""
        if not self._closed:
            self._closed = True
            self._server.shutdown()
            self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        cameras, camera = [c.name for c in self._spec.cameras], request.path.removeprefix("/")
        if camera in cameras:
            self._stream(request, camera)
        elif camera:
            request.send_error(404)
        else:
            images = "".join(f'<img src="/{name}" alt="{name}">' for name in cameras)
            page = PAGE.format(name=self._spec.name, images=images).encode()
            request.send_response(200)
            request.send_header("Content-Type", "text/html; charset=utf-8")
            request.send_header("Content-Length", str(len(page)))
            request.end_headers()
            request.wfile.write(page)

    def _stream(self, request: http.server.BaseHTTPRequestHandler, camera: str) -> None:
        """Send frames as they come (multipart/x-mixed-replace), until whoever watches leaves."""
        request.send_response(200)
        request.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        request.end_headers()
        sent = 0
        while not self._closed:
            with self._news:
                if self._shown == sent:
                    self._news.wait(WAIT_S)
                fresh, sent, data = self._shown > sent, self._shown, self._frames.get(camera)
            if not fresh or data is None:
                continue
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            try:
                request.wfile.write(head.encode() + data + b"\r\n")
            except OSError:
                return
