"""The closed table of words that an arm obeys, simulated or real: what it may be told beside poses."""

STEP_M = 0.02
GRIPPER_STEP_RAD = 0.3
HOMING_STEP_RAD = 0.15

# Unit displacements in the base frame: x forward, y left, z up.
MOVES: dict[str, tuple[float, float, float]] = {
    "move forward": (1, 0, 0),
    "move back": (-1, 0, 0),
    "move left": (0, 1, 0),
    "move right": (0, -1, 0),
    "move up": (0, 0, 1),
    "move down": (0, 0, -1),
}
GRIPS: dict[str, float] = {"open gripper": GRIPPER_STEP_RAD, "close gripper": -GRIPPER_STEP_RAD}
WAIT = "wait"
ALWAYS = ("home", "stop")
