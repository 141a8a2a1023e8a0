"""Compares two reports as pairs: the same seeds under both, so that luck of the draw cancels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embodied.errors import EmbodiedError


class IncomparableReportsError(EmbodiedError):
    """Two reports whose tasks or seeds differ; the message lists every difference."""


@dataclass(frozen=True)
class Pairs:
    """How one task's episodes fell under two policies."""

    both: int
    only_first: int
    only_second: int
    neither: int

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(
            self.both + other.both,
            self.only_first + other.only_first,
            self.only_second + other.only_second,
            self.neither + other.neither,
        )

    @property
    def episodes(self) -> int:
        """Return how many pairs there are."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def p_value(self) -> float:
        """Return the two-sided p-value of McNemar's exact test."""
        return mcnemar_exact(self.only_first, self.only_second)


def compare_reports(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Pairs]:
    """Pair two reports' outcomes by task, those that an operator helped to as failures.

    Raise IncomparableReportsError if their tasks or seeds differ.
    """
    if differences := _differences(first, second):
        raise IncomparableReportsError(
            "the reports share no pairs:" + "".join(f"\n  - {difference}" for difference in differences)
        )
    return {task: _pairs(report, second["tasks"][task]) for task, report in first["tasks"].items()}


def protocol_differences(first: Any, second: Any, path: str = "protocol") -> list[str]:  # noqa: ANN401  any JSON
    """List the places where two protocols differ, as `path: first | second`."""
    if isinstance(first, dict) and isinstance(second, dict):
        found = []
        for key in sorted(first.keys() | second.keys()):
            found += protocol_differences(first.get(key), second.get(key), f"{path}.{key}")
        return found
    return [] if first == second else [f"{path}: {first} | {second}"]


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value that as lopsided a split of the discordant pairs is a fair coin's work.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), 153–157, with the exact binomial in place of the chi-squared approximation.
    """
    discordant = only_first + only_second
    ways = tail = 1  # to draw none of them, and then one more each time
    for drawn in range(min(only_first, only_second)):
        ways = ways * (discordant - drawn) // (drawn + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << discordant))  # of integers, which of a thousand pairs are more than a float holds


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    mine, theirs = first["tasks"], second["tasks"]
    if sorted(mine) != sorted(theirs):
        return [f"tasks: {sorted(mine)} | {sorted(theirs)}"]
    return [
        f"seeds of {task}: {_range(mine[task]['seeds'])} | {_range(theirs[task]['seeds'])}"
        for task in mine
        if mine[task]["seeds"] != theirs[task]["seeds"]
    ]


def _range(seeds: list[int]) -> str:
    return f"{len(seeds)} from {min(seeds)} to {max(seeds)}"


def _pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> Pairs:
    outcomes = list(zip(_own_outcomes(first), _own_outcomes(second), strict=True))
    return Pairs(*(outcomes.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))))


def _own_outcomes(task: Mapping[str, Any]) -> list[bool]:
    """Return whether each episode is a success of the policy's: one that an operator helped to is none."""
    helped = task.get("helped", [0] * len(task["outcomes"]))
    return [bool(outcome) and not was_helped for outcome, was_helped in zip(task["outcomes"], helped, strict=True)]
