"""Serve a robot over gRPC, until Ctrl-C."""

from __future__ import annotations

import argparse

from embodied.bridge.robot_server import serve_robot
from embodied.cli.arguments import add_address, add_robot_options, server_credentials
from embodied.cli.waiting import serve_until_asked
from embodied.errors import EmbodiedError
from embodied.modules import is_address, open_robot, robot_origin
from embodied.realtime import RealTimeRobot
from embodied.types import Robot

EXAMPLE = """example:
  embodied host envs.so101 --address 127.0.0.1:50051 --option size=224
  embodied host envs.so101 --realtime
  embodied host envs.so101 --address 0.0.0.0:50051 --tls certs
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the robot and where it is served."""
    parser.add_argument("robot", metavar="ROBOT", help="a module, as in envs.so101")
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="run it against the wall clock, as hardware runs: it brakes and holds where no command comes in time",
    )
    add_robot_options(parser)
    add_address(parser, "127.0.0.1:50051")


def run(args: argparse.Namespace) -> int:
    """Serve the robot; it moves only while one client holds its control stream."""
    if is_address(args.robot):
        raise EmbodiedError(f"host takes a robot's module; {args.robot} is served already")
    credentials = server_credentials(args)
    made: list[Robot] = []

    def open_body() -> Robot:
        return open_robot(args.robot, dict(args.option))

    def make() -> Robot:
        made.append(RealTimeRobot(open_body) if args.realtime else open_body())
        return made[0]

    status = serve_until_asked(
        lambda: serve_robot(
            make,
            args.address,
            insecure=args.insecure,
            credentials=credentials,
            origin=lambda: robot_origin(args.robot, dict(args.option)),
        ),
        lambda: made[0].spec.name,
    )
    if isinstance(made[0], RealTimeRobot):
        print(made[0].regularity)
    return status
