"""Serve a policy over gRPC, until Ctrl-C."""

from __future__ import annotations

import argparse

from embodied.bridge.policy_server import serve_policy
from embodied.cli.arguments import add_address, add_checkpoint, server_credentials
from embodied.cli.waiting import serve_until_asked
from embodied.errors import EmbodiedError
from embodied.modules import is_address, open_policy

EXAMPLE = """example:
  embodied serve policies.token --checkpoint checkpoints/so101 --address 127.0.0.1:50052
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the policy and where it is served."""
    parser.add_argument("policy", metavar="POLICY", help="a module, as in policies.token")
    add_checkpoint(parser)
    add_address(parser, "127.0.0.1:50052")


def run(args: argparse.Namespace) -> int:
    """Serve the policy; every session has one of its own."""
    if is_address(args.policy):
        raise EmbodiedError(f"serve takes a policy's module; {args.policy} is served already")
    return serve_until_asked(
        lambda: serve_policy(
            lambda: open_policy(args.policy, args.checkpoint, dict(args.policy_option)).policy,
            args.address,
            name=args.policy,
            insecure=args.insecure,
            credentials=server_credentials(args),
        ),
        lambda: args.policy,
    )
