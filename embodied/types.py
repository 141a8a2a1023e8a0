"""The contract: what a robot declares, what it observes, what a policy may say, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from embodied.errors import InvalidActionError, InvalidObservationError, SpecMismatchError, UnknownNameError

Frame = NDArray[np.uint8]  # (H, W, 3) RGB
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Field:
    """One number of state or action, with its unit and the closed range it lives in."""

    name: str
    unit: str
    low: float
    high: float
    mode: Literal["absolute", "delta"] = "absolute"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"field {self.name!r} needs finite low < high, got [{self.low}, {self.high}]")


@dataclass(frozen=True)
class Camera:
    """A camera that a robot has; frames are (height, width, 3), fovy_deg is the vertical field of view."""

    name: str
    height: int
    width: int
    fovy_deg: float


@dataclass(frozen=True)
class Box:
    """A closed box in the robot's base frame, m; a table's height is low[2]."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and np.less(self.low, self.high).all()):
            raise ValueError(f"a box needs finite low < high in x, y and z, got {self.low} and {self.high}")


@dataclass(frozen=True)
class Limits:
    """How fast each field of the action may move and where the tool may be; what is empty or None is unbounded."""

    velocity: tuple[float, ...] = ()  # one a field of spec.action, in its unit per second
    acceleration: tuple[float, ...] = ()  # one a field of spec.action, in its unit per second squared
    workspace: Box | None = None

    def __post_init__(self) -> None:
        for name in ("velocity", "acceleration"):
            if not all(np.isfinite(bound) and bound > 0 for bound in getattr(self, name)):
                raise ValueError(f"{name} limits must be finite and above 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class RobotSpec:
    """Everything a policy must agree on with a robot before either may move."""

    name: str
    control_hz: float
    cameras: tuple[Camera, ...]
    state: tuple[Field, ...]
    action: tuple[Field, ...]
    skills: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    watchdog_s: float = 0.5
    version: str = "1"
    limits: Limits = Limits()
    realtime: bool = False  # time passes whether or not a command comes; else only a step moves it on
    tiers: tuple[str, ...] = ()  # how hard each of tasks is said to be, in their order; empty: nobody says

    def __post_init__(self) -> None:
        if len(self.tiers) not in (0, len(self.tasks)):
            raise ValueError(f"{self.name} has {len(self.tasks)} tasks and tiers for {len(self.tiers)}")
        for name in ("velocity", "acceleration"):
            if len(getattr(self.limits, name)) not in (0, len(self.action)):
                raise ValueError(f"{self.name} has {len(self.action)} action fields and {name} limits for others")

    def camera(self, name: str) -> Camera:
        """Return the camera called name; raise UnknownNameError with the valid names otherwise."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise UnknownNameError("camera", name, self.name, (c.name for c in self.cameras))

    def require_task(self, task: str) -> None:
        """Raise UnknownNameError if the robot does not have the task."""
        if task not in self.tasks:
            raise UnknownNameError("task", task, self.name, self.tasks)

    def differences(self, other: RobotSpec) -> list[str]:
        """List every way in which other is not this robot, one line each: rate, cameras, fields, order, ranges.

        Tasks, tiers, skills and limits are what a robot offers, not what a policy needs: they may differ.
        """
        found = []
        for name in ("name", "version", "control_hz", "watchdog_s"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                found.append(f"{name}: expected {mine}, found {theirs}")
        for group in ("cameras", "state", "action"):
            found += _sequence_differences(group, getattr(self, group), getattr(other, group))
        return found

    def require_same(self, other: RobotSpec, *, expected: str) -> None:
        """Raise SpecMismatchError listing every difference; expected says who made this spec."""
        if found := self.differences(other):
            raise SpecMismatchError(expected, f"robot {other.name!r}", found)

    def check_action(self, action: PoseAction) -> None:
        """Raise InvalidActionError unless the action has one number a field (ranges are the safety layer's work)."""
        if action.values.shape != (len(self.action),):
            raise InvalidActionError(
                f"action has shape {action.values.shape}; {self.name} takes ({len(self.action)},): "
                f"{[f.name for f in self.action]}"
            )

    def check_observation(self, observation: Observation) -> None:
        """Raise InvalidObservationError unless state and frames fit the spec; frames may be absent, never odd."""
        state = observation.state
        if state.shape != (len(self.state),):
            raise InvalidObservationError(f"state has shape {state.shape}; {self.name} has ({len(self.state)},)")
        for spec_field, value in zip(self.state, state, strict=True):
            if not np.isfinite(value):
                raise InvalidObservationError(f"state field {spec_field.name!r} is {value}")
        for name, frame in observation.frames.items():
            camera = self.camera(name)
            if frame.dtype != np.uint8 or frame.shape != (camera.height, camera.width, 3):
                raise InvalidObservationError(
                    f"frame {name!r} is {frame.dtype}{frame.shape}; {self.name} declares "
                    f"uint8({camera.height}, {camera.width}, 3)"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain JSON types; tiers only where there are any: hashes of others stay as they were."""
        return {name: value for name, value in asdict(self).items() if name != "tiers" or value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RobotSpec:
        """Read what to_dict wrote; an unknown or missing key is a TypeError."""
        groups: dict[str, Any] = {
            "cameras": tuple(Camera(**c) for c in data["cameras"]),
            "state": tuple(Field(**f) for f in data["state"]),
            "action": tuple(Field(**f) for f in data["action"]),
            "skills": tuple(data["skills"]),
            "tasks": tuple(data["tasks"]),
            "tiers": tuple(data.get("tiers", ())),
            "limits": _limits(data.get("limits", {})),
        }
        return cls(**{**data, **groups})


@dataclass(frozen=True)
class Observation:
    """What the robot sensed at one instant. All that a policy is ever given."""

    time_ns: int  # the robot's own monotonic clock; simulated time in simulation
    frames: Mapping[str, Frame]  # empty where the caller asked for no frames
    state: Vector  # (n,) in the order and units of spec.state
    instruction: str


@dataclass(frozen=True, eq=False)
class PoseAction:
    """One number a field, in the order and units of spec.action."""

    values: Vector  # (n,)


@dataclass(frozen=True)
class TextAction:
    """A sentence the robot lowers through its own closed table of verbs, as in "move up"."""

    text: str


@dataclass(frozen=True)
class SkillCall:
    """A named skill of the robot with plain arguments."""

    name: str
    arguments: Mapping[str, float | str] = field(default_factory=dict)


Action = PoseAction | TextAction | SkillCall


@dataclass(frozen=True)
class Intervention:
    """One thing the safety layer changed or refused."""

    kind: str  # non_finite | position | velocity | acceleration | workspace | late | unknown_verb | malformed
    field: str
    requested: float
    applied: float


@dataclass(frozen=True)
class Fault:
    """A part of the robot that is not as it should be now."""

    part: str  # a camera's or a joint's name, or "bus"
    kind: str  # camera_stalled | camera_lost | temperature | voltage | load | blocked | bus
    detail: str  # one sentence with the figures, for a person


@dataclass(frozen=True)
class Step:
    """What came of one or several actions."""

    observation: Observation
    reward: float = 0.0
    success: bool = False
    terminated: bool = False
    truncated: bool = False
    executed: int = 1  # actions of the chunk that ran before the episode ended
    interventions: tuple[Intervention, ...] = ()
    labels: Mapping[str, Vector] = field(default_factory=dict)  # simulator's truth: for supervision, never for acting
    dropped: int = 0  # actions of the chunk that were not carried out: late, or cut short by a stop
    timing_ns: Mapping[str, int] = field(default_factory=dict)  # what each stage took: queue, motion, render, wire, ...
    faults: tuple[Fault, ...] = ()  # of its actions' time; a camera at fault has no frame in the observation
    health: Mapping[str, float] = field(default_factory=dict)  # what the body measures of itself: "bus.retries", ...

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.terminated or self.truncated


@runtime_checkable
class Robot(Protocol):
    """A body: simulated, remote or real."""

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot declares."""

    def reset(self, seed: int, task: str) -> Observation:
        """Begin an episode; the same seed and task give the same episode. Raise UnknownNameError for a bad task."""

    def step(self, *actions: Action, frames: bool = True) -> Step:
        """Carry out the actions in order, a control period each, ending early when the episode does.

        The step is that of the last action carried out: reward is summed, interventions are gathered. Frames are
        rendered for it only if asked for. Raise InvalidActionError for a wrong length or no actions, and
        ProtocolError before the first reset or after the end of an episode.
        """

    def stop(self) -> None:
        """Come to a controlled stop and hold; idempotent, safe from any thread."""

    def close(self) -> None:
        """Stop and let go of every resource; idempotent."""


@runtime_checkable
class Policy(Protocol):
    """A mind: maps observations to actions."""

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        """Begin an episode; raise SpecMismatchError if the robot is not the one the policy was trained for."""

    def act(self, observation: Observation) -> Sequence[Action]:
        """Return the next actions, at least one; raise InvalidObservationError for what cannot be read."""


def _limits(data: Mapping[str, Any]) -> Limits:
    groups: dict[str, Any] = {name: tuple(data.get(name, ())) for name in ("velocity", "acceleration")}
    if (box := data.get("workspace")) is not None:
        groups["workspace"] = Box(tuple(box["low"]), tuple(box["high"]))
    return Limits(**{**data, **groups})


def _sequence_differences(group: str, mine: Sequence[Any], theirs: Sequence[Any]) -> Iterator[str]:
    my_names, their_names = [m.name for m in mine], [t.name for t in theirs]
    if my_names != their_names:
        yield f"{group}: expected {my_names} in this order, found {their_names}"
    others = {t.name: t for t in theirs}
    for entry in mine:
        if (other := others.get(entry.name)) is not None:
            for f in fields(entry):
                if getattr(entry, f.name) != getattr(other, f.name):
                    yield (
                        f"{group}.{entry.name}.{f.name}: expected {getattr(entry, f.name)}, "
                        f"found {getattr(other, f.name)}"
                    )
