"""A network camera for tests that sends H.264 in MPEG-TS over HTTP, as FFmpeg reads it, and stalls on demand."""

import contextlib
import threading
import time
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av

from tests.mjpeg_server import BITS, picture

CLOCK = 90_000


class VideoServer:
    """Serves /video.ts at fps; a context manager."""

    def __init__(self, fps: int = 30) -> None:
        self.fps, self.fault = fps, ""  # stall | end
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                self.end_headers()
                with contextlib.suppress(OSError):
                    camera._stream(self)

            def log_message(self, *_) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/video.ts"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.fault = "end"
        self._server.shutdown()
        self._server.server_close()

    def _stream(self, handler: BaseHTTPRequestHandler) -> None:
        container = av.open(handler.wfile, "w", format="mpegts", options={"flush_packets": "1"})
        stream = container.add_stream("libx264", rate=self.fps, options={"tune": "zerolatency", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 640, 480, "yuv420p", 10
        stream.codec_context.time_base = Fraction(1, CLOCK)
        began_s = due_s = time.monotonic()
        while self.fault != "end":
            now_ns = time.monotonic_ns()
            if self.fault != "stall":
                frame = av.VideoFrame.from_ndarray(picture(now_ns // 1_000_000 % (1 << BITS)), "bgr24")
                frame.pts, frame.time_base = round((now_ns / 1e9 - began_s) * CLOCK), Fraction(1, CLOCK)
                container.mux(stream.encode(frame))
            due_s += 1 / self.fps
            time.sleep(max(0, due_s - time.monotonic()))
