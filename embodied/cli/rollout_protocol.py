"""What a rollout's report says of how it was run: the protocol, which decides the outcomes, and what does not."""

from __future__ import annotations

import argparse
import os
from typing import Any

from embodied.cli.rollout_output import RECORDING
from embodied.modules import checkpoint_sha256, is_address
from embodied.origin import Origin
from embodied.rollouts import EXPERT, Job, Opened, Setup


def policy_protocol(setup: Setup, opened: Opened) -> dict[str, Any]:
    """Say which policy runs, by the hash of its checkpoint as it is now; of one at an address, what its server says."""
    if (origin := opened.policy) is None:
        weights = None if opened.checkpoint is None else checkpoint_sha256(opened.checkpoint)
        origin = Origin(setup.policy, opened.policy_options, weights)
    return {
        "module": origin.module,
        "options": dict(origin.options),
        "checkpoint_sha256": origin.checkpoint_sha256,
        "privileged": setup.policy == EXPERT,
    }


def protocol_of(setup: Setup, opened: Opened, policy: dict[str, Any], jobs: list[Job]) -> dict[str, Any]:
    """Gather everything that decides the outcomes, but for the execution."""
    seeds = [job.seed for job in jobs]
    given = {name: getattr(setup.connection, name, None) for name in ("max_age_s", "within_s", "frames")}
    if given["frames"] in ("raw", "shared"):  # the same pixels arrive either way
        del given["frames"]
    return {
        "robot": {
            "module": opened.robot.module,
            "options": dict(opened.robot.options),
            "spec": opened.spec.to_dict(),
        },
        "policy": policy,
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
        "robot_versions": dict(opened.robot.versions),
        **({"policy_versions": dict(opened.policy.versions)} if opened.policy else {}),
    }
