"""A scripted expert for PushT: plans one straight push after another and goes round the T to where each begins."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embodied.types import Action, Observation, PoseAction, RobotSpec
from envs.pusht_tee import (
    BOARD,
    CONTACT_NORMALS,
    CONTACTS,
    CORNERS,
    PUSHER_RADIUS,
    clearance,
    misplaced,
    nearest,
    place,
    push,
    turn,
)

if TYPE_CHECKING:
    from envs.pusht_scene import PushTScene
    from envs.suite_robot import SuiteRobot

Array = NDArray[np.float64]
Indices = NDArray[np.signedinteger]

GAP = 5.0  # px between pusher and T where a push begins
STRIDE, LONGEST = 2.0, 160.0  # px, of the planned pushes
SECOND_STRIDE, SECOND_LONGEST = 5.0, 120.0  # of those looked ahead to
LEAST = 4.0  # px that a corner of the T must be moved
FAR = 5000.0  # px: no way there
ROUNDABOUT = 1.5  # times the straight way, roughly, is that round the T
SLANTS_RAD = (-0.4, 0.0, 0.4)  # of a push against the contact's normal
LOOK_AHEAD = 24  # first pushes of which the second is tried too
STEP_COST = 0.012  # px of misplacement that a px of way must be worth
PUSH_COST = 1.0  # px of misplacement that one more push must be worth
ROOM = 4.0  # px that the pusher keeps from the T on its way round it
LEAD = 75.0  # px ahead of the pusher that it is told to go: at 5 times that a second it runs
LEADS = (90.0, 60.0, 40.0, 25.0, 12.0, 5.0)  # on its way round the T, as far as it does not swing out into it
STIFFNESS, DAMPING, TICK_S = 100.0, 20.0, 0.01  # of the pusher's controller in gym-pusht
SWING_TICKS = 40
ARRIVED = 1.5  # px from where a push begins
DONE = 0.7  # px from where it ends
DRIFT, NUDGED = 4.0, 2.0  # px of a corner off its prediction at which a push is planned anew, under way or before it
# Off every corner of the T, those of its inner corners too, in its own frame.
_RING = CORNERS + 22.0 * np.array([(-1, -1), (1, -1), (1, 1), (1, 1), (1, 1), (-1, 1), (-1, 1), (-1, 1)])


@dataclass(frozen=True)
class Push:
    """A straight way of the pusher that moves the T, and what comes of it."""

    start: Array  # (2,) px
    end: Array  # (2,)
    before: Array  # (3,) the T's pose
    poses: Array  # (n, 3) its poses after each stride


class Expert:
    """Looks at the T's true pose, never at the frames; remembers which push it is about."""

    def __init__(self, robot: SuiteRobot[PushTScene]) -> None:
        self._robot = robot
        self._push: Push | None = None
        self._pushing = False

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode; the robot knows of which scene."""
        self._push, self._pushing = None, False

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return one PoseAction: where the pusher should go, (2,) px."""
        scene = self._robot.scene
        pusher, pose, velocity = scene.pusher, scene.block_pose, scene.pusher_velocity
        if self._push is None or self._over(self._push, pusher, pose):
            self._push, self._pushing = plan(pusher, pose), False
        aim = self._aim(self._push, (pusher, velocity), pose)
        return [PoseAction(np.clip(aim, 0.0, BOARD).astype(np.float32))]

    def _over(self, chosen: Push, pusher: Array, pose: Array) -> bool:
        """Whether a push is done, or the T is not where it was meant to be by now."""
        if not self._pushing:
            return _apart(pose, chosen.before) > NUDGED
        gone = float(np.linalg.norm(pusher - chosen.start)) / STRIDE
        expected = chosen.poses[int(np.clip(round(gone), 0, len(chosen.poses) - 1))]
        return _apart(pose, expected) > DRIFT or bool(np.linalg.norm(chosen.end - pusher) < DONE)

    def _aim(self, chosen: Push, moving: tuple[Array, Array], pose: Array) -> Array:
        pusher, velocity = moving
        if not self._pushing:
            if np.linalg.norm(chosen.start - pusher) + 0.05 * np.linalg.norm(velocity) > ARRIVED:
                return _ahead(moving, [pusher, *(detour(pusher, chosen.start, pose) or [chosen.start])], pose)
            self._pushing = True
        along = chosen.end - chosen.start
        length = float(np.linalg.norm(along))
        gone = float((pusher - chosen.start) @ along) / length
        return np.asarray(chosen.start + along * min(1.0, (gone + LEAD) / length))


