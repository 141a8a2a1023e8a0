"""Compare two reports that share their seeds, episode by episode (McNemar's exact test)."""

from __future__ import annotations

import argparse
import json
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from embodied.comparison import Pairs, compare_reports, protocol_differences
from embodied.errors import EmbodiedError
from embodied.report import table

EXAMPLE = """examples:
  embodied compare runs/before runs/after
  embodied compare runs/before/report.json runs/after/delays/async_100ms/report.json

Episodes in which an operator helped count as failures.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the two reports."""
    parser.add_argument("first", type=Path, metavar="A", help="what embodied rollout wrote, or a report.json of it")
    parser.add_argument("second", type=Path, metavar="B", help="another")


def run(args: argparse.Namespace) -> int:
    """Print how the pairs fell, task by task and overall, and in what the two protocols differ."""
    first, second = _read(args.first), _read(args.second)
    pairs = compare_reports(first, second)
    rows = [_row(task, p) for task, p in pairs.items()]
    if len(pairs) > 1:
        rows.append(_row("all", reduce(add, pairs.values())))
    print("\n".join(table(["task", "pairs", "A", "B", "both", "only A", "only B", "neither", "p (two-sided)"], rows)))
    print(f"\nA is {args.first}{_help(first)}\nB is {args.second}{_help(second)}")
    for difference in protocol_differences(first["protocol"], second["protocol"]):
        print(f"  {difference}")
    return 0


def _row(name: str, pairs: Pairs) -> list[object]:
    first, second = pairs.both + pairs.only_first, pairs.both + pairs.only_second
    rates = [f"{successes / pairs.episodes:.1%}" for successes in (first, second)]
    counts = [pairs.both, pairs.only_first, pairs.only_second, pairs.neither]
    return [name, pairs.episodes, *rates, *counts, f"{pairs.p_value:.3g}"]


def _help(report: dict[str, Any]) -> str:
    helped = sum(sum(task.get("helped", [])) for task in report["tasks"].values())
    return f"; an operator helped in {helped} episodes, which count as failures" if helped else ""


def _read(path: Path) -> dict[str, Any]:
    """Read a report; raise EmbodiedError if there is none at path."""
    path = path / "report.json" if path.is_dir() else path
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EmbodiedError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise EmbodiedError(f"{path} is not JSON: {error}") from error
    if not (isinstance(report, dict) and {"protocol", "tasks"} <= report.keys()):
        raise EmbodiedError(f"{path} is no report: it has no 'protocol' and 'tasks'")
    if not isinstance(report["tasks"], dict) or not all(map(_is_result, report["tasks"].values())):
        raise EmbodiedError(f"{path} is no report: a task of it has no 'seeds' with as many 'outcomes'")
    return report


def _is_result(task: Any) -> bool:  # noqa: ANN401  any JSON
    seeds, outcomes = (task.get("seeds"), task.get("outcomes")) if isinstance(task, dict) else (None, None)
    if not (isinstance(seeds, list) and isinstance(outcomes, list) and 0 < len(seeds) == len(outcomes)):
        return False
    helped = task.get("helped", outcomes)
    return isinstance(helped, list) and len(helped) == len(outcomes)
