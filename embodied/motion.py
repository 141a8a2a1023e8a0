"""Turns commands into setpoints at the robot's own rate, within its range, velocity, acceleration and workspace."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from embodied.errors import EmbodiedError, InvalidActionError, InvalidObservationError
from embodied.types import Intervention, Limits, RobotSpec
from embodied.workspace import ToolPosition, Workspace

Array = NDArray[np.float64]

UNBOUNDED = 1e30  # finite, so that zero times it is zero
REACHED = 1e-6  # share of a field's range within which a setpoint counts as where it was told to be
ROUNDING = 1e-6  # share of that which adding up leaves
HALVINGS = 6  # of a move that would leave the workspace, until braking is all that is left


class UnfitLimitsError(EmbodiedError):
    """Limits that a robot declares and that cannot be kept for want of something it does not offer."""


class Motion:
    """Follows commands along straight lines, as closely as a spec's limits allow.

    A command is where to be, (n,) in the order of spec.action, one control period from now; the way there is the
    straight line from the present setpoint. A setpoint never moves so that the robot could not brake within its range
    and its workspace. It comes to a command as if to stop there, but where this command and the one before move the
    same way it is taken to go on, at the slower of the two: so a steady motion is steady, and a lone command is not
    passed.

    Fields in delta mode are bounded in range alone: as commanded at every tick of the period, and zero after it.
    """

    def __init__(self, spec: RobotSpec, tick_s: float, tool_position: ToolPosition | None = None) -> None:
        """Make the motion of a robot that takes a setpoint every tick_s.

        Raise UnfitLimitsError unless a control period is a whole number of ticks, and where there is a workspace and
        no tool_position to tell the tool's place.
        """
        ticks = round(1 / (spec.control_hz * tick_s))
        if ticks < 1 or abs(ticks * spec.control_hz * tick_s - 1) > 1e-6:
            raise UnfitLimitsError(f"{spec.name}: 1/{spec.control_hz:g} s is no whole number of ticks of {tick_s:g} s")
        self._spec, self._ticks = spec, ticks
        self._workspace = _workspace(spec, tool_position)
        self._low = np.array([f.low for f in spec.action])
        self._high = np.array([f.high for f in spec.action])
        # Commands are float32: one that names a bound may have been rounded beyond it, which is no one's mistake.
        self._least = np.minimum(self._low, self._low.astype(np.float32))
        self._most = np.maximum(self._high, self._high.astype(np.float32))
        self._reached = REACHED * (self._high - self._low)
        self._delta = np.array([f.mode == "delta" for f in spec.action])
        self._deltas = bool(self._delta.any())
        self._none = np.clip(np.zeros(len(spec.action)), self._low, self._high)
        # Here a velocity is what is covered in a tick, and an acceleration what is gained of that in a tick.
        self._top = np.where(self._delta, 0.0, spec.limits.velocity or UNBOUNDED) * tick_s
        self._gain = np.where(self._delta, UNBOUNDED, spec.limits.acceleration or UNBOUNDED) * tick_s**2
        self._backward = -self._top
        self._one_tick = np.minimum(self._gain, self._top)  # slow enough to begin and to end in a tick
        self._shares = np.arange(1, ticks + 1)[:, None] / ticks
        self._left = np.arange(ticks, 0, -1)[:, None]
        self._interventions: list[Intervention] = []
        self.begin(None)

    @property
    def ticks(self) -> int:
        """Return how many ticks a control period has."""
        return self._ticks

    @property
    def setpoint(self) -> Array:
        """Return the setpoint (n,) of the last tick."""
        return self._at.copy()

    @property
    def moving(self) -> bool:
        """Whether a command is being followed, or the next tick still brakes from one."""
        return self._tick < self._ticks or bool(self._braked(self._velocity).any())

    def begin(self, position: NDArray[np.floating] | None) -> None:
        """Be at rest at position (n,); None where nobody knows it, and then the first command is taken as it stands.

        Raise InvalidObservationError for a position that is not finite, or further out of range than one tick may go.
        """
        if position is not None and not np.isfinite(position).all():
            raise InvalidObservationError(f"{self._spec.name} says that it is at {position}, which is nowhere")
        if position is not None:
            self._require_in_range(position)
        self._known = position is not None
        self._at = self._none if position is None else np.clip(position, self._low, self._high).astype(np.float64)
        self._at = np.where(self._delta, self._none, self._at)
        self._velocity = np.zeros_like(self._at)
        self._interventions.clear()
        self.hold()
        if self._known and self._workspace:
            self._workspace.begin(self._at)

    def command(self, values: NDArray[np.floating]) -> tuple[Intervention, ...]:
        """Take values (n,) as where to be one control period from now; return what was changed of it at once.

        What is out of range is clamped. A number that is not finite drops the whole command, since the rest of it was
        meant for a pose that is not known. Raise InvalidActionError for a wrong length, and UnfitLimitsError where
        there are limits and nobody knows where the robot is.
        """
        wanted: Array = values.astype(np.float64)
        if wanted.shape != self._low.shape:
            names = [f.name for f in self._spec.action]
            raise InvalidActionError(f"action has shape {wanted.shape}; {self._spec.name} takes {len(names)}: {names}")
        finite = np.isfinite(wanted)
        if not finite.all():
            self.hold()
            return self._report("non_finite", ~finite, wanted, np.where(self._delta, self._none, self._at))
        aim = np.minimum(np.maximum(wanted, self._low), self._high)
        if not self._known:
            self._appear(aim)
        self._lay_line(aim)
        outside = (wanted < self._least) | (wanted > self._most)
        return self._report("position", outside, wanted, aim) if outside.any() else ()

    def tick(self) -> Array:
        """Return the next setpoint (n,): on the way to the command, or, its period over, braking and then at rest."""
        if self._tick == self._ticks:
            self._stop_gently()
        else:
            self._move(self._way if self._straight else self._towards(self._tick))
            self._tick += 1
            if self._tick == self._ticks and not self._straight:
                self._arrive()
        return self._at.copy()

    def hold(self) -> None:
        """Drop the command: brake at the limit of acceleration, then stay."""
        self._tick = self._ticks
        self._aim, self._pace = self._at, np.zeros_like(self._at)

    def take_interventions(self) -> tuple[Intervention, ...]:
        """Return what velocity, acceleration and workspace kept from commands since the last call, once for each."""
        taken = tuple(self._interventions)
        self._interventions.clear()
        return taken

    def _require_in_range(self, position: NDArray[np.floating]) -> None:
        beyond = np.abs(position - np.clip(position, self._low, self._high))
        outside = (beyond > np.maximum(self._one_tick, self._reached)) & ~self._delta
        if outside.any():
            names = {f.name: float(x) for f, x, out in zip(self._spec.action, position, outside, strict=True) if out}
            raise InvalidObservationError(
                f"{self._spec.name} begins outside its range, at {names}; move it back in before it is commanded"
            )

    def _appear(self, aim: Array) -> None:
        if self._spec.limits != Limits():
            raise UnfitLimitsError(f"{self._spec.name} has limits, which bind from where it is: begin there")
        self._at, self._aim, self._known = aim, aim, True

    def _lay_line(self, aim: Array) -> None:
        """Plan the straight line to aim, and find out whether all of it may be followed as it stands."""
        ahead = aim - self._at
        self._line = self._at + ahead * self._shares
        self._line[-1] = aim
        self._way = ahead / self._ticks  # velocity along the line
        if self._deltas:
            self._line[:, self._delta] = aim[self._delta]
            self._way[self._delta] = 0.0
        before, self._pace = self._pace, (aim - self._aim) / self._ticks
        self._aim, self._tick, self._kept_in = aim, 0, False
        begins = np.abs(self._way - self._velocity) <= self._gain
        ends = np.abs(self._way) <= self._one_tick
        self._straight = bool((begins & ends).all()) or self._go_on(before, begins, ends)

    def _go_on(self, before: Array, begins: NDArray[np.bool_], ends: NDArray[np.bool_]) -> bool:
        """Plan a way that is not straight, or too fast to end in a tick; return whether it is straight all the same.

        It is to go on as this command and the one before do, at the slower of the two; what is too fast to be followed
        has an end to come to.
        """
        onward = _lesser(_lesser(self._pace, before), self._way)
        onward[np.abs(self._way) > self._top] = 0.0
        onward = np.where(ends, self._way, onward)
        self._set_marks(onward)
        if not (begins & (onward == self._way)).all():
            return False
        up, down = _stoppable(self._marks[-1, 2:] - self._line[-1] + self._way, self._gain)
        return bool(((self._way <= up) & (self._way >= down)).all())

    def _set_marks(self, onward: Array) -> None:
        """Lay out what may not be passed, a tick each: the line, where it goes on from its end, and the range."""
        self._marks = np.empty((self._ticks, 4, len(onward)))
        self._marks[:, 0] = self._line - self._way
        self._marks[:, 1] = self._aim - self._left * onward
        self._marks[:, 2] = self._high
        self._marks[:, 3] = self._low
        self._along = np.stack([self._way, onward])
        self._forward = self._way >= 0

    def _towards(self, tick: int) -> Array:
        """Return the velocity (n,) of a tick: onto the line, braking for its end and for the end of the range."""
        most = _stoppable(self._marks[tick] - self._at, self._gain)
        to_line, to_end = most[:2] + self._along
        velocity = np.where(self._forward, np.minimum(to_line, to_end), np.maximum(to_line, to_end))
        return self._bounded(velocity, most[2], most[3])

    def _bounded(self, velocity: Array, up: Array, down: Array) -> Array:
        """Return velocity (n,) within down and up, which leave room to brake in the range, and within the limits."""
        least = np.maximum(np.maximum(down, self._backward), self._velocity - self._gain)
        most = np.minimum(np.minimum(up, self._top), self._velocity + self._gain)
        bounded: Array = np.minimum(np.maximum(velocity, least), most)
        return bounded

    def _stop_gently(self) -> None:
        if self._velocity.any():
            self._velocity = self._braked(self._velocity)
            self._at = self._place(self._velocity)
        if self._deltas:
            self._at = np.where(self._delta, self._none, self._at)
        self._aim, self._pace = self._at, np.zeros_like(self._at)

    def _move(self, velocity: Array) -> None:
        """Go on at velocity (n,), or at as much of it as keeps the tool in the workspace."""
        at = self._line[self._tick] if self._straight else self._place(velocity)
        if self._workspace and not self._workspace.admits(self._braking(at, velocity)):
            at, velocity = self._kept_inside(self._workspace, velocity)
        if self._deltas:
            at = np.where(self._delta, self._aim, at)
        self._at, self._velocity = at, velocity

    def _kept_inside(self, workspace: Workspace, velocity: Array) -> tuple[Array, Array]:
        """Return the setpoint and velocity of the next tick where velocity leads out: along the box's faces, slower."""
        braked, refused = self._braked(self._velocity), workspace.refused
        inward = np.where(self._delta, 0.0, workspace.inward(self._at + velocity))
        up, down = _stoppable(np.stack([self._high - self._at, self._low - self._at]), self._gain)
        velocity = self._bounded(velocity + inward, up, down)
        for halvings in range(HALVINGS):
            slower = braked + (velocity - braked) / 2**halvings
            if workspace.admits(self._braking(at := self._place(slower), slower)):
                break
        else:
            at, slower = self._place(braked), braked  # the way on which the last tick found that it can stop
        if not self._kept_in:
            self._interventions += workspace.report(refused, at)
        if self._straight:
            self._set_marks(self._way)
        self._kept_in, self._straight = True, False
        return at, slower

    def _place(self, velocity: Array) -> Array:
        """Return where a tick at velocity (n,) leads; adding up may leave the range by a rounding error."""
        return np.asarray(np.minimum(np.maximum(self._at + velocity, self._low), self._high))

    def _braking(self, at: Array, velocity: Array) -> Iterable[Array]:
        """Return at (n,) and the setpoints after it if the robot brakes from there on."""
        speed = np.abs(velocity)
        more = int(np.ceil((speed / self._gain).max())) - 1
        if more < 1:
            return (at,)
        slower = np.maximum(speed - np.arange(1, more + 1)[:, None] * self._gain, 0.0)
        return (at, *(at + np.cumsum(np.copysign(slower, velocity), axis=0)))

    def _braked(self, velocity: Array) -> Array:
        return np.asarray(np.minimum(np.maximum(0.0, velocity - self._gain), velocity + self._gain))

    def _arrive(self) -> None:
        """End a period that was not straight: report where its command has been missed, and why.

        It is not missed where all that is left is to brake for it: where the next tick may be no faster than this one.
        Where the workspace kept the tool in, that has been said already.
        """
        gap = self._aim - self._at
        missed = np.abs(gap) > self._reached
        self._at = np.where(np.abs(gap) <= ROUNDING * self._reached, self._aim, self._at)
        if self._kept_in or not missed.any():
            return
        missed &= self._velocity * np.sign(gap) < np.abs(_stoppable(gap, self._gain)) * (1 - REACHED)
        too_fast = np.abs(self._way) > self._top * (1 + REACHED)
        self._interventions += self._report("velocity", missed & too_fast, self._aim, self._at)
        self._interventions += self._report("acceleration", missed & ~too_fast, self._aim, self._at)

    def _report(
        self, kind: str, changed: NDArray[np.bool_], requested: Array, applied: Array
    ) -> tuple[Intervention, ...]:
        fields = self._spec.action
        return tuple(
            Intervention(kind, fields[i].name, float(requested[i]), float(applied[i])) for i in np.flatnonzero(changed)
        )


