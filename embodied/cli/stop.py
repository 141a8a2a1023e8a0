"""Press a robot's emergency stop: it comes to a controlled stop, and nothing moves until it is released.

Needs no control of the robot. Exits with 0 when done, with 2 if the robot could not be reached or failed to stop; with
--status, with 1 while the emergency stop is latched.
"""

from __future__ import annotations

import argparse

from embodied.bridge.emergency import StopButton, stop_button
from embodied.bridge.lease import RobotStatus
from embodied.cli.arguments import add_connection, client_credentials
from embodied.errors import EmbodiedError

EXAMPLE = """example:
  embodied stop 127.0.0.1:50051
  embodied stop 127.0.0.1:50051 --status
  embodied stop 127.0.0.1:50051 --release
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the robot and what to do with its stop."""
    parser.add_argument("address", metavar="ADDRESS", help="HOST:PORT or unix:/PATH of a robot server")
    add_connection(parser)
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--release", action="store_true", help="let the robot be moved again")
    other.add_argument("--status", action="store_true", help="only say who holds the robot and whether it is stopped")


def run(args: argparse.Namespace) -> int:
    """Press or release the emergency stop, or say how it is."""
    if not (args.status or args.release):
        return _press(args)
    with stop_button(args.address, credentials=client_credentials(args)) as button:
        if args.status:
            return _show(button)
        was, now = button.status(), button.release()
        print(f"released {args.address}; the robot may be moved again" if was.stopped else "it was not stopped")
        print(_holder(now))
    return 0


def _press(args: argparse.Namespace) -> int:
    credentials = client_credentials(args)
    try:
        with stop_button(args.address, credentials=credentials) as button:
            now = button.press()
    except EmbodiedError as error:
        raise EmbodiedError(f"the robot is NOT stopped as far as is known, cut its power: {error}") from error
    print(f"stopped {args.address}; nothing moves until: {credentials.release_command(args.address)}\n{_holder(now)}")
    return 0


def _show(button: StopButton) -> int:
    status = button.status()
    if status.stopped:
        print(f"stopped by {status.stopped_by} {status.stopped_s:.1f} s ago; --release lets the robot be moved again")
    else:
        print("not stopped")
    print(_holder(status))
    print(
        f"{status.sessions} sessions, {status.refused_requests} requests refused, {status.late_actions} late actions "
        f"dropped, {status.stalls} stalled operators since the server started"
    )
    return int(status.stopped)


def _holder(status: RobotStatus) -> str:
    return f"held by {status.holder} for {status.held_s:.1f} s" if status.holder else "held by nobody"
