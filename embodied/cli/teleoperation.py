"""What the verbs that an operator drives share: the options of a teleoperator, and opening one."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embodied.cli.arguments import option
from embodied.errors import EmbodiedError
from embodied.modules import choices, declares, is_address, load_arm
from embodied.safety import Kinematic, bare
from embodied.types import Robot

if TYPE_CHECKING:
    from embodied.teleop.console import Console
    from embodied.teleop.jog import Nudge
    from embodied.teleop.operator import Teleoperator

DEVICES = ("keyboard", "gamepad", "leader")
GAMEPAD = Path("/dev/input/js0")
ARMS = "embodied.robots"
LENGTHS = ("episode_s", "horizon_s")  # what a robot's make() calls how long an episode may last
TERMINAL = "terminal"  # a stage that asks at the terminal: embodied.hardware.stage


def add_teleoperator(parser: argparse.ArgumentParser) -> None:
    """Add what goes with a teleoperator: `--gamepad DEVICE`, `--leader MODULE` and `--leader-option NAME=VALUE`."""
    parser.add_argument("--gamepad", type=Path, default=GAMEPAD, metavar="DEVICE", help=f"default {GAMEPAD}")
    parser.add_argument("--leader", metavar="MODULE", help="arm module of the leader, as in embodied.robots.so101")
    parser.add_argument(
        "--leader-option",
        type=option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="port=/dev/... and calibration=FILE of the leader",
    )


def check_teleoperator(args: argparse.Namespace, device: str | None, flag: str) -> None:
    """Raise EmbodiedError where the options do not go with the device that flag chose."""
    if device == "leader" and not args.leader:
        raise EmbodiedError(f"{flag} leader needs --leader MODULE, as in embodied.robots.so101")
    for name, given, goes_with in (
        ("--leader", args.leader, "leader"),
        ("--leader-option", args.leader_option, "leader"),
        ("--gamepad", args.gamepad != GAMEPAD, "gamepad"),
    ):
        if given and device != goes_with:
            raise EmbodiedError(f"{name} goes with {flag} {goes_with}")


@contextlib.contextmanager
def opened_teleoperator(
    device: str, args: argparse.Namespace, robot: Robot, module: str
) -> Iterator[tuple[Teleoperator, Console]]:
    """Yield the teleoperator and the operator's console; the terminal is as it was afterwards, whatever happens."""
    from embodied.teleop.console import Console
    from embodied.teleop.terminal import Terminal

    with Terminal() as terminal:
        console = Console(terminal)
        with contextlib.closing(_open(device, args, console, nudge_of(robot, module))) as teleoperator:
            console.listen(teleoperator.commands)
            yield teleoperator, console


def _open(device: str, args: argparse.Namespace, console: Console, nudge: Nudge | None) -> Teleoperator:
    if device == "keyboard":
        from embodied.teleop.keyboard import KeyboardTeleoperator

        return KeyboardTeleoperator(console, nudge)
    if device == "gamepad":
        from embodied.teleop.gamepad import GamepadTeleoperator
        from embodied.teleop.joystick import Joystick

        return GamepadTeleoperator(Joystick(args.gamepad), nudge)
    from embodied.teleop.leader import LeaderTeleoperator
    from embodied.teleop.leader_arm import LeaderArm

    return LeaderTeleoperator(LeaderArm.open(load_arm(args.leader), dict(args.leader_option)), console)


def nudge_of(robot: Robot, module: str) -> Nudge | None:
    """Return how to move the tool of a robot a little; None where neither it nor an arm of its name can tell.

    An arm of the same name knows it for a robot at an address too.
    """
    arms = [name for name in choices([ARMS]) if name in (module, f"{ARMS}.{robot.spec.name}")]
    for name in arms if is_address(module) else dict.fromkeys((module, *arms)):
        with contextlib.suppress(EmbodiedError):  # no arm module, or its SDK is not here: then joint by joint
            if (chain := load_arm(name).chain) is not None:
                nudge: Nudge = chain.nudge
                return nudge
    if isinstance(body := bare(robot), Kinematic):
        from embodied.teleop.kinematics import nudging

        return nudging(body.tool_position)
    return None


def unstaged(module: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a robot module's options without a stage of its own: the session asks the operator, and judges."""
    if not has_stage(module):
        return dict(options)
    if options.get("stage") == TERMINAL:
        raise EmbodiedError("with --teleop the session itself asks the operator: leave stage=terminal out")
    return {"stage": "none", **options}


def lasting(module: str, options: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return a robot module's options with episodes that last as long as is needed, where they do not say how long."""
    named = [name for name in LENGTHS if not is_address(module) and declares(module, "make", name)]
    return {**dict.fromkeys(named[:1], seconds), **options}


def require_other_terminal(module: str, options: Mapping[str, Any]) -> None:
    """Raise EmbodiedError where a robot's stage would read the operator's keys."""
    if asks_here(module, options):
        raise EmbodiedError(
            f"{module} would ask whether an episode succeeded on the terminal from which you intervene: host it in "
            f"another (embodied host {module} ...) and give its address, or name another stage (--option stage=...)"
        )


def asks_here(module: str, options: Mapping[str, Any]) -> bool:
    """Say whether a robot, made here, asks at the terminal how an episode went."""
    return has_stage(module) and options.get("stage", TERMINAL) == TERMINAL


def has_stage(module: str) -> bool:
    """Say whether a robot, made here, takes a stage: who lays out its scene and says what succeeded."""
    return not is_address(module) and declares(module, "make", "stage")
