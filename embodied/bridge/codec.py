"""The types of embodied.types to and from the messages of proto/embodied/v1, one pair of functions each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embodied.bridge.arrays import decode_array, decode_vector, encode_array
from embodied.errors import InvalidActionError, InvalidInstructionError, ProtocolError
from embodied.types import (
    Action,
    Box,
    Camera,
    Fault,
    Field,
    Frame,
    Intervention,
    Limits,
    Observation,
    PoseAction,
    RobotSpec,
    SkillCall,
    Step,
    TextAction,
)
from embodied.v1 import types_pb2 as pb

MAX_CHUNK = 1024  # actions in one request

_MODE_CODES = {"absolute": pb.Field.MODE_ABSOLUTE, "delta": pb.Field.MODE_DELTA}
_MODES: dict[int, Any] = {code: mode for mode, code in _MODE_CODES.items()}


def require_text(text: str) -> str:
    """Return the text if it can be written as UTF-8; raise InvalidInstructionError otherwise."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInstructionError(f"not valid text: {error.reason} at character {error.start}") from error
    return text


def encode_spec(spec: RobotSpec) -> pb.RobotSpec:
    """Return the message of a spec."""
    return pb.RobotSpec(
        name=spec.name,
        control_hz=spec.control_hz,
        cameras=[pb.Camera(name=c.name, height=c.height, width=c.width, fovy_deg=c.fovy_deg) for c in spec.cameras],
        state=[_encode_field(f) for f in spec.state],
        action=[_encode_field(f) for f in spec.action],
        skills=spec.skills,
        tasks=spec.tasks,
        watchdog_s=spec.watchdog_s,
        version=spec.version,
        limits=_encode_limits(spec.limits),
        realtime=spec.realtime,
        tiers=spec.tiers,
    )


def decode_spec(message: pb.RobotSpec) -> RobotSpec:
    """Return the spec; raise ProtocolError for a field with no range or no mode, or limits that are none."""
    try:
        return RobotSpec(
            name=message.name,
            control_hz=message.control_hz,
            cameras=tuple(Camera(c.name, c.height, c.width, c.fovy_deg) for c in message.cameras),
            state=tuple(_decode_field(f) for f in message.state),
            action=tuple(_decode_field(f) for f in message.action),
            skills=tuple(message.skills),
            tasks=tuple(message.tasks),
            watchdog_s=message.watchdog_s,
            version=message.version,
            limits=_decode_limits(message.limits),
            realtime=message.realtime,
            tiers=tuple(message.tiers),
        )
    except ValueError as error:
        raise ProtocolError(str(error)) from error


def encode_observation(observation: Observation) -> pb.Observation:
    """Return the message of an observation; its frames go into the envelope."""
    return pb.Observation(
        time_ns=observation.time_ns,
        state=encode_array(observation.state),
        instruction=require_text(observation.instruction),
    )


def decode_observation(message: pb.Observation, frames: Mapping[str, Frame]) -> Observation:
    """Return the observation with the envelope's frames, its state read-only; raise ProtocolError for no state."""
    return Observation(
        time_ns=message.time_ns,
        frames=frames,
        state=decode_vector(message.state, "state"),
        instruction=message.instruction,
    )


def encode_actions(actions: Sequence[Action]) -> pb.Actions:
    """Return the message of a chunk; raise InvalidActionError for what no message can carry."""
    if len(actions) > MAX_CHUNK:
        raise InvalidActionError(f"a chunk of {len(actions)} actions; at most {MAX_CHUNK} may be sent")
    poses = [action.values for action in actions if isinstance(action, PoseAction)]
    if len(poses) == len(actions) and poses and poses[0].ndim == 1 and _are_alike(poses):
        return pb.Actions(poses=encode_array(np.concatenate(poses).reshape(len(poses), poses[0].size)))
    return pb.Actions(mixed=[_encode_action(action) for action in actions])


def decode_actions(message: pb.Actions) -> tuple[Action, ...]:
    """Return the chunk, empty if the message is; raise InvalidActionError for what is none."""
    if not message.HasField("poses"):
        _check_chunk(len(message.mixed))
        return tuple(_decode_action(action) for action in message.mixed)
    if message.mixed:
        raise InvalidActionError("a chunk is either poses or mixed, not both")
    poses = _decode_numbers(message.poses)
    if poses.ndim != 2 or not len(poses):
        raise InvalidActionError(f"poses must be (k, n) with k >= 1, got {poses.shape}")
    _check_chunk(len(poses))
    return tuple(map(PoseAction, poses))


