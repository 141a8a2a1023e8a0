"""Finding: one thing that the doctor looked at, and the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What was found, and the command that mends it where it is not as it should be."""

    name: str
    found: str
    ok: bool
    needed: bool = True  # for a simulation run with a policy
    mend: str = ""
