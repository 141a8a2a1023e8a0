"""The control socket: one JSON object a line, one line in answer; what a person's hands and eyes would do, and more."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.servo_emulator.wire import prefer

PRIORITY = 20  # the bus's: it waits for whoever holds Python's lock, who must not wait for the machine's other work

Request = dict[str, Any]
Push = Callable[[Request], None]
Handler = Callable[[Request, Push], Request]


class ControlServer:
    """Serves a unix socket; every connection has a thread of its own, so that a slow request holds up nobody."""

    def __init__(self, path: str, handle: Handler) -> None:
        Path(path).unlink(missing_ok=True)
        self.path = path
        self._server = _Server(path, handle)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        Path(self.path).unlink(missing_ok=True)

    def _run(self) -> None:
        prefer(PRIORITY)
        self._server.serve_forever(0.1)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, handle: Handler) -> None:
        self.handle_request_line = handle
        super().__init__(path, _Connection)


class _Connection(socketserver.StreamRequestHandler):
    server: _Server

    def setup(self) -> None:
        super().setup()
        prefer(PRIORITY)
        self._writing = threading.Lock()

    def handle(self) -> None:
        for line in self.rfile:
            try:
                answer = self.server.handle_request_line(json.loads(line), self._push)
            except (ValueError, KeyError, TypeError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            self._push(answer)

    def _push(self, message: Request) -> None:
        data = (json.dumps(message) + "\n").encode()
        try:
            with self._writing:
                self.wfile.write(data)
        except OSError:
            pass  # whoever asked has gone
