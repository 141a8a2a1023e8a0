"""Argument types that several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from embodied.modules import parse_option


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


def option(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE."""
    try:
        return parse_option(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_robot_options(parser: argparse.ArgumentParser) -> None:
    """Add `--option NAME=VALUE`, read as args.option: a list of pairs."""
    parser.add_argument(
        "--option", type=option, action="append", default=[], metavar="NAME=VALUE", help="for the robot's make()"
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
    """Add `--address HOST:PORT` and `--insecure`."""
    parser.add_argument(
        "--address", default=default, help=f"HOST:PORT or unix:/PATH; port 0 takes a free one (default {default})"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="serve an address beyond this machine without a token or TLS"
    )
