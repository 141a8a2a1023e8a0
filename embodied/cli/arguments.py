"""Argument types that several verbs share."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodied.errors import EmbodiedError
from embodied.modules import is_address, open_robot, parse_option
from embodied.types import Robot

if TYPE_CHECKING:
    from embodied.bridge.credentials import ClientCredentials, ServerCredentials  # --help is quick without grpc

MAX_DURATION_S = 86_400.0


def positive_int(text: str) -> int:
    """Read a whole number from 1 up."""
    number = natural_int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def natural_int(text: str) -> int:
    """Read a whole number from 0 up that fits the wire's 64 bits."""
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from error
    if number < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    if number >= 2**63:
        raise argparse.ArgumentTypeError(f"must fit 64 bits, got {text}")
    return number


def positive_float(text: str) -> float:
    """Read a finite number above 0."""
    try:
        number = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from error
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0 and finite, got {text}")
    return number


def duration_s(text: str) -> float:
    """Read a number of seconds above 0, and no more than a clock can be set to wait for."""
    seconds = positive_float(text)
    if seconds > MAX_DURATION_S:
        raise argparse.ArgumentTypeError(f"must be at most {MAX_DURATION_S:g} s, got {text}")
    return seconds


def option(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE."""
    try:
        return parse_option(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def options_file(text: str) -> list[tuple[str, Any]]:
    """Read a file that is one JSON object: option names and their values."""
    try:
        found = json.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'{text} must be one JSON object, as in {{"port": "/dev/ttyACM0"}}')
    return list(found.items())


def add_robot_options(parser: argparse.ArgumentParser) -> None:
    """Add `--option NAME=VALUE` and `--options FILE`, read as args.option: a list of pairs, of which the last holds."""
    parser.add_argument(
        "--option", type=option, action="append", default=[], metavar="NAME=VALUE", help="for the robot's make()"
    )
    parser.add_argument(
        "--options",
        type=options_file,
        action="extend",
        dest="option",
        metavar="FILE",
        help="a JSON object of such options, as of the arm on this desk",
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add `--checkpoint DIR` and `--policy-option NAME=VALUE`."""
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="the policy's trained weights")
    parser.add_argument(
        "--policy-option",
        type=option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for the policy's make()",
    )


def add_address(parser: argparse.ArgumentParser, default: str) -> None:
    """Add `--address HOST:PORT`, `--tls DIR`, `--token FILE` and `--insecure`; server_credentials reads them."""
    parser.add_argument(
        "--address", default=default, help=f"HOST:PORT or unix:/PATH; port 0 takes a free one (default {default})"
    )
    parser.add_argument(
        "--tls",
        type=Path,
        metavar="DIR",
        help="encrypt, and let in only clients with a certificate of DIR/authority.pem (embodied certs makes DIR)",
    )
    parser.add_argument(
        "--token",
        type=Path,
        metavar="FILE",
        help="let in only clients that say the token in FILE (with --tls: in place of a certificate)",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="serve an address beyond this machine to whoever reaches it"
    )


def server_credentials(args: argparse.Namespace) -> ServerCredentials:
    """Return what add_address was given."""
    from embodied.bridge.credentials import ServerCredentials

    return ServerCredentials.of(args.tls, args.token)


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add `--tls DIR` and `--token FILE` for the servers that a verb connects to; client_credentials reads them."""
    parser.add_argument(
        "--tls",
        type=Path,
        metavar="DIR",
        help="connect to servers that DIR/authority.pem signed, showing DIR/client.pem (embodied certs makes DIR)",
    )
    parser.add_argument("--token", type=Path, metavar="FILE", help="say the token in FILE to the servers")


def client_credentials(args: argparse.Namespace) -> ClientCredentials:
    """Return what add_connection was given."""
    from embodied.bridge.credentials import ClientCredentials

    return ClientCredentials.of(args.tls, args.token)


def open_addressed(args: argparse.Namespace, options: Mapping[str, Any]) -> Robot:
    """Open args.robot, a module or an address, by what add_connection and a `--takeover` were given.

    Raise EmbodiedError as open_robot, and for what goes with an address and was given to a module.
    """
    if not is_address(args.robot):
        if given := [name for name in ("tls", "token", "takeover") if getattr(args, name)]:
            raise EmbodiedError(f"--{given[0]} goes with a robot at an address, and {args.robot} is a module")
        return open_robot(args.robot, options)
    from embodied.bridge.connection import Connection

    return open_robot(args.robot, options, Connection(client_credentials(args), args.takeover))
