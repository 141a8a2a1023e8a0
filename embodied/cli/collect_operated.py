"""`embodied collect --teleop`: an operator's session at a robot, and the dataset that comes of it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from embodied.approach import ALLOWED_S
from embodied.cli.arguments import open_addressed
from embodied.cli.teleoperation import lasting, opened_teleoperator, unstaged
from embodied.errors import EmbodiedError
from embodied.loop import check_instruction
from embodied.recording.operated import OperatedCollection, fixed_again, fixed_by, fixed_there
from embodied.teleop.paced import paced
from embodied.teleop.screen import Screen
from embodied.teleop.session import Lengths, Session
from embodied.types import Robot


def run_operated(args: argparse.Namespace, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """Hold a session, and return the collection.json of its dataset; None where the operator stopped before the end."""
    if args.finish:
        with contextlib.closing(OperatedCollection(args.out, fixed_there(args.out), resume=True)) as collection:
            if collection.interrupted:
                print("an episode that was cut short is not kept")
            about = {**about, "robot": args.robot, "teleop": args.teleop}
            return collection.assemble(about, video=args.video)
    instruction = None if args.instruction is None else check_instruction(args.instruction)
    options = lasting(args.robot, unstaged(args.robot, dict(args.option)), args.length_s + args.reset_s + ALLOWED_S)
    with contextlib.closing(open_addressed(args, options)) as robot:
        tasks = robot.spec.tasks if args.task == "all" else tuple(dict.fromkeys(args.task.split(",")))
        for task in tasks:
            robot.spec.require_task(task)
        if not robot.spec.cameras:
            raise EmbodiedError(f"{robot.spec.name} has no camera, so nothing can be recorded that a policy could see")
        fixed = fixed_again(args.out, robot.spec, args.seed) if args.resume else fixed_by(robot.spec, args.seed)
        with contextlib.closing(OperatedCollection(args.out, fixed, resume=args.resume)) as collection:
            if collection.interrupted:
                print("an episode that was cut short is not kept; its seed comes again")
            if not _drive(args, robot, collection, tasks, instruction):
                return None
            about = {**about, "robot": args.robot, "teleop": args.teleop}
            return collection.assemble(about, video=args.video)


def _drive(
    args: argparse.Namespace,
    robot: Robot,
    collection: OperatedCollection,
    tasks: tuple[str, ...],
    instruction: str | None,
) -> bool:
    """Hold the session; return whether all episodes are there. What is kept is told however it ends."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_telling(args, collection, tasks))
        screen = None if args.show is None else stack.enter_context(Screen(robot.spec, args.show))
        if screen:
            print(f"the cameras are at {screen.url}")
        teleoperator, console = stack.enter_context(opened_teleoperator(args.teleop, args, robot, args.robot))
        session = Session(
            paced(robot),
            teleoperator,
            console,
            collection,
            lengths=Lengths(args.length_s, args.reset_s),
            instruction=instruction,
            show=screen.show if screen else lambda _: None,
        )
        return session.run(tasks, args.episodes)


@contextlib.contextmanager
def _telling(args: argparse.Namespace, collection: OperatedCollection, tasks: tuple[str, ...]) -> Iterator[None]:
    try:
        yield
    finally:
        if any(collection.kept(task) < args.episodes for task in tasks):
            kept = ", ".join(f"{collection.kept(task)} of {task}" for task in tasks)
            again = "the same command with --resume goes on, with --finish makes a dataset of them"
            print(f"kept in {args.out}: {kept}; {again}", file=sys.stderr)
