"""A scripted expert for ALOHA's two tasks: the tools' ways through stages, planned in space, as joint targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embodied.types import Action, Observation, PoseAction, RobotSpec
from envs.aloha_arm import SIDES, ArmKinematics, Pose, rotation_about
from envs.aloha_scene import AlohaScene

if TYPE_CHECKING:
    from envs.suite_robot import SuiteRobot

Array = NDArray[np.float64]

PITCH_RAD = np.deg2rad(60.0)  # of a tool that grasps from the table, below level
# The wrist bent down and not rolled: from here a grasp is found that does not turn the forearm half round, as it would
# from where an episode begins, on the other side of a straight wrist.
BENT_RAD = np.array([0.0, -0.5, 0.9, 0.0, 0.8, 0.0])
JOINT_STEP_RAD = 0.04
STEP_M, STEP_RAD = 0.006, 0.05  # that a tool is told to move in a period of 0.02 s
SLOW_M = 0.0025  # in a period, where things meet
GRIP_STEP = 0.1
HOVER_M = 0.08
LOWEST_M = 0.024  # where a tool that grasps from the table clears it
END_M = 0.01  # from the middle of peg and socket to where they are grasped, away from each other
DROPPED_M = 0.06  # from the tool to what it should be holding
FEELING = 0.04  # of a change in how a thing is held, taken up in a period
NEAR_M, NEAR_RAD = 0.006, 0.06
PATIENCE = 25  # periods to wait for a tool that is told to be where it should
MEETING_M = np.array([0.0, 0.5, 0.25])
SOCKET_M = np.array([-0.09, 0.5, 0.2])
APART_M = 0.16  # between peg and socket before they are brought together
TOGETHER_M = 0.095  # the peg meets the pin in the socket at 0.1
WAITING_M = 0.12  # of the left tool before the meeting
SHORT_M = 0.008  # of the cube's middle, so that the left tool's tips end 9 mm beyond it
ALONG = np.array([1.0, 0.0, 0.0])  # from the left arm to the right one
OPEN, SHUT = 1.0, 0.0


def facing(side: str, pitch_rad: float = 0.0, roll_rad: float = 0.0) -> Array:
    """Return the rotation of a tool that points away from its arm, pitched below level, rolled about its fingers."""
    inward = 1.0 if side == "left" else -1.0
    along = np.array([inward * np.cos(pitch_rad), 0.0, -np.sin(pitch_rad)])
    closing = np.array([0.0, inward, 0.0])
    rolled = rotation_about(along * roll_rad) @ closing
    return np.column_stack([along, rolled, np.cross(along, rolled)])


@dataclass(frozen=True)
class View:
    """What a stage may depend on: the scene, where the tools are and were last told to be, and how they hold things."""

    scene: AlohaScene
    tools: dict[str, Pose]
    told: dict[str, Pose]
    held: dict[str, Pose]  # of what each tool holds, in the tool's own frame

    def grasping(self, side: str, thing: str, *, end_m: float = 0.0, back_m: float = 0.0) -> Pose:
        """Return the tool's pose that grasps a thing from above, end_m from its middle, or back_m before that."""
        pose = self.scene.pose(thing)
        place = pose.position_m + end_m * pose.rotation[:, 0]
        rotation = facing(side, PITCH_RAD)
        return Pose(np.array([*place[:2], max(place[2], LOWEST_M)]) - back_m * rotation[:, 0], rotation)

    def holding(self, side: str, aim: Pose) -> Pose:
        """Return the tool's pose that brings the thing that it holds to aim."""
        return aim.of(self.held[side].inverse())


@dataclass(frozen=True)
class Stage:
    """Where both tools go and how far open they are; over once they are there and its periods have passed."""

    aims: Callable[[View], dict[str, Pose]]
    left: float
    right: float
    periods: int = 0
    step_m: float = STEP_M
    held: tuple[tuple[str, str], ...] = ()  # (side, thing): begin anew if one is not
    swung: tuple[str, ...] = ()  # the sides that go there joint by joint and not along a straight line


def _reach(view: View) -> dict[str, Pose]:
    return {"right": view.grasping("right", "box", back_m=HOVER_M), "left": _waiting(WAITING_M)}


def _grasp(view: View) -> dict[str, Pose]:
    return {"right": view.grasping("right", "box"), "left": _waiting(WAITING_M)}


def _carry(view: View) -> dict[str, Pose]:
    return {"right": view.holding("right", Pose(MEETING_M, np.eye(3))), "left": _waiting(WAITING_M)}


def _meet(view: View) -> dict[str, Pose]:
    place = view.scene.pose("box").position_m
    return {"left": Pose(place - SHORT_M * ALONG, _waiting(0.0).rotation)}


def _waiting(away_m: float) -> Pose:
    """Return the left tool's pose before the meeting, its fingers one above the other: the right one's are abreast."""
    return Pose(MEETING_M - away_m * ALONG, facing("left", roll_rad=np.pi / 2))


def _reach_both(view: View) -> dict[str, Pose]:
    return {
        "right": view.grasping("right", "peg", end_m=END_M, back_m=HOVER_M),
        "left": view.grasping("left", "socket", end_m=-END_M, back_m=HOVER_M),
    }


def _grasp_both(view: View) -> dict[str, Pose]:
    return {
        "right": view.grasping("right", "peg", end_m=END_M),
        "left": view.grasping("left", "socket", end_m=-END_M),
    }


def _lift_both(view: View) -> dict[str, Pose]:
    peg = Pose(SOCKET_M + APART_M * ALONG, np.eye(3))
    return {
        "right": view.holding("right", peg),
        "left": view.holding("left", Pose(SOCKET_M, np.eye(3))),
    }


