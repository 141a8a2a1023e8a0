"""Serve a policy over gRPC, until Ctrl-C."""

from __future__ import annotations

import argparse
import os

from embodied.bridge.policy_server import serve_policy
from embodied.cli.arguments import add_address, add_checkpoint, positive_int, server_credentials
from embodied.cli.waiting import serve_until_asked
from embodied.errors import EmbodiedError
from embodied.machine import cores
from embodied.modules import OpenPolicy, is_address, open_policy, policy_origin
from embodied.types import Policy

EXAMPLE = """example:
  embodied serve policies.token --checkpoint policies/checkpoints/so101 --address 127.0.0.1:50052
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the policy and where it is served."""
    parser.add_argument("policy", metavar="POLICY", help="a module, as in policies.token")
    add_checkpoint(parser)
    add_address(parser, "127.0.0.1:50052")
    parser.add_argument(
        "--lanes",
        type=positive_int,
        metavar="N",
        help="forward passes side by side, which share the cores (default: one a core; a policy on a GPU wants 1)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve the policy; sessions share its forward passes where it can."""
    if is_address(args.policy):
        raise EmbodiedError(f"serve takes a policy's module; {args.policy} is served already")
    lanes = args.lanes or cores()
    # Before torch is imported. A pass on several cores waits for the slowest at every operator, and where anything else
    # runs on one of them (a simulator, a client) spends most of its time so.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // lanes)))
    opened: list[OpenPolicy] = []

    def make() -> Policy:
        opened.append(open_policy(args.policy, args.checkpoint, dict(args.policy_option)))
        return opened[-1].policy

    return serve_until_asked(
        lambda: serve_policy(
            make,
            args.address,
            name=args.policy,
            lanes=lanes,
            insecure=args.insecure,
            credentials=server_credentials(args),
            origin=lambda: policy_origin(args.policy, opened[0].checkpoint, opened[0].options),
        ),
        lambda: args.policy,
    )
