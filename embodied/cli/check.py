"""Test a robot server, in whatever language it is written, against the contract of proto/embodied/v1/robot.proto.

It opens sessions, resets episodes and sends actions: those that hold the robot where it is, and, where time is
simulated, some that move it within its ranges. A real robot (RobotSpec.realtime) is only held, and sent beyond a limit
by no more than 5 % of a field's range. It presses the emergency stop and releases it again. A server that breaks the
contract may move its robot further than it was asked to: check it in simulation first, then with --no-motion, and stand
at the real emergency stop. Afterwards the robot is held by nobody and not stopped.

Exits with 0 if every check passed or was skipped, with 1 if one failed, with 2 if there was no robot to check: nobody
answers, somebody else holds it, or its emergency stop is latched.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict

from embodied.bridge.conformance.suite import CHECKS, check_robot, choose_checks, name_of
from embodied.bridge.conformance.verdict import Result
from embodied.cli.arguments import add_connection, client_credentials, duration_s

EXAMPLE = """example:
  embodied check 127.0.0.1:50051
  embodied check 127.0.0.1:50051 --no-motion --json > conformance.json
  embodied check 127.0.0.1:50051 --only stop
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the server and what may be done to its robot."""
    parser.add_argument("address", metavar="ADDRESS", help="HOST:PORT or unix:/PATH of a robot server")
    add_connection(parser)
    parser.add_argument("--no-motion", action="store_true", help="skip every check that could move the robot")
    parser.add_argument(
        "--only", default="", metavar="NAME", help="one group or check, as in lease or lease.of_two_who_race_one_wins"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document, at the end")
    parser.add_argument(
        "--timeout",
        type=duration_s,
        default=10.0,
        metavar="S",
        help="fail a check that waits longer for one answer (default 10)",
    )


def run(args: argparse.Namespace) -> int:
    """Make every check and print what it came to; return 1 if one failed."""
    results = []
    for result in check_robot(
        args.address,
        client_credentials(args),
        checks=choose_checks(args.only),
        motion=not args.no_motion,
        timeout_s=args.timeout,
    ):
        results.append(result)
        if not args.json:
            _print(result)
    counts = Counter(result.verdict for result in results)
    if args.json:
        summary = {"address": args.address, **{verdict: counts[verdict] for verdict in ("pass", "fail", "skip")}}
        print(json.dumps({**summary, "checks": [asdict(result) for result in results]}, indent=2))
    else:
        print(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped")
    return int(counts["fail"] > 0)


def _print(result: Result) -> None:
    width = max(len(name_of(check)) for check in CHECKS)
    print(f"{result.verdict}  {result.name:{width}}  {result.seconds:6.2f} s", flush=True)
    if result.verdict == "fail":
        print(f"      {result.requirement}\n      {result.reason}", flush=True)
    elif result.reason:
        print(f"      {result.reason}", flush=True)