def _insert(view: View) -> dict[str, Pose]:
    ahead = Pose(TOGETHER_M * ALONG, np.eye(3))
    return {
        "right": view.holding("right", view.scene.pose("socket").of(ahead)),
        "left": view.holding("left", Pose(SOCKET_M, np.eye(3))),
    }


_BOX = (("right", "box"),)
_BOTH = (("right", "peg"), ("left", "socket"))
SCRIPTS = {
    "transfer_cube": (
        Stage(_reach, OPEN, OPEN, swung=("right",)),
        Stage(_grasp, OPEN, OPEN),
        Stage(_grasp, OPEN, SHUT, periods=20),
        Stage(_carry, OPEN, SHUT, held=_BOX),
        Stage(_meet, OPEN, SHUT, held=_BOX),
        Stage(_meet, SHUT, SHUT, periods=100, held=_BOX),
    ),
    "insertion": (
        Stage(_reach_both, OPEN, OPEN, swung=SIDES),
        Stage(_grasp_both, OPEN, OPEN),
        Stage(_grasp_both, SHUT, SHUT, periods=20),
        Stage(_lift_both, SHUT, SHUT, held=_BOTH),
        Stage(_insert, SHUT, SHUT, periods=100, step_m=SLOW_M, held=_BOTH),
    ),
}


class Expert:
    """Looks at the simulator's truth, never at the frames; remembers its stage and where it told the tools to be."""

    def __init__(self, robot: SuiteRobot[AlohaScene]) -> None:
        self._robot = robot
        self._arms: dict[str, ArmKinematics] = {}

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode; the robot knows of which task."""
        scene = self._robot.scene
        self._arms = {side: ArmKinematics(scene.model, side) for side in SIDES}
        self._script = SCRIPTS[scene.task]
        self._stage = self._periods = self._waited = 0
        self._joints = {side: scene.joints_rad(side) for side in SIDES}
        self._held: dict[str, Pose] = {}
        self._told = {side: arm.pose(self._joints[side]) for side, arm in self._arms.items()}
        state = scene.state()
        self._grips = {"left": float(state[6]), "right": float(state[13])}

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return one PoseAction: joint targets and grippers (14,) a period from here."""
        scene = self._robot.scene
        tools = {side: arm.pose(scene.joints_rad(side)) for side, arm in self._arms.items()}
        self._feel(scene, tools)
        view = View(scene, tools, self._told, self._held)
        self._go_on(view)
        stage = self._script[self._stage]
        for side, aim in stage.aims(view).items():
            if side in stage.swung:
                self._swing(side, aim)
            else:
                self._told[side] = _towards(self._told[side], aim, stage.step_m)
                self._joints[side] = self._arms[side].solve(self._told[side], self._joints[side])
        for side, grip in (("left", stage.left), ("right", stage.right)):
            self._grips[side] += float(np.clip(grip - self._grips[side], -GRIP_STEP, GRIP_STEP))
        values = np.concatenate([[*self._joints[side], self._grips[side]] for side in SIDES])
        return [PoseAction(values.astype(np.float32))]

    def _swing(self, side: str, aim: Pose) -> None:
        arm = self._arms[side]
        way = arm.solve(aim, BENT_RAD) - self._joints[side]
        self._joints[side] = self._joints[side] + way * min(1.0, JOINT_STEP_RAD / max(float(np.abs(way).max()), 1e-9))
        self._told[side] = arm.pose(self._joints[side])

    def _feel(self, scene: AlohaScene, tools: dict[str, Pose]) -> None:
        """Learn how things are held, slowly once they are: to follow a swinging thing at once would swing it more."""
        for side, thing in self._script[-1].held:
            seen = tools[side].inverse().of(scene.pose(thing))
            holding = bool(self._script[self._stage].held) and side in self._held
            self._held[side] = _blend(self._held[side], seen, FEELING) if holding else seen

    def _go_on(self, view: View) -> None:
        """Go on to the next stage where this one is done, and back to the first where something was dropped."""
        stage = self._script[self._stage]
        self._periods += 1
        far = (np.linalg.norm(view.tools[s].position_m - view.scene.pose(t).position_m) for s, t in stage.held)
        if any(distance > DROPPED_M for distance in far):
            self._stage = self._periods = 0
        elif self._periods > stage.periods and self._stage + 1 < len(self._script) and self._there(view, stage):
            self._stage, self._periods = self._stage + 1, 0

    def _there(self, view: View, stage: Stage) -> bool:
        aims = stage.aims(view)
        if any(not _near(self._told[side], aim, 0.5) for side, aim in aims.items()):
            self._waited = 0
            return False
        self._waited += 1
        return self._waited > PATIENCE or all(_near(view.tools[side], aim, 1.0) for side, aim in aims.items())


def _near(pose: Pose, aim: Pose, share: float) -> bool:
    shift, turn = pose.to(aim)
    return bool(np.linalg.norm(shift) < share * NEAR_M and np.linalg.norm(turn) < share * NEAR_RAD)


def _blend(pose: Pose, other: Pose, share: float) -> Pose:
    shift, turn = pose.to(other)
    return Pose(pose.position_m + share * shift, rotation_about(share * turn) @ pose.rotation)


def _towards(pose: Pose, aim: Pose, step_m: float) -> Pose:
    """Return the pose a step nearer to aim."""
    shift, turn = pose.to(aim)
    shift *= min(1.0, step_m / max(float(np.linalg.norm(shift)), 1e-9))
    turn *= min(1.0, STEP_RAD / max(float(np.linalg.norm(turn)), 1e-9))
    return Pose(pose.position_m + shift, rotation_about(turn) @ pose.rotation)
