from embodied.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribePolicyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribePolicyReply(_message.Message):
    __slots__ = ("protocol", "name", "spec", "chunk", "origin")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    name: str
    spec: _types_pb2.RobotSpec
    chunk: int
    origin: _types_pb2.Origin
    def __init__(self, protocol: _Optional[int] = ..., name: _Optional[str] = ..., spec: _Optional[_Union[_types_pb2.RobotSpec, _Mapping]] = ..., chunk: _Optional[int] = ..., origin: _Optional[_Union[_types_pb2.Origin, _Mapping]] = ...) -> None: ...

class ActRequest(_message.Message):
    __slots__ = ("sequence", "frames", "within_ns", "begin", "observation")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    WITHIN_NS_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    frames: _containers.RepeatedCompositeFieldContainer[_types_pb2.Frame]
    within_ns: int
    begin: Begin
    observation: _types_pb2.Observation
    def __init__(self, sequence: _Optional[int] = ..., frames: _Optional[_Iterable[_Union[_types_pb2.Frame, _Mapping]]] = ..., within_ns: _Optional[int] = ..., begin: _Optional[_Union[Begin, _Mapping]] = ..., observation: _Optional[_Union[_types_pb2.Observation, _Mapping]] = ...) -> None: ...

class Begin(_message.Message):
    __slots__ = ("instruction", "spec", "frames", "protocol")
    INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    instruction: str
    spec: _types_pb2.RobotSpec
    frames: _types_pb2.FrameOffer
    protocol: int
    def __init__(self, instruction: _Optional[str] = ..., spec: _Optional[_Union[_types_pb2.RobotSpec, _Mapping]] = ..., frames: _Optional[_Union[_types_pb2.FrameOffer, _Mapping]] = ..., protocol: _Optional[int] = ...) -> None: ...

class ActReply(_message.Message):
    __slots__ = ("timing", "sequence", "begun", "actions", "error")
    TIMING_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    timing: ServerTiming
    sequence: int
    begun: Begun
    actions: _types_pb2.Actions
    error: _types_pb2.Error
    def __init__(self, timing: _Optional[_Union[ServerTiming, _Mapping]] = ..., sequence: _Optional[int] = ..., begun: _Optional[_Union[Begun, _Mapping]] = ..., actions: _Optional[_Union[_types_pb2.Actions, _Mapping]] = ..., error: _Optional[_Union[_types_pb2.Error, _Mapping]] = ...) -> None: ...

class Begun(_message.Message):
    __slots__ = ("frames",)
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    frames: _types_pb2.FrameChoice
    def __init__(self, frames: _Optional[_Union[_types_pb2.FrameChoice, _Mapping]] = ...) -> None: ...

class ServerTiming(_message.Message):
    __slots__ = ("work_ns", "queue_ns", "batch")
    WORK_NS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    work_ns: int
    queue_ns: int
    batch: int
    def __init__(self, work_ns: _Optional[int] = ..., queue_ns: _Optional[int] = ..., batch: _Optional[int] = ...) -> None: ...
