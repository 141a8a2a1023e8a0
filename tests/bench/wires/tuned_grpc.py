"""gRPC alone as our bridge sets it up: what is left of our time beyond this row is our own."""

from __future__ import annotations

from collections.abc import Callable

from tests.bench.wires import bare_grpc
from tests.bench.wires.load import Load

NEEDS = bare_grpc.NEEDS


def serve(load: Load, address: str, ready: Callable[[str], None]) -> None:
    """Answer every message with the chunk's bytes."""
    from embodied.bridge.address import GRPC_OPTIONS

    bare_grpc.serve(load, address, ready, GRPC_OPTIONS)


def connect(load: Load, address: str) -> Callable[[], None]:
    """Return what makes one round trip."""
    from embodied.bridge.address import GRPC_OPTIONS

    return bare_grpc.connect(load, address, GRPC_OPTIONS)