def plan(pusher: Array, pose: Array) -> Push:
    """Return the first of the two pushes that bring the T at pose (3,) nearest to its goal, long ways counted."""
    pushes = _openings(pose[None], SLANTS_RAD)
    reach = _reach(pusher, pushes.starts, pose)
    costs, poses = _played(pushes, STRIDE, LONGEST)
    # (strides, pushes): what is left, and what it took
    total = costs + STEP_COST * (reach + STRIDE * np.arange(1, len(costs) + 1)[:, None])
    moved = np.abs(place(CORNERS, poses[:, :, None]) - place(CORNERS, pose)).max((2, 3))
    strides, indices = _promising(np.where(moved < min(LEAST, float(misplaced(pose)) / 2), np.inf, total))
    ends = pushes.starts[indices] + pushes.ways[indices] * (STRIDE * (strides + 1))[:, None]
    spent = (total - costs)[strides, indices]
    score = np.minimum(total[strides, indices], spent + _second(ends, poses[strides, indices]))
    best = int(score.argmin())
    stride, index = strides[best], indices[best]
    return Push(pushes.starts[index], ends[best], pose, poses[: stride + 1, index])


def _reach(pusher: Array, starts: Array, pose: Array) -> Array:
    """Return the lengths (n,) px of the ways to starts (n, 2)."""
    places, which = np.unique(starts, axis=0, return_inverse=True)
    ways = [detour(pusher, start, pose) for start in places]
    return np.array([_length([pusher, *way]) if way else FAR for way in ways])[which.ravel()]


def _promising(total: Array) -> tuple[Indices, Indices]:
    """Return the ends (strides, pushes) most worth looking on from: the best of each push, and some way on."""
    strides, indices = total.argmin(0), np.arange(total.shape[1])
    best = np.argsort(total[strides, indices], kind="stable")[:LOOK_AHEAD]
    return strides[best], indices[best]


def _second(heres: Array, poses: Array) -> Array:
    """Return the least (n,) that one more push can leave of Ts at poses (n, 3), its cost included."""
    pushes = _openings(poses, (0.0,))
    costs, _ = _played(pushes, SECOND_STRIDE, SECOND_LONGEST)
    reach = ROUNDABOUT * np.linalg.norm(pushes.starts - heres[pushes.of], axis=1)
    total = (costs + STEP_COST * (reach + SECOND_STRIDE * np.arange(1, len(costs) + 1)[:, None])).min(0)
    least = np.full(len(poses), np.inf)
    np.minimum.at(least, pushes.of, total)
    return least + PUSH_COST


@dataclass(frozen=True)
class Pushes:
    """Pushes that may begin: where (n, 2) px, in which directions (n, 2), the T's poses (n, 3), of which T (n,)."""

    starts: Array
    ways: Array
    poses: Array
    of: Indices


def _openings(poses: Array, slants_rad: Sequence[float]) -> Pushes:
    """Return the pushes of Ts at poses (n, 3) that begin on the board and clear of the T."""
    normals = turn(CONTACT_NORMALS, poses[:, None, 2])
    starts = place(CONTACTS, poses[:, None]) + normals * (PUSHER_RADIUS + GAP)
    free = clearance(starts, poses[:, None]) > PUSHER_RADIUS + GAP / 2
    free &= ((starts >= 0) & (starts <= BOARD)).all(-1)
    of = np.tile(np.nonzero(free)[0], len(slants_rad))
    ways = np.concatenate([turn(-normals[free], slant) for slant in slants_rad])
    return Pushes(np.tile(starts[free], (len(slants_rad), 1)), ways, poses[of], of)


