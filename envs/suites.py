"""Benchmark suites that live in an environment of their own: whether one is here, and the command that mends it."""

from __future__ import annotations

import importlib.metadata

from embodied.errors import EmbodiedError


class SuiteMissingError(EmbodiedError):
    """A suite is not installed here, or not the version that the protocol is of."""


def require_suite(robot: str, distribution: str, version: str, *, environment: str) -> None:
    """Raise SuiteMissingError, with the command that makes its environment, unless it is here and of the version."""
    try:
        found = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if found != version:
        raise SuiteMissingError(
            f"{robot} needs {distribution} {version}, and here is {found}: run `make {environment}`, "
            f"then host it with `.venv-{environment}/bin/embodied host {robot}`"
        )
