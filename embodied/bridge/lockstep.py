"""A client's conversation over one stream: a request, its reply, then the next; broken once, broken for good."""

from __future__ import annotations

import atexit
import math
import queue
import threading
import time
from functools import partial
from typing import cast

import grpc
from google.protobuf.message import Message

from embodied.bridge.peer import Peer
from embodied.errors import LostError, ProtocolError

SILENT_S = 2.0  # without a reply, until the far side is asked whether it lives
ANSWER_S = 8.0  # for it to say so; a reset that holds Python's lock for seconds is no fault


class LockStep:
    """One stream of requests and replies in turn; nothing is resent, and a failed stream stays failed."""

    def __init__(
        self,
        peer: Peer,
        method: str,
        reply_timeout_s: float,
        *,
        alive: tuple[str, Message],
        heartbeat: bytes = b"",
        heartbeat_s: float = math.inf,
        remedy: str = "connect again",
    ) -> None:
        """Begin the stream; a heartbeat, which gets no reply, is sent whenever nothing else was for heartbeat_s.

        alive is a unary method that the far side answers at once, whatever the stream waits for, and its request.
        """
        self._peer, self._alive = peer, alive
        self._heartbeat, self._heartbeat_s, self._remedy = heartbeat, heartbeat_s, remedy
        self._sent_s = self._heard_s = time.monotonic()
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._replies = peer.stream(method, iter(self._requests.get, None))
        self._call = cast(grpc.Call, self._replies)  # gRPC's stream is both
        self._over = threading.Event()
        if not self._call.add_callback(self._over.set):
            self._over.set()
        self._turn = threading.Lock()
        self._ended: ProtocolError | None = None
        self._reply_timeout_s = reply_timeout_s
        self._due_s = self._probe_s = math.inf  # monotonic; when the reply being waited for is late, or seems to be
        self._hangs = False
        self._closed = threading.Event()
        # A stream still open when the interpreter ends can deadlock in gRPC's threads, which are frozen by then.
        atexit.register(self.close)
        threading.Thread(target=self._tend, name="bridge-tend", daemon=True).start()

    def exchange(self, request: bytes) -> bytes:
        """Send a request and return its reply; raise LostError if the stream has failed or fails now."""
        with self._turn:
            if self._ended is not None:
                raise LostError(f"{self._ended}; {self._remedy} for a new session") from self._ended
            self._sent_s = time.monotonic()
            self._due_s = self._sent_s + self._reply_timeout_s
            self._probe_s = self._sent_s + SILENT_S
            self._requests.put(request)
            try:
                reply = next(self._replies)
                self._heard_s = time.monotonic()
                return reply
            except grpc.RpcError as error:
                self._ended = self._told(error)
                raise self._ended from error
            except StopIteration:
                self._ended = LostError(f"{self._peer.what} at {self._peer.address} ended the session")
                raise self._ended from None
            except BaseException:  # an interrupt leaves a reply on its way that would answer the next request
                self._ended = ProtocolError("the session was interrupted while it waited for a reply")
                self._call.cancel()
                raise
            finally:
                self._due_s = self._probe_s = math.inf

    def close(self, timeout_s: float = 5.0) -> None:
        """End the stream and wait until the far side has let go of it; idempotent, safe from any thread."""
        if self._closed.is_set():
            return
        self._closed.set()
        atexit.unregister(self.close)
        self._ended = self._ended or ProtocolError(f"the session with {self._peer.address} was closed")
        if self._due_s < math.inf:  # whoever waits for a reply need not: what it asked for is to be cut short
            self._call.cancel()
        self._requests.put(None)
        if not self._over.wait(timeout_s):
            self._call.cancel()

    def _told(self, error: grpc.RpcError) -> LostError:
        if self._hangs:
            return LostError(
                f"{self._peer.what} at {self._peer.address} answers nothing any more: it hangs, or the network does"
            )
        if time.monotonic() >= self._due_s:
            return LostError(
                f"{self._peer.what} at {self._peer.address} did not reply within {self._reply_timeout_s} s"
            )
        return LostError(str(self._peer.failure(error)))

    def _tend(self) -> None:
        """Send heartbeats, and cancel a call whose reply is late or whose far side hangs; mostly asleep."""
        while not self._over.wait(self._rest_s()) and not self._closed.is_set():
            now_s = time.monotonic()
            if now_s >= self._due_s:
                self._call.cancel()
                return
            if now_s >= self._sent_s + self._heartbeat_s:
                self._sent_s = now_s
                self._requests.put(self._heartbeat)
            if now_s >= self._probe_s:
                self._probe_s = now_s + ANSWER_S
                self._peer.probe(*self._alive, ANSWER_S, partial(self._give_up, now_s))

    def _give_up(self, asked_s: float) -> None:
        """End the session with a far side that did not say it lives, unless it replied to something else since."""
        if self._heard_s < asked_s:
            self._hangs = True
            self._call.cancel()

    def _rest_s(self) -> float:
        next_s = min(self._due_s, self._probe_s, self._sent_s + self._heartbeat_s)
        return min(max(next_s - time.monotonic(), 0.0), SILENT_S, self._reply_timeout_s)
