"""What a person types at the emulator's terminal: each line of its help is understood, and others get the help."""

from __future__ import annotations

import pytest

from envs.scene import JOINTS
from tests.servo_emulator.faults import KINDS
from tests.servo_emulator.prompt import HELP, parse


def test_every_line_of_the_help_is_understood() -> None:
    lines = [line.strip().split("   ")[0] for line in HELP.splitlines()[1:-1]]
    requests = [parse(line) for line in lines]
    assert set(requests[0]["hand"]) == set(JOINTS)
    assert requests[1:] == [
        {"hand": "sweep", "over_s": 2.0},
        {"hand": {"elbow_flex": 0.5}},
        {"attach": ["gripper"]},
        {"begin": {"task": "pick_place", "seed": 7}},
        {"fault": {"kind": "corrupted", "share": 0.01}},
        {"clear": True},
        {"truth": True},
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_needs_no_more_than_its_kind(kind: str) -> None:
    assert parse(f"fault {kind}") == {"fault": {"kind": kind}} and kind in HELP


@pytest.mark.parametrize("line", ["jump", "hand", "hand elbow_flex", "begin pick_place", "clear all", "attach"])
def test_what_is_not_understood_is_answered_with_the_help(line: str) -> None:
    with pytest.raises(ValueError, match="type here"):
        parse(line)
