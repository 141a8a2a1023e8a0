"""A report is evidence: what was run, on which seeds, what came of each, and how sure one may be."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from embodied.intervals import mean_interval, wilson_interval
from embodied.loop import Cycle, Episode
from embodied.origin import versions_here
from embodied.stages import WAIT

# A policy in whose place an operator may act counts these actions, and names an act so that was one of them; an act
# that only handed out the next action of an earlier decision it names QUEUED.
OPERATED, QUEUED = "operator_actions", "queued"
Report = dict[str, Any]


def build_report(protocol: Mapping[str, Any], episodes: Sequence[Episode], run: Mapping[str, Any]) -> Report:
    """Build the report that report.json holds.

    protocol is everything that decides the outcomes (its hash is the report's); run is what does not: addresses,
    workers, duration. Latencies leave out observed episodes, whose every step was rendered, unless all were observed.
    `act` is a decision and `step` one action carried out; the stages, as `robot.motion` or `policy.work`, are of a
    whole cycle: one decision and its chunk. Neither they nor the control rate are of an operator's actions.
    `mean_of_tasks` leaves out successes that an operator helped to.
    """
    names = dict.fromkeys(e.task for e in episodes)
    tasks = {name: _task_report([e for e in episodes if e.task == name]) for name in names}
    tiers = _tiers(tasks, protocol["robot"]["spec"])
    means = {of: mean_interval([*map(_own, r.values())]) for of, r in (("tasks", tasks), ("tiers", tiers)) if r}
    timed = [e for e in episodes if not e.observed] or list(episodes)
    cycles = [cycle for episode in timed for cycle in _decisions(episode.cycles)]
    return {
        "protocol": dict(protocol),
        "protocol_hash": protocol_hash(protocol),
        "tasks": tasks,
        "mean_of_tasks": means["tasks"][0],
        "mean_of_tiers": means["tiers"][0] if tiers else None,
        "means95": {of: list(interval) for of, (_, *interval) in means.items()},
        **({"tiers": tiers} if tiers else {}),
        "latency_ms": _latency_ms(timed, cycles),
        "control": _control(cycles, protocol["robot"]["spec"]["control_hz"], len(timed)),
        "actions": _actions(episodes),
        "safety": _safety(episodes),
        **_hardware(episodes),
        "run": dict(run),
        "versions": versions_here(),
    }


def protocol_hash(protocol: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the protocol as canonical JSON: sorted keys, no blanks."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def own_result(task: Mapping[str, Any]) -> tuple[int, tuple[float, float]]:
    """Return a task's successes without an operator's help, over all its episodes, and their Wilson interval."""
    low, high = task.get("wilson95_alone", task["wilson95"])
    return task.get("successes_alone", task["successes"]), (low, high)


def delay_entry(report: Report) -> dict[str, Any]:
    """Return what report.json keeps under `delays` of one of several executions; its whole report is beside it."""
    kept = ("protocol_hash", "tasks", "mean_of_tasks", "actions")
    return {**report["protocol"]["execution"], **{key: report[key] for key in kept}}


def succeeded_alone(episode: Episode) -> bool:
    """Say whether an episode is a success of the policy's: one without an operator's help."""
    return episode.success and not episode.policy_counts.get(OPERATED)


def _tiers(tasks: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what came of each tier of the robot's, in the order of its tasks: its tasks' episodes taken together."""
    tier_of = dict(zip(spec["tasks"], spec["tiers"], strict=True)) if spec.get("tiers") else {}
    found: dict[str, Any] = {}
    for tier in dict.fromkeys(tier_of[name] for name in tasks if name in tier_of):
        members = {name: task for name, task in tasks.items() if tier_of.get(name) == tier}
        successes, episodes = (sum(n) for n in zip(*map(_own, members.values()), strict=True))
        interval = list(wilson_interval(successes, episodes))
        found[tier] = {"tasks": [*members], "episodes": episodes, "successes": successes, "wilson95": interval}
    return found


def _own(result: Mapping[str, Any]) -> tuple[int, int]:
    return own_result(result)[0], result["episodes"]


def _task_report(episodes: Sequence[Episode]) -> dict[str, Any]:
    outcomes = [int(e.success) for e in episodes]
    steps = [e.steps for e in episodes]
    return {
        "episodes": len(episodes),
        "successes": sum(outcomes),
        "wilson95": list(wilson_interval(sum(outcomes), len(episodes))),
        "seeds": [e.seed for e in episodes],
        "outcomes": outcomes,
        "steps": steps,
        "steps_median": float(np.median(steps)),
        **_help(episodes),
        **_failures(episodes),
    }


def _failures(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return why episodes failed, where the robot tells: each by its seed, sorted by cause."""
    told = [{"seed": e.seed, **asdict(e.failure)} for e in episodes if e.failure is not None]
    return {"failures": sorted(told, key=lambda one: (one["cause"], one["seed"]))} if told else {}


def _help(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return which episodes an operator helped in, if any, and what the policy did alone: a helped success is not its.

    `alone` counts those over all episodes, so that help makes no policy look better.
    """
    helped = [int(bool(e.policy_counts.get(OPERATED))) for e in episodes]
    if not any(helped):
        return {}
    alone = sum(map(succeeded_alone, episodes))
    interval = list(wilson_interval(alone, len(episodes)))
    return {"helped": helped, "successes_alone": alone, "wilson95_alone": interval}


def _decisions(cycles: Sequence[Cycle]) -> list[Cycle]:
    """Return the cycles of decisions: with the queued actions that followed each, and without an operator's."""
    found: list[Cycle] = []
    for cycle in cycles:
        if QUEUED in cycle.policy_ns:
            found[-1] = _joined(found[-1], cycle)
        elif OPERATED not in cycle.policy_ns:
            found.append(cycle)
    return found


def _joined(decision: Cycle, queued: Cycle) -> Cycle:
    return replace(
        decision,
        act_ns=decision.act_ns + queued.act_ns,
        step_ns=decision.step_ns + queued.step_ns,
        steps=decision.steps + queued.steps,
        dropped=decision.dropped + queued.dropped,
        robot_ns=Counter(decision.robot_ns) + Counter(queued.robot_ns),
    )


def _percentiles_ms(times_ns: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(np.asarray(times_ns, np.float64) / 1e6, (50, 95, 99))
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}


def _latency_ms(episodes: Sequence[Episode], cycles: Sequence[Cycle]) -> dict[str, dict[str, float]]:
    times_ns: dict[str, list[float]] = {
        "act": [c.act_ns for c in cycles],
        "step": [c.step_ns / c.steps for c in cycles if c.steps],
        "reset": [e.reset_ns for e in episodes],
    }
    for cycle in cycles:
        for who, stages_ns in (("policy", cycle.policy_ns), ("robot", cycle.robot_ns)):
            for stage, took_ns in stages_ns.items():
                times_ns.setdefault(f"{who}.{stage}", []).append(took_ns)
    return {stage: _percentiles_ms(times) for stage, times in times_ns.items() if times}


def _control(cycles: Sequence[Cycle], control_hz: float, episodes: int) -> dict[str, Any]:
    """A cycle is over budget if deciding and carrying out took longer than the control periods that it filled.

    Where time is real the robot's waiting for it is no part of that.
    """
    busy_s = sum(c.act_ns + c.step_ns for c in cycles) / 1e9
    return {
        "target_hz": control_hz,
        "rate_hz": sum(c.steps for c in cycles) / busy_s if cycles else 0.0,
        "cycles": len(cycles),
        "over_budget_cycles": sum(
            (c.act_ns + c.step_ns - c.robot_ns.get(WAIT, 0)) / 1e9 > c.steps / control_hz for c in cycles
        ),
        "episodes_timed": episodes,
    }


def _actions(episodes: Sequence[Episode]) -> dict[str, int]:
    """Count the actions by what became of them, and what the policy counted: chunks, stale ones, steps held."""
    counts = Counter[str]()
    for episode in episodes:
        counts["executed"] += episode.steps
        counts["dropped"] += sum(cycle.dropped for cycle in episode.cycles)
        counts["late"] += sum(i.kind == "late" for i in episode.interventions)
        counts.update(episode.policy_counts)
    return dict(counts)


def _safety(episodes: Sequence[Episode]) -> dict[str, Any]:
    return {
        "interventions": dict(sorted(Counter(i.kind for e in episodes for i in e.interventions).items())),
        "episodes_with_interventions": sum(bool(e.interventions) for e in episodes),
    }


def _hardware(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return what a body said of itself: faults, by the number of episodes, and the range of all that it measured."""
    faults = Counter(f"{fault.part} {fault.kind}" for e in episodes for fault in e.faults)
    names = sorted({name for e in episodes for name in e.health})
    ranges = {name: [e.health[name] for e in episodes if name in e.health] for name in names}
    health = {name: [min(least for least, _ in r), max(most for _, most in r)] for name, r in ranges.items()}
    return {"hardware": {"faults": dict(sorted(faults.items())), "health": health}} if faults or health else {}


def table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lay out a Markdown table, as lines, whose columns are aligned for a terminal too."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]