def encode_step(step: Step) -> pb.Step:
    """Return the message of a step with everything that it holds but frames, which go into the envelope."""
    return pb.Step(
        observation=encode_observation(step.observation),
        reward=float(step.reward),
        success=bool(step.success),
        terminated=bool(step.terminated),
        truncated=bool(step.truncated),
        executed=step.executed,
        interventions=[
            pb.Intervention(kind=i.kind, field=i.field, requested=i.requested, applied=i.applied)
            for i in step.interventions
        ],
        labels={name: encode_array(values) for name, values in step.labels.items()},
        dropped=step.dropped,
        timing_ns=step.timing_ns,
        faults=[pb.Fault(part=f.part, kind=f.kind, detail=f.detail) for f in step.faults],
        health=step.health,
    )


def decode_step(message: pb.Step, frames: Mapping[str, Frame]) -> Step:
    """Return the step with the envelope's frames; raise ProtocolError for arrays that are none."""
    return Step(
        observation=decode_observation(message.observation, frames),
        reward=message.reward,
        success=message.success,
        terminated=message.terminated,
        truncated=message.truncated,
        executed=message.executed,
        interventions=tuple(Intervention(i.kind, i.field, i.requested, i.applied) for i in message.interventions),
        labels={name: decode_array(values) for name, values in message.labels.items()},
        dropped=message.dropped,
        timing_ns=dict(message.timing_ns),
        faults=tuple(Fault(f.part, f.kind, f.detail) for f in message.faults),
        health=dict(message.health),
    )


def _encode_field(field: Field) -> pb.Field:
    return pb.Field(name=field.name, unit=field.unit, low=field.low, high=field.high, mode=_MODE_CODES[field.mode])


def _decode_field(message: pb.Field) -> Field:
    if message.mode not in _MODES:
        raise ProtocolError(f"field {message.name!r} has mode code {message.mode}; the wire has {sorted(_MODES)}")
    return Field(message.name, message.unit, message.low, message.high, _MODES[message.mode])


def _encode_limits(limits: Limits) -> pb.Limits:
    box = limits.workspace
    return pb.Limits(
        velocity=limits.velocity,
        acceleration=limits.acceleration,
        workspace=None if box is None else pb.Box(low=box.low, high=box.high),
    )


def _decode_limits(message: pb.Limits) -> Limits:
    box = None
    if message.HasField("workspace"):
        if len(message.workspace.low) != 3 or len(message.workspace.high) != 3:
            raise ProtocolError("the workspace's low and high must have x, y and z")
        (x, y, z), (far_x, far_y, far_z) = message.workspace.low, message.workspace.high
        box = Box((x, y, z), (far_x, far_y, far_z))
    return Limits(tuple(message.velocity), tuple(message.acceleration), box)


def _are_alike(arrays: Sequence[NDArray[Any]]) -> bool:
    first = arrays[0]
    return all(array.shape == first.shape and array.dtype == first.dtype for array in arrays)


def _encode_action(action: Action) -> pb.Action:
    match action:
        case PoseAction(values):
            return pb.Action(pose=encode_array(values))
        case TextAction(text):
            return pb.Action(text=require_text(text))
        case SkillCall(name, arguments):
            return pb.Action(skill=pb.SkillCall(name=name, arguments=_encode_arguments(arguments)))
    raise InvalidActionError(f"{action!r} is no action; the wire has PoseAction, TextAction and SkillCall")


def _encode_arguments(arguments: Mapping[str, float | str]) -> dict[str, pb.SkillArgument]:
    return {
        name: pb.SkillArgument(text=value) if isinstance(value, str) else pb.SkillArgument(number=value)
        for name, value in arguments.items()
    }


def _decode_action(message: pb.Action) -> Action:
    match message.WhichOneof("action"):
        case "pose":
            return PoseAction(_decode_numbers(message.pose))
        case "text":
            return TextAction(message.text)
        case "skill":
            return SkillCall(message.skill.name, _decode_arguments(message.skill.arguments))
    raise InvalidActionError("an action with no content; the wire has pose, text and skill")


def _decode_arguments(messages: Mapping[str, pb.SkillArgument]) -> dict[str, float | str]:
    if empty := [name for name, value in messages.items() if value.WhichOneof("value") is None]:
        raise InvalidActionError(f"skill arguments {sorted(empty)} have no value")
    return {name: getattr(value, value.WhichOneof("value")) for name, value in messages.items()}


def _decode_numbers(message: pb.Array) -> NDArray[Any]:
    try:
        return decode_array(message)
    except ProtocolError as error:
        raise InvalidActionError(f"action: {error}") from error


def _check_chunk(length: int) -> None:
    if length > MAX_CHUNK:
        raise InvalidActionError(f"a chunk of {length} actions; at most {MAX_CHUNK} may be sent")
