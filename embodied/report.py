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


def summarise(report: Report) -> str:
    """Write the report for a reader, as Markdown."""
    protocol, control, safety = report["protocol"], report["control"], report["safety"]
    policy, execution = protocol["policy"], protocol["execution"]
    how = f" · {execution['mode']}" + (f", {execution['delay_ms']} ms delay" if execution["delay_ms"] else "")
    lines = [
        f"# {protocol['robot']['spec']['name']} · {policy['module'] or 'remote policy'}{how}",
        "",
        *table(
            ["task", "episodes", "successes", "rate", "95 % interval", "steps (median)"],
            [_task_row(name, task) for name, task in report["tasks"].items()],
        ),
        "",
        *_means(report),
        "",
        *table(
            ["latency", "p50 ms", "p95 ms", "p99 ms"],
            [[stage, *(f"{p[q]:.2f}" for q in ("p50", "p95", "p99"))] for stage, p in report["latency_ms"].items()],
        ),
        "",
        f"Control rate {control['rate_hz']:.1f} Hz (the robot's own: {control['target_hz']:g} Hz); "
        f"{control['over_budget_cycles']} of {control['cycles']} cycles over budget.",
        f"Safety interventions: {_counts(safety['interventions'])}.",
        f"Actions: {_counts(report['actions'])}.",
    ]
    lines += _causes(report["tasks"])
    for name, task in report["tasks"].items():
        if "helped" in task:
            helped, episodes = sum(task["helped"]), task["episodes"]
            successes = task["successes"] - task["successes_alone"]
            lines.append(
                f"{name}: an operator helped in {helped} of {episodes} episodes, of which {successes} succeeded; above "
                "they count as failures of the policy."
            )
    if "hardware" in report:
        lines.append(f"Episodes with faults of the robot: {_counts(report['hardware']['faults'])}.")
    if protocol["instruction"] is not None:
        lines.append(f"Every instruction was replaced by: {protocol['instruction']!r}.")
    if policy["privileged"]:
        lines.append("The policy read the simulator's own state (privileged).")
    if policy["checkpoint_sha256"]:
        lines.append(f"Checkpoint {policy['checkpoint_sha256'][:16]}.")
    lines.append(f"Protocol {report['protocol_hash'][:16]}.")
    return "\n".join(lines) + "\n"


def _causes(tasks: Mapping[str, Any]) -> list[str]:
    """Return a table of why episodes failed, the most frequent cause first, as lines; none where no robot told."""
    by_cause = Counter[str]()
    of_task: dict[str, Counter[str]] = {}
    for name, task in tasks.items():
        for failure in task.get("failures", []):
            by_cause[failure["cause"]] += 1
            of_task.setdefault(failure["cause"], Counter())[name] += 1
    rows = [[cause, count, _counts(dict(of_task[cause].most_common(4)))] for cause, count in by_cause.most_common()]
    return ["", *table(["why episodes failed", "", "mostly"], rows), ""] if rows else []


def own_result(task: Mapping[str, Any]) -> tuple[int, tuple[float, float]]:
    """Return a task's successes without an operator's help, over all its episodes, and their Wilson interval."""
    low, high = task.get("wilson95_alone", task["wilson95"])
    return task.get("successes_alone", task["successes"]), (low, high)


def delay_entry(report: Report) -> dict[str, Any]:
    """Return what report.json keeps under `delays` of one of several executions; its whole report is beside it."""
    kept = ("protocol_hash", "tasks", "mean_of_tasks", "actions")
    return {**report["protocol"]["execution"], **{key: report[key] for key in kept}}


def summarise_delays(entries: Sequence[Mapping[str, Any]]) -> str:
    """Write the entries of `delays` for a reader, as Markdown: a row for each delay and mode."""
    rows = [
        [entry["delay_ms"], entry["mode"], name, *_task_row(name, task)[1:]]
        for entry in entries
        for name, task in entry["tasks"].items()
    ]
    header = ["delay ms", "mode", "task", "episodes", "successes", "rate", "95 % interval", "steps (median)"]
    lines = [
        "Success against delay, on the same seeds; steps are control periods, with those in which the robot held.",
        "",
    ]
    return "\n".join([*lines, *table(header, rows)]) + "\n"


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


def _means(report: Report) -> list[str]:
    """Return the tiers as a table, if there are any, and the means, as lines."""
    rows = []
    for name, tier in report.get("tiers", {}).items():
        (low, high), rate = tier["wilson95"], tier["successes"] / tier["episodes"]
        counts = [len(tier["tasks"]), tier["episodes"], tier["successes"]]
        rows.append([name, *counts, f"{rate:.1%}", f"{low:.1%} to {high:.1%}"])
    header = ["tier", "tasks", "episodes", "successes", "rate", "95 % interval"]
    said = [
        f"Mean over {of}: {report[f'mean_of_{of}']:.1%}, 95 % interval {low:.1%} to {high:.1%}."
        for of, (low, high) in report["means95"].items()
    ]
    return [*table(header, rows), "", *said] if rows else said


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


def _task_row(name: str, task: Mapping[str, Any]) -> list[object]:
    episodes, (successes, (low, high)) = task["episodes"], own_result(task)
    rate, interval = f"{successes / episodes:.1%}", f"{low:.1%} to {high:.1%}"
    return [name, episodes, successes, rate, interval, f"{task['steps_median']:g}"]


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


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none"


def table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lay out a Markdown table, as lines, whose columns are aligned for a terminal too."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]
