"""Addresses of the bridge: host:port or unix:/path, loopback unless told otherwise, and what both ends agree on."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from embodied.errors import EmbodiedError

PROTOCOL = 2  # version of proto/embodied/v1 as a whole; both sides must say the same
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
DEFAULT_ADDRESS = "127.0.0.1:0"  # port 0: any free one

MAX_SOCKET_PATH_BYTES = 107  # of Linux's sockaddr_un; macOS has 103

GRPC_OPTIONS = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # else two servers share a port and clients reach either
    ("grpc.enable_http_proxy", 0),  # a robot is never behind the web proxy of the environment
    ("grpc.enable_retries", 0),  # a command is never sent twice
    ("grpc.initial_reconnect_backoff_ms", 100),  # a server that starts is found at once
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True)
class Address:
    """Where a server is: a unix socket's path, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read host:port, [ipv6]:port or unix:/path; raise EmbodiedError for anything else."""
        if text.startswith("unix:") and len(text) > len("unix:"):
            return cls(path=text.removeprefix("unix:"))
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 2**16):
            raise EmbodiedError(f"{text!r} is no address; give host:port or unix:/path")
        return cls(host=host, port=int(port))

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def require_free(self) -> None:
        """Raise EmbodiedError, saying why, if a server cannot listen here; gRPC itself gives no reason."""
        if self.path:
            self._require_free_path()
        elif reason := self._why_no_port():
            raise EmbodiedError(reason)

    def _why_no_port(self) -> str:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does
                probe.bind((self.host, self.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"port {self.port} of {self.host} is in use; choose another, or 0 for any free one"
            return f"{self} cannot be listened on: {error.strerror or error}"
        return ""

    def _require_free_path(self) -> None:
        path = Path(self.path)
        if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            raise EmbodiedError(f"{self} is too long; a unix socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes")
        if not os.access(path.parent, os.W_OK):
            raise EmbodiedError(f"{path.parent} is no folder that a socket can be made in")
        mode = path.parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise EmbodiedError(
                f"every user may write to {path.parent}, and so put a socket of their own in the place of {path.name}; "
                f"choose another folder, or chmod o-w {path.parent}"
            )
        if not path.exists():
            return
        if not path.is_socket():
            raise EmbodiedError(f"{path} is a file, not a socket; choose another path")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.path)
            except ConnectionRefusedError:
                return  # left behind by a server that died; gRPC replaces it
            except OSError as error:
                raise EmbodiedError(f"{self} cannot be listened on: {error.strerror}") from error
        raise EmbodiedError(f"{self} is in use by another server")
