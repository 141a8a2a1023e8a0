"""What a server says of what it serves was made from, as it crosses the wire."""

from __future__ import annotations

import json

from embodied.errors import ProtocolError
from embodied.origin import Origin
from embodied.v1 import types_pb2 as pb


def encode_origin(origin: Origin) -> pb.Origin:
    """Return the message of an origin."""
    return pb.Origin(
        module=origin.module or "",
        options=json.dumps(dict(origin.options)),
        checkpoint_sha256=origin.checkpoint_sha256 or "",
        versions=origin.versions,
    )


def decode_origin(message: pb.Origin) -> Origin:
    """Return the origin; raise ProtocolError where its options are no JSON object."""
    try:
        options = json.loads(message.options or "{}")
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the server tells options that are no JSON: {error}") from error
    if not isinstance(options, dict):
        raise ProtocolError(f"the server tells options that are no JSON object: {message.options[:80]!r}")
    return Origin(message.module or None, options, message.checkpoint_sha256 or None, dict(message.versions))
