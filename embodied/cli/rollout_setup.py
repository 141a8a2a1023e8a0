"""Reads a rollout's arguments: what goes together, and what is missing for it, is told before anything is opened."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from typing import TYPE_CHECKING

from embodied.cli.arguments import client_credentials
from embodied.cli.teleoperation import check_teleoperator, require_other_terminal
from embodied.errors import EmbodiedError
from embodied.loop import FIRST_EVALUATION_SEED, check_instruction
from embodied.modules import is_address
from embodied.rollouts import EXPERT, Setup

if TYPE_CHECKING:
    from embodied.bridge.connection import Connection  # --help is quick without grpc


def setup_of(args: argparse.Namespace) -> Setup:
    """Return what every worker opens; raise EmbodiedError for what cannot be run so."""
    check_teleoperator(args, args.intervene, "--intervene")
    if args.intervene:
        require_other_terminal(args.robot, dict(args.option))
        if args.workers > 1:
            raise EmbodiedError("an operator watches one robot at a time: with --intervene, --workers is 1")
    if args.seed < FIRST_EVALUATION_SEED:
        raise EmbodiedError(
            f"--seed {args.seed} may have been a demonstration's; evaluations begin at {FIRST_EVALUATION_SEED}"
        )
    if args.policy == EXPERT and (args.remote or args.robot_env or is_address(args.robot)):
        raise EmbodiedError("an expert reads the simulator itself, which is not at hand over gRPC")
    if args.resume and args.record:
        raise EmbodiedError("what was recorded before is not gone on with: --resume goes without --record")
    _check_workers(args)
    if args.videos and not (find_spec("av") and find_spec("cv2")):
        raise EmbodiedError("videos need av and cv2: pip install 'embodied-runtime[record]', or say --videos 0")
    if args.strips and not find_spec("cv2"):
        raise EmbodiedError("film strips need cv2: pip install 'embodied-runtime[record]'")
    if args.record and not (find_spec("pyarrow") and find_spec("cv2")):
        raise EmbodiedError("a recording needs pyarrow and cv2: pip install 'embodied-runtime[record]'")
    if args.delay_ms and not find_spec("matplotlib"):
        raise EmbodiedError("the plot of --delay-ms needs matplotlib: pip install 'embodied-runtime[record]'")
    return Setup(
        robot=args.robot,
        policy=args.policy,
        checkpoint=args.checkpoint,
        robot_options=dict(args.option),
        policy_options=dict(args.policy_option),
        remote=args.remote,
        environment=args.robot_env,
        instruction=None if args.instruction is None else check_instruction(args.instruction),
        max_steps=args.max_steps,
        cameras=tuple(args.camera),
        connection=_connection(args),
        intervene=args.intervene,
    )


def _check_workers(args: argparse.Namespace) -> None:
    """Raise EmbodiedError for workers that could not all have a robot, or a policy."""
    if is_address(args.robot) and args.workers != len(args.robots):
        raise EmbodiedError(
            f"a robot at an address has one operator at a time: --workers must be {len(args.robots)}, one an address"
        )
    if len(set(args.robots)) < len(args.robots):
        raise EmbodiedError(f"--robot names an address twice: {','.join(args.robots)}")
    if args.robot_env and is_address(args.robot):
        raise EmbodiedError(f"--robot-env goes with a robot's module, and {args.robot} is served already")
    if args.shared_policy and (args.policy == EXPERT or is_address(args.policy)):
        raise EmbodiedError(f"--shared-policy goes with a policy's module, and {args.policy} is none")
    if args.shared_policy:
        from embodied.bridge.policy_server import MAX_SESSIONS

        if args.workers > MAX_SESSIONS:
            raise EmbodiedError(
                f"a policy server has room for {MAX_SESSIONS} sessions, and --workers is {args.workers}"
            )


def _connection(args: argparse.Namespace) -> Connection | None:
    robot, policy = is_address(args.robot), is_address(args.policy)
    either, driven = "a robot or a policy at an address", robot or args.remote or bool(args.robot_env)
    needs = {  # option -> whether it does anything here, and what it goes with
        "tls": (robot or policy, either),
        "token": (robot or policy, either),
        "takeover": (robot, "a robot at an address"),
        "max_age_s": (driven, "a robot at an address or --remote"),
        "within_s": (policy, "a policy at an address"),
        "frames": (driven or policy, f"{either}, or --remote"),
    }
    given = [name for name in needs if getattr(args, name)]
    for name in given:
        if not needs[name][0]:
            raise EmbodiedError(f"--{name.replace('_', '-')} goes with {needs[name][1]}, and there is none")
    if not given:
        return None
    if args.within_s and args.mode != "async":
        raise EmbodiedError("--within-s goes with --mode async: a robot that waits has nothing to do without the chunk")
    from embodied.bridge.connection import Connection

    return Connection(client_credentials(args), args.takeover, args.max_age_s, args.within_s, args.frames)
