"""A network camera for tests: JPEG pictures over HTTP whose pixels say when they were sent, with faults on demand."""

import base64
import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

BITS = 24  # of the time in ms, as black and white cells
CELLS = (4, 6)  # rows, columns


def picture(time_ms: int, width: int = 640, height: int = 480) -> np.ndarray:
    """Draw the time into the middle square: (height, width, 3) uint8 BGR, blue at the left edge, red at the right."""
    bits = np.array([(time_ms >> bit) & 1 for bit in range(BITS)], np.uint8).reshape(CELLS)
    image = np.full((height, width, 3), 128, np.uint8)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image[top : top + side, left : left + side] = cv2.resize(bits * 255, (side, side), interpolation=cv2.INTER_NEAREST)[
        ..., None
    ]
    image[:, : left // 2], image[:, width - left // 2 :] = (255, 0, 0), (0, 0, 255)
    return image


def time_ms_in(frame: np.ndarray) -> int:
    """Read the time from a square frame."""
    side = frame.shape[0]
    rows = ((np.arange(CELLS[0]) + 0.5) * side / CELLS[0]).astype(int)
    columns = ((np.arange(CELLS[1]) + 0.5) * side / CELLS[1]).astype(int)
    bits = (frame[np.ix_(rows, columns)].mean(axis=2) > 128).ravel()
    return int(sum(int(bit) << place for place, bit in enumerate(bits)))


def age_ms(frame: np.ndarray) -> int:
    """Return how long ago the picture of a frame was sent."""
    return (time.monotonic_ns() // 1_000_000 - time_ms_in(frame)) % (1 << BITS)


class MotionJpegServer:
    """Serves /stream at fps until it is told to misbehave; every attribute may be changed while it serves."""

    def __init__(self, fps: float = 30.0, size: tuple[int, int] = (640, 480), port: int = 0) -> None:
        self.fps, self.size = fps, size
        self.lengths = self.stamps = True
        self.fault = ""  # stall | frozen | short | trickle
        self.password = ""
        self.requests = 0
        self._connections: list[BaseHTTPRequestHandler] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stream"

    def drop(self) -> None:
        """Close every connection, as a camera whose plug is pulled."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.connection.shutdown(2)

    def close(self) -> None:
        self.fault = "closed"
        self.drop()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera._answer(self)

            def log_message(self, *_) -> None:
                """Keep quiet."""

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        if self.password and handler.headers.get("Authorization") != f"Basic {_base64(self.password)}":
            handler.send_error(401)
            return
        if handler.path != "/stream":
            kind, body = ("image/jpeg", self._part(picture(0))) if handler.path == "/one.jpg" else ("text/html", b"hi")
            handler.send_response(200)
            handler.send_header("Content-Type", kind)
            handler.end_headers()
            handler.wfile.write(body)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        handler.end_headers()
        self._connections.append(handler)
        with contextlib.suppress(OSError):
            self._stream(handler)
        self._connections.remove(handler)

    def _stream(self, handler: BaseHTTPRequestHandler) -> None:
        due_s, image = time.monotonic(), picture(0, *self.size)
        while self.fault != "closed":
            now_ns = time.monotonic_ns()
            if self.fault != "frozen":
                image = picture(now_ns // 1_000_000 % (1 << BITS), *self.size)
            if self.fault != "stall":
                handler.wfile.write(self._part(image, now_ns))
            due_s = max(due_s + 1 / self.fps, time.monotonic() - 1)
            time.sleep(max(0, due_s - time.monotonic()))

    def _part(self, image: np.ndarray, now_ns: int | None = None) -> bytes:
        body = cv2.imencode(".jpg", image)[1].tobytes()
        if now_ns is None:
            return body
        if self.fault == "short":
            body = body[: len(body) // 2]
        if self.fault == "trickle":
            return b"."
        headers = "--picture\r\nContent-Type: image/jpeg\r\n"
        headers += f"Content-Length: {len(body)}\r\n" if self.lengths else ""
        headers += f"X-Timestamp: {now_ns / 1e9 + 1e9:.6f}\r\n" if self.stamps else ""
        return f"{headers}\r\n".encode() + body + b"\r\n"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
