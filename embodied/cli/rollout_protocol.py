"""What a rollout's report says of how it was run: the protocol, which decides the outcomes, and what does not."""

from __future__ import annotations

import argparse
import os
from typing import Any

from embodied.cli.rollout_output import RECORDING
from embodied.modules import checkpoint_sha256, is_address
from embodied.rollouts import EXPERT, Job, Opened, Setup
from embodied.types import RobotSpec


def policy_protocol(setup: Setup, opened: Opened) -> dict[str, Any]:
    """Say which policy runs, by the hash of its checkpoint as it is now."""
    return {
        "module": None if is_address(setup.policy) else setup.policy,
        "options": dict(opened.policy_options),
        "checkpoint_sha256": None if opened.checkpoint is None else checkpoint_sha256(opened.checkpoint),
        "privileged": setup.policy == EXPERT,
    }


def protocol_of(setup: Setup, spec: RobotSpec, policy: dict[str, Any], jobs: list[Job]) -> dict[str, Any]:
    """Gather everything that decides the outcomes, but for the execution."""
    seeds = [job.seed for job in jobs]
    given = {name: getattr(setup.connection, name, None) for name in ("max_age_s", "within_s", "frames")}
    if given["frames"] in ("raw", "shared"):  # the same pixels arrive either way
        del given["frames"]
    return {
        "robot": {
            "module": None if is_address(setup.robot) else setup.robot,
            "options": dict(setup.robot_options),
            "spec": spec.to_dict(),
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


def run_notes(args: argparse.Namespace, duration_s: float) -> dict[str, Any]:
    """Gather what does not decide the outcomes: addresses, workers, how long it took."""
    return {
        "robot": args.robot,
        "policy": args.policy,
        "checkpoint": None if args.checkpoint is None else str(args.checkpoint),
        "over_grpc": args.remote or is_address(args.robot),
        "workers": args.workers,
        "cores": os.cpu_count(),
        "duration_s": round(duration_s, 3),
        "recording": str(RECORDING) if args.record else None,
    }
