"""What a check comes to: it passes, fails with what was expected and found, or is skipped with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "fail", "skip"]


class NonconformityError(Exception):
    """The server does not do what its contract says; the message tells what was expected and what was found."""


class NotApplicableError(Exception):
    """The check cannot be made of this robot, or may not be; the message says why."""


@dataclass(frozen=True)
class Result:
    """What one check came to."""

    name: str  # group.check
    requirement: str  # what must hold, in one sentence
    verdict: Verdict
    reason: str  # why it failed or was skipped; of one that passed, what else is worth knowing
    seconds: float


def require(holds: bool, expected: str, found: object) -> None:
    """Raise NonconformityError, telling what was expected and what was found, unless it holds."""
    if not holds:
        raise NonconformityError(f"expected {expected}; found {found}")
