"""What a scripted expert wants next, task by task: functions of the present alone, so that one frame can show them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

HOVER_M = 0.062  # fingertips clear a 30 mm cube, and a carried cube clears a bowl's rim
OPEN_RAD = 0.55
SHUT_RAD = -0.16
SQUEEZE_RAD = 0.05
GRASP_BELOW_CENTRE_M = 0.003
DEEP_M = 0.009  # a cube this far up the fingers cannot be set down on another: their tips would hit that first
ASIDE_M = 0.07
GRIPPER_STEP_RAD = 0.2  # in a control step


@dataclass(frozen=True)
class View:
    """The present moment, in baseframe: all that a motion may depend on."""

    tip_m: Array  # (3,) the site gripperframe
    closing: Array  # (2,) unit: the horizontal direction from the static finger to the moving jaw
    gripper_rad: float
    cube_m: Array  # (3,) the target cube's centre
    goal_m: Array  # (3,) where the cube's centre should come to, or the tip where the task is to reach
    held: bool  # both fingers touch the target cube

    @property
    def middle_m(self) -> Array:
        """Return the point (2,) halfway between the fingers."""
        return self.tip_m[:2] + self.closing * finger_gap(self.gripper_rad) / 2

    def turned(self, gripper_rad: float) -> float:
        """Return the gripper's angle a control step from now, if gripper_rad is what is asked of it."""
        return self.gripper_rad + float(np.clip(gripper_rad - self.gripper_rad, -GRIPPER_STEP_RAD, GRIPPER_STEP_RAD))


@dataclass(frozen=True)
class Aim:
    """Where the tip should go and how far open the gripper should be; a step goes part of the way."""

    position_m: Array  # (3,)
    gripper_rad: float


def finger_gap(gripper_rad: float) -> float:
    """Return the distance in m between the fingertips; linear to 1 mm up to 0.7 rad."""
    return 0.0161 + 0.0715 * gripper_rad


def reach(view: View) -> Aim:
    """Bring the shut fingertips to the point above the cube."""
    return Aim(view.goal_m, SHUT_RAD)


def pick_place(view: View) -> Aim:
    """Grasp the cube, carry it over the bowl, let go."""
    away = _distance(view.cube_m, view.goal_m)
    if not view.held:
        return _leave(view) if away < 0.035 else grasp(view)
    return _carry(view, release_m=0.045, tolerance_m=0.012)


def stack(view: View) -> Aim:
    """Grasp the cube, carry it over the other, set it down, let go."""
    if not view.held:
        placed = _distance(view.cube_m, view.goal_m) < 0.015 and abs(view.cube_m[2] - view.goal_m[2]) < 0.006
        return _leave(view) if placed else grasp(view)
    if view.cube_m[2] - view.tip_m[2] > DEEP_M:
        return _put_down(view)
    return _carry(view, release_m=float(view.goal_m[2]) + 0.001, tolerance_m=0.004)


def push(view: View) -> Aim:
    """Go behind the cube, come down, and push it to the goal with the fingers shut."""
    to_goal = view.goal_m[:2] - view.cube_m[:2]
    distance = float(np.hypot(*to_goal))
    fingers = view.middle_m
    if distance < 0.010:
        return Aim(np.array([*view.tip_m[:2], HOVER_M]), SHUT_RAD)
    heading = to_goal / distance
    aside = np.array([-heading[1], heading[0]])
    offset = view.cube_m[:2] - fingers
    behind_m, beside_m = float(offset @ heading), float(offset @ aside)
    lowness = 1 - _ramp(view.tip_m[2], 0.018, 0.045)
    # Once low, much is forgiven: who sees the cube to a few millimetres only must not waver between up and down.
    needed_m = 0.010 + 0.028 * (1 - lowness)
    error_m = max(0.0, abs(beside_m) - 0.004 - 0.010 * lowness) + max(0.0, needed_m - behind_m)
    ready = 1 - _ramp(error_m, 0.0, 0.016)
    start = view.cube_m[:2] - heading * 0.045
    through = fingers + heading * min(0.02, distance) + 1.2 * beside_m * aside
    blend = ready * lowness
    xy = (1 - blend) * start + blend * through
    z = 0.014 + (HOVER_M - 0.014) * (1 - ready)
    return Aim(np.array([*(xy - fingers + view.tip_m[:2]), z]), SHUT_RAD)


def grasp(view: View) -> Aim:
    """Come down over the cube through a funnel, its fingers on either side, and close where they meet it.

    The funnel widens as the fingers close around the cube, and narrows for fingers that are not open above it.
    """
    low_m = max(0.011, float(view.cube_m[2]) - GRASP_BELOW_CENTRE_M)
    above_m = float(view.tip_m[2]) - low_m
    shut = max(0.0, OPEN_RAD - 0.05 - view.gripper_rad)
    error_m = _distance(view.cube_m, view.middle_m) + shut * (0.05 if above_m > 0.018 else -0.03)
    z = low_m + (max(HOVER_M, low_m + 0.045) - low_m) * _ramp(error_m, 0.005, 0.014)
    gripper = SQUEEZE_RAD if error_m < 0.006 and above_m < 0.009 else OPEN_RAD
    return Aim(_around(view, view.cube_m[:2], z, gripper), gripper)


def _carry(view: View, *, release_m: float, tolerance_m: float) -> Aim:
    """Take the held cube over the goal through a funnel; release_m is the height of its centre there."""
    error_m = _distance(view.cube_m, view.goal_m)
    z = release_m + (HOVER_M + 0.004 - release_m) * _ramp(error_m, tolerance_m, tolerance_m + 0.015)
    there = error_m < tolerance_m and view.cube_m[2] < release_m + 0.002
    shift = np.array([*view.goal_m[:2], z]) - view.cube_m
    return Aim(view.tip_m + shift, OPEN_RAD if there else SQUEEZE_RAD)


def _put_down(view: View) -> Aim:
    """Take the held cube aside from the goal and drop it from a few millimetres, to be grasped anew."""
    away_m = _distance(view.cube_m, view.goal_m)
    aside = view.goal_m[:2] + (view.cube_m[:2] - view.goal_m[:2]) * max(1.0, ASIDE_M / max(away_m, 1e-3))
    z = 0.012 + (HOVER_M - 0.012) * _ramp(ASIDE_M - away_m, 0.002, 0.015)
    gripper = OPEN_RAD if view.tip_m[2] < 0.016 else SQUEEZE_RAD
    return Aim(np.array([*(aside - view.cube_m[:2] + view.tip_m[:2]), z]), gripper)


def _leave(view: View) -> Aim:
    """Open around the cube, then rise."""
    openness = _ramp(view.gripper_rad, 0.25, 0.4)
    z = float(view.tip_m[2]) * (1 - openness) + 0.08 * openness
    return Aim(_around(view, view.cube_m[:2], z, OPEN_RAD), OPEN_RAD)


def _around(view: View, xy_m: Array, height_m: float, gripper_rad: float) -> Array:
    """Return the tip's place (3,) for which xy_m will lie halfway between fingers that go for gripper_rad."""
    return np.array([*(xy_m - view.closing * finger_gap(view.turned(gripper_rad)) / 2), height_m])


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def _distance(a: Array, b: Array) -> float:
    return float(np.hypot(*(a[:2] - b[:2])))
