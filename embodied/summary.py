"""A report in words and tables, for a reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from embodied.report import Report, own_result, table


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


def _task_row(name: str, task: Mapping[str, Any]) -> list[object]:
    episodes, (successes, (low, high)) = task["episodes"], own_result(task)
    rate, interval = f"{successes / episodes:.1%}", f"{low:.1%} to {high:.1%}"
    return [name, episodes, successes, rate, interval, f"{task['steps_median']:g}"]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none"