def _workspace(spec: RobotSpec, tool_position: ToolPosition | None) -> Workspace | None:
    if spec.limits.workspace is None:
        return None
    if any(f.mode == "delta" for f in spec.action):
        raise UnfitLimitsError(f"{spec.name} has a workspace, which cannot be kept where fields are deltas")
    if tool_position is None:
        raise UnfitLimitsError(f"{spec.name} has a workspace and no tool_position to tell where its tool is")
    return Workspace(spec.limits.workspace, tool_position)


def _stoppable(gap: Array, gain: Array) -> Array:
    """Return the velocity of a tick after which braking by gain a tick ends at the gap's far end or before.

    gap (..., n) is signed, gain (n,) what braking takes off in a tick. With m more ticks of braking after this one a
    velocity u covers (m + 1) u - gain m (m + 1) / 2; m is the most for which that is no more than the gap at
    u = m gain.
    """
    distance = np.abs(gap)
    more = np.floor(np.sqrt(distance * (2 / gain) + 0.25) - 0.5)
    return np.asarray(np.copysign(distance / (more + 1) + more * (gain / 2), gap))


def _lesser(one: Array, other: Array) -> Array:
    """Return the smaller of two velocities (n,) that go the same way, zero where they do not."""
    return np.where(one * other > 0, np.where(np.abs(one) < np.abs(other), one, other), 0.0)
