"""Where the objects of an episode stand: plain data that a task draws and a scene shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CUBE_HALF_M = 0.015
ZONE_RADIUS_M = 0.055
BOWL_RADIUS_M = 0.055  # outer, at the rim
BOWL_INNER_M = 0.043  # to the faces of the wall, at the floor
BOWL_WALL_M = 0.005
BOWL_HEIGHT_M = 0.032
PAN_AXIS_X_M = 0.0388  # the shoulder pan axis stands here in the base frame

# Matte, saturated, and none like the arm's yellow, its black servos or the pale table.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.06, 0.05),
    "green": (0.05, 0.60, 0.12),
    "blue": (0.00, 0.08, 1.00),
    "purple": (0.66, 0.05, 0.75),
    "pink": (1.00, 0.42, 0.64),
    "cyan": (0.05, 0.66, 0.80),
}


@dataclass(frozen=True)
class Item:
    """One object of a layout: its name in the scene, its colour and where it stands on the table."""

    name: str  # cube_0 | bowl_1 | zone_0 | ...
    colour: str
    xy_m: tuple[float, float]
    yaw_rad: float = 0.0

    @property
    def kind(self) -> str:
        """Return cube, bowl or zone."""
        return self.name.partition("_")[0]


@dataclass(frozen=True)
class Layout:
    """The objects of an episode, and which two of them the task is about."""

    items: tuple[Item, ...]
    target: str  # the cube to be moved or reached
    goal: str  # where it belongs; the target itself where the task has no second object

    def item(self, name: str) -> Item:
        """Return the item called name; KeyError if the layout has none."""
        return {item.name: item for item in self.items}[name]

    def misdirected(self) -> tuple[str, str]:
        """Return another target and another goal, of the same kinds, than those the layout is about."""
        target = self._other(self.target, self.goal)
        goal = target if self.goal == self.target else self._other(self.goal, target)
        return target, goal

    def _other(self, name: str, taken: str) -> str:
        kind = self.item(name).kind
        return next(i.name for i in self.items if i.kind == kind and i.name not in (name, taken))


@dataclass(frozen=True)
class Region:
    """A sector of the table around the shoulder pan axis, in which the arm can work from above."""

    near_m: float = 0.14
    far_m: float = 0.25
    azimuth_rad: float = 0.87
    side_m: float = 0.15  # the front camera sees no farther to either side

    def draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return a point (2,) of the region, uniform over its area, m in the base frame."""
        while True:
            radius = np.sqrt(rng.uniform(self.near_m**2, self.far_m**2))
            azimuth = rng.uniform(-self.azimuth_rad, self.azimuth_rad)
            point = np.array([PAN_AXIS_X_M + radius * np.cos(azimuth), radius * np.sin(azimuth)])
            if abs(point[1]) <= self.side_m:
                return point

    def holds(self, xy_m: NDArray[np.float64]) -> bool:
        """Return whether the point (2,) lies in the region."""
        forward, side = xy_m[0] - PAN_AXIS_X_M, xy_m[1]
        near_enough = self.near_m <= np.hypot(forward, side) <= self.far_m
        return bool(near_enough and abs(np.arctan2(side, forward)) <= self.azimuth_rad and abs(side) <= self.side_m)


def draw_colours(rng: np.random.Generator, count: int) -> list[str]:
    """Return count different colour names, so that a colour names one object of a scene."""
    return [str(name) for name in rng.permutation(list(COLOURS))[:count]]


def draw_until(draw: Callable[[], Layout | None], attempts: int = 10_000) -> Layout:
    """Return the first layout that draw() accepts; RuntimeError when it never does."""
    for _ in range(attempts):
        if (layout := draw()) is not None:
            return layout
    raise RuntimeError(f"no layout in {attempts} attempts: the clearances leave no room on the table")


def clear_of(point: NDArray[np.float64], others: list[NDArray[np.float64]], clearance_m: float) -> bool:
    """Return whether point (2,) is at least clearance_m from every other point."""
    return all(np.hypot(*(point - other)) >= clearance_m for other in others)
