"""What a rollout's report says of how it was run: the protocol, which decides the outcomes, and what does not."""

from __future__ import annotations

import argparse
import os
from typing import Any

from embodied.cli.rollout_output import RECORDING
from embodied.modules import is_address
from embodied.origin import Origin, versions_here
from embodied.rollouts import EXPERT, Job, Opened, Setup


def protocol_of(setup: Setup, opened: Opened, jobs: list[Job]) -> dict[str, Any]:
    """Gather everything that decides the outcomes, but for the execution."""
    seeds = [job.seed for job in jobs]
    given = {name: getattr(setup.connection, name, None) for name in ("max_age_s", "within_s", "frames")}
    if given["frames"] in ("raw", "shared"):  # the same pixels arrive either way
        del given["frames"]
    return {
        "robot": {
            "module": opened.robot.module,
            "options": opened.robot.traits,
            "spec": opened.spec.to_dict(),
        },
        "policy": {
            "module": opened.policy.module,
            "options": dict(opened.policy.options),
            "checkpoint_sha256": opened.policy.checkpoint_sha256,
            "privileged": setup.policy == EXPERT,
        },
        "tasks": list(dict.fromkeys(job.task for job in jobs)),
        "seeds": {
            "first": min(seeds),
            "episodes": max(seeds) - min(seeds) + 1,
            "rule": "episode i of a task: first + i",
        },
        "max_steps": setup.max_steps,
        "instruction": setup.instruction,
        **{name: value for name, value in given.items() if value is not None},
        **({"intervene": setup.intervene} if setup.intervene else {}),
    }


def versions_of(opened: Opened) -> dict[str, Any]:
    """Gather what is installed where it decides the outcomes: a rollout is not gone on with on another simulator."""
    return {
        "here": Origin(versions=versions_here()).packages,
        "robot": opened.robot.packages,
        "policy": opened.policy.packages,
    }


def run_notes(args: argparse.Namespace, opened: Opened, duration_s: float, resumed: int) -> dict[str, Any]:
    """Gather what does not decide the outcomes: addresses, workers, how long it took, what runs beside the robot."""
    return {
        "robot": args.robots if len(args.robots) > 1 else args.robot,
        "policy": args.policy,
        "checkpoint": None if args.checkpoint is None else str(args.checkpoint),
        "over_grpc": bool(args.remote or args.robot_env or is_address(args.robot)),
        "workers": args.workers,
        "shared_policy": args.shared_policy,
        "cores": os.cpu_count(),
        "duration_s": round(duration_s, 3),
        **({"episodes_from_before": resumed} if resumed else {}),  # of which duration_s is not
        "recording": str(RECORDING) if args.record else None,
        **({"robot_place": place} if (place := opened.robot.place) else {}),
        "robot_versions": dict(opened.robot.versions),
        "policy_versions": dict(opened.policy.versions),
    }