def _played(pushes: Pushes, stride: float, longest: float) -> tuple[Array, Array]:
    """Return what is left (strides, n) px after each stride of n pushes, and the Ts' poses (strides, n, 3)."""
    poses, pushers, costs, played = pushes.poses, pushes.starts, [], []
    for _ in range(round(longest / stride)):
        poses = push(poses, pushers, pushes.ways * stride)
        pushers = pushers + pushes.ways * stride
        costs.append(misplaced(poses) + 1e3 * ((pushers < 0) | (pushers > BOARD)).any(1))
        played.append(poses)
    return np.array(costs), np.array(played)


def detour(start: Array, end: Array, pose: Array) -> list[Array]:
    """Return the shortest way (points (2,), start left out) from start to end that keeps clear of the T at pose.

    Empty if there is none.
    """
    if _is_clear(start, end, pose):
        return [end]
    ring = place(_RING, pose)
    free = (clearance(ring, pose) > PUSHER_RADIUS + ROOM) & ((ring >= 0) & (ring <= BOARD)).all(1)
    return _shortest([start, _clear_of(start, pose), *ring[free], _clear_of(end, pose), end], pose)


def _clear_of(point: Array, pose: Array) -> Array:
    """Return the point, straight away from the T as far as there is room to go round it."""
    outward = point - nearest(point, pose)
    gap = float(np.linalg.norm(outward))
    return point + outward * (max(0.0, PUSHER_RADIUS + ROOM + 2.0 - gap) / max(gap, 1e-9))


def _shortest(nodes: list[Array], pose: Array) -> list[Array]:
    """Return the shortest way over nodes from the first to the last, empty if there is none."""
    goal = len(nodes) - 1
    queue: list[tuple[float, int, tuple[int, ...]]] = [(0.0, 0, ())]
    done: set[int] = set()
    while queue:
        length, node, way = heapq.heappop(queue)
        if node == goal:
            return [nodes[i] for i in (*way[1:], goal)]
        if node in done:
            continue
        done.add(node)
        for other in range(1, len(nodes)):
            if other not in done and _is_clear(nodes[node], nodes[other], pose):
                step = float(np.linalg.norm(nodes[other] - nodes[node]))
                heapq.heappush(queue, (length + step, other, (*way, node)))
    return []


def _is_clear(start: Array, end: Array, pose: Array) -> bool:
    """Whether the straight way is free; near its ends, which may lie close to the T, more is forgiven."""
    length = float(np.linalg.norm(end - start))
    along = np.linspace(0.0, 1.0, max(2, round(length / 4)))
    points = start + along[:, None] * (end - start)
    near = np.minimum(along, 1 - along) * length
    gap = clearance(points, pose)
    least = np.minimum(PUSHER_RADIUS + ROOM, np.minimum(gap[0], gap[-1]) + 0.5 * near)
    return bool((gap >= least - 1e-6).all())


def _apart(pose: Array, other: Array) -> float:
    """Return how far apart in x or y, px, two poses (3,) put a corner of the T at most."""
    return float(np.abs(place(CORNERS, pose) - place(CORNERS, other)).max())


def _length(way: list[Array]) -> float:
    return float(sum(np.linalg.norm(b - a) for a, b in itertools.pairwise(way)))


def _ahead(moving: tuple[Array, Array], way: list[Array], pose: Array) -> Array:
    """Return the furthest of the points ahead on the way that the pusher gets to without touching the T."""
    pusher, velocity = moving
    aims = np.array([_along(way, lead) for lead in LEADS])
    places, speeds = np.tile(pusher, (len(aims), 1)), np.tile(velocity, (len(aims), 1))
    least = np.full(len(aims), np.inf)
    for _ in range(SWING_TICKS):
        speeds = speeds + (STIFFNESS * (aims - places) - DAMPING * speeds) * TICK_S
        places = places + speeds * TICK_S
        least = np.minimum(least, clearance(places, pose))
    free = least > min(PUSHER_RADIUS + 1.0, float(clearance(pusher, pose)) - 0.5)
    return np.asarray(aims[free.argmax() if free.any() else least.argmax()])


def _along(way: list[Array], length: float) -> Array:
    """Return the point on the way at a length from its beginning, its end if it is shorter."""
    for start, end in itertools.pairwise(way):
        stretch = float(np.linalg.norm(end - start))
        if stretch >= length:
            return np.asarray(start + (end - start) * (length / max(stretch, 1e-9)))
        length -= stretch
    return way[-1]
