"""What a person types at the emulator's own terminal: words for what hands, eyes and mishaps do to an arm."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from envs.scene import JOINTS
from tests.servo_emulator.faults import KINDS

MIDDLE = {
    "shoulder_pan": 0.0,
    "shoulder_lift": 0.0,
    "elbow_flex": 0.0,
    "wrist_flex": 0.0,
    "wrist_roll": 0.0,
    "gripper": 0.8,
}
HELP = f"""type here what you would do to the arm:
  hand middle                    hold it in its middle pose, as calibrate asks first
  hand sweep                     move every joint from stop to stop, as it asks next
  hand elbow_flex=0.5            turn a joint by hand, rad; hand release lets go
  attach gripper                 have only this servo on the bus, as setup asks; attach all
  begin pick_place 7             lay out a scene
  fault corrupted 0.01           one of {", ".join(KINDS)}
  clear                          end the faults
  truth                          where the arm really is
  quit"""

Request = dict[str, object]


def parse(line: str) -> Request:
    """Return the request that a line means; raise ValueError, which says what may be typed."""
    verb, *words = line.split()
    match verb, words:
        case "hand", ["middle"]:
            return {"hand": MIDDLE}
        case "hand", ["sweep" | "release" as what]:
            return {"hand": what, "over_s": 2.0}
        case "hand", [*turns] if turns and all("=" in turn for turn in turns):
            return {"hand": {name: float(rad) for name, _, rad in (turn.partition("=") for turn in turns)}}
        case "attach", [*joints] if joints:
            return {"attach": "all" if joints == ["all"] else joints}
        case "begin", [task, seed]:
            return {"begin": {"task": task, "seed": int(seed)}}
        case "fault", [kind, *share]:
            return {"fault": {"kind": kind, **({"share": float(share[0])} if share else {})}}
        case (("clear" | "truth"), []):
            return {verb: True}
    raise ValueError(HELP)


def talk(handle: Callable[[Request], Request]) -> None:
    """Carry out the lines of standard input until it ends or says quit."""
    print(HELP, flush=True)
    for line in sys.stdin:
        if line.strip() in ("quit", "exit"):
            return
        if line.strip():
            print(_answer(handle, line), flush=True)


def _answer(handle: Callable[[Request], Request], line: str) -> str:
    try:
        answer = handle(parse(line))
    except (ValueError, KeyError) as error:
        return str(error)
    if "joints" in answer:
        joints = answer["joints"]
        assert isinstance(joints, dict)
        return "at " + ", ".join(f"{name} {joints[name]:.2f}" for name in JOINTS) + " rad"
    return json.dumps(answer)
