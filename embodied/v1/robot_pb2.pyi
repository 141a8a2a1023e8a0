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
    __slots__ = ("protocol", "spec")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    spec: _types_pb2.RobotSpec
    def __init__(self, protocol: _Optional[int] = ..., spec: _Optional[_Union[_types_pb2.RobotSpec, _Mapping]] = ...) -> None: ...

class ControlRequest(_message.Message):
    __slots__ = ("open", "reset", "step")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    open: Open
    reset: Reset
    step: StepRequest
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., reset: _Optional[_Union[Reset, _Mapping]] = ..., step: _Optional[_Union[StepRequest, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("protocol", "client")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    client: str
    def __init__(self, protocol: _Optional[int] = ..., client: _Optional[str] = ...) -> None: ...

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

class ControlReply(_message.Message):
    __slots__ = ("frames", "opened", "observation", "step", "error")
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    frames: _containers.RepeatedCompositeFieldContainer[_types_pb2.Frame]
    opened: Opened
    observation: _types_pb2.Observation
    step: _types_pb2.Step
    error: _types_pb2.Error
    def __init__(self, frames: _Optional[_Iterable[_Union[_types_pb2.Frame, _Mapping]]] = ..., opened: _Optional[_Union[Opened, _Mapping]] = ..., observation: _Optional[_Union[_types_pb2.Observation, _Mapping]] = ..., step: _Optional[_Union[_types_pb2.Step, _Mapping]] = ..., error: _Optional[_Union[_types_pb2.Error, _Mapping]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
