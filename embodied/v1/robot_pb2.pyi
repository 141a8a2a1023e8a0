from embodied.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRobotRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeRobotReply(_message.Message):
    __slots__ = ("protocol", "spec", "origin")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    spec: _types_pb2.RobotSpec
    origin: _types_pb2.Origin
    def __init__(self, protocol: _Optional[int] = ..., spec: _Optional[_Union[_types_pb2.RobotSpec, _Mapping]] = ..., origin: _Optional[_Union[_types_pb2.Origin, _Mapping]] = ...) -> None: ...

class ControlRequest(_message.Message):
    __slots__ = ("sequence", "answers_ns", "within_ns", "open", "reset", "step", "heartbeat")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_NS_FIELD_NUMBER: _ClassVar[int]
    WITHIN_NS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    answers_ns: int
    within_ns: int
    open: Open
    reset: Reset
    step: StepRequest
    heartbeat: Heartbeat
    def __init__(self, sequence: _Optional[int] = ..., answers_ns: _Optional[int] = ..., within_ns: _Optional[int] = ..., open: _Optional[_Union[Open, _Mapping]] = ..., reset: _Optional[_Union[Reset, _Mapping]] = ..., step: _Optional[_Union[StepRequest, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("protocol", "client", "takeover", "expected", "frames")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    TAKEOVER_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    client: str
    takeover: bool
    expected: _types_pb2.RobotSpec
    frames: _types_pb2.FrameOffer
    def __init__(self, protocol: _Optional[int] = ..., client: _Optional[str] = ..., takeover: bool = ..., expected: _Optional[_Union[_types_pb2.RobotSpec, _Mapping]] = ..., frames: _Optional[_Union[_types_pb2.FrameOffer, _Mapping]] = ...) -> None: ...

class Reset(_message.Message):
    __slots__ = ("seed", "task")
    SEED_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    seed: int
    task: str
    def __init__(self, seed: _Optional[int] = ..., task: _Optional[str] = ...) -> None: ...

class StepRequest(_message.Message):
    __slots__ = ("actions", "frames")
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    actions: _types_pb2.Actions
    frames: bool
    def __init__(self, actions: _Optional[_Union[_types_pb2.Actions, _Mapping]] = ..., frames: bool = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ControlReply(_message.Message):
    __slots__ = ("sequence", "frames", "server_ns", "opened", "observation", "step", "error")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    SERVER_NS_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    frames: _containers.RepeatedCompositeFieldContainer[_types_pb2.Frame]
    server_ns: int
    opened: Opened
    observation: _types_pb2.Observation
    step: _types_pb2.Step
    error: _types_pb2.Error
    def __init__(self, sequence: _Optional[int] = ..., frames: _Optional[_Iterable[_Union[_types_pb2.Frame, _Mapping]]] = ..., server_ns: _Optional[int] = ..., opened: _Optional[_Union[Opened, _Mapping]] = ..., observation: _Optional[_Union[_types_pb2.Observation, _Mapping]] = ..., step: _Optional[_Union[_types_pb2.Step, _Mapping]] = ..., error: _Optional[_Union[_types_pb2.Error, _Mapping]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _types_pb2.FrameChoice
    def __init__(self, frames: _Optional[_Union[_types_pb2.FrameChoice, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("client", "frames")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    client: str
    frames: bool
    def __init__(self, client: _Optional[str] = ..., frames: bool = ...) -> None: ...

class WatchReply(_message.Message):
    __slots__ = ("frames", "server_ns", "status", "observation", "step")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    SERVER_NS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[_types_pb2.Frame]
    server_ns: int
    status: RobotStatus
    observation: _types_pb2.Observation
    step: _types_pb2.Step
    def __init__(self, frames: _Optional[_Iterable[_Union[_types_pb2.Frame, _Mapping]]] = ..., server_ns: _Optional[int] = ..., status: _Optional[_Union[RobotStatus, _Mapping]] = ..., observation: _Optional[_Union[_types_pb2.Observation, _Mapping]] = ..., step: _Optional[_Union[_types_pb2.Step, _Mapping]] = ...) -> None: ...

class StopRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EmergencyStopRequest(_message.Message):
    __slots__ = ("client",)
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    client: str
    def __init__(self, client: _Optional[str] = ...) -> None: ...

class ReleaseEmergencyStopRequest(_message.Message):
    __slots__ = ("client",)
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    client: str
    def __init__(self, client: _Optional[str] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RobotStatus(_message.Message):
    __slots__ = ("holder", "held_s", "stopped", "stopped_by", "stopped_s", "late_actions", "stalls", "refused_requests", "sessions")
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    HELD_S_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    STOPPED_BY_FIELD_NUMBER: _ClassVar[int]
    STOPPED_S_FIELD_NUMBER: _ClassVar[int]
    LATE_ACTIONS_FIELD_NUMBER: _ClassVar[int]
    STALLS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    holder: str
    held_s: float
    stopped: bool
    stopped_by: str
    stopped_s: float
    late_actions: int
    stalls: int
    refused_requests: int
    sessions: int
    def __init__(self, holder: _Optional[str] = ..., held_s: _Optional[float] = ..., stopped: bool = ..., stopped_by: _Optional[str] = ..., stopped_s: _Optional[float] = ..., late_actions: _Optional[int] = ..., stalls: _Optional[int] = ..., refused_requests: _Optional[int] = ..., sessions: _Optional[int] = ...) -> None: ...
