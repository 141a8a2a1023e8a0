from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    DTYPE_UINT8: _ClassVar[DType]
    DTYPE_INT32: _ClassVar[DType]
    DTYPE_INT64: _ClassVar[DType]
    DTYPE_FLOAT32: _ClassVar[DType]
    DTYPE_FLOAT64: _ClassVar[DType]
    DTYPE_BOOL: _ClassVar[DType]

class FrameEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FRAME_ENCODING_UNSPECIFIED: _ClassVar[FrameEncoding]
    FRAME_ENCODING_RAW: _ClassVar[FrameEncoding]
    FRAME_ENCODING_JPEG: _ClassVar[FrameEncoding]
    FRAME_ENCODING_SHARED: _ClassVar[FrameEncoding]

class ErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_CODE_UNSPECIFIED: _ClassVar[ErrorCode]
    ERROR_CODE_UNKNOWN_NAME: _ClassVar[ErrorCode]
    ERROR_CODE_SPEC_MISMATCH: _ClassVar[ErrorCode]
    ERROR_CODE_INVALID_OBSERVATION: _ClassVar[ErrorCode]
    ERROR_CODE_INVALID_ACTION: _ClassVar[ErrorCode]
    ERROR_CODE_INVALID_INSTRUCTION: _ClassVar[ErrorCode]
    ERROR_CODE_PROTOCOL: _ClassVar[ErrorCode]
    ERROR_CODE_REFUSED: _ClassVar[ErrorCode]
    ERROR_CODE_INTERNAL: _ClassVar[ErrorCode]
    ERROR_CODE_STOPPED: _ClassVar[ErrorCode]
    ERROR_CODE_LATE: _ClassVar[ErrorCode]
DTYPE_UNSPECIFIED: DType
DTYPE_UINT8: DType
DTYPE_INT32: DType
DTYPE_INT64: DType
DTYPE_FLOAT32: DType
DTYPE_FLOAT64: DType
DTYPE_BOOL: DType
FRAME_ENCODING_UNSPECIFIED: FrameEncoding
FRAME_ENCODING_RAW: FrameEncoding
FRAME_ENCODING_JPEG: FrameEncoding
FRAME_ENCODING_SHARED: FrameEncoding
ERROR_CODE_UNSPECIFIED: ErrorCode
ERROR_CODE_UNKNOWN_NAME: ErrorCode
ERROR_CODE_SPEC_MISMATCH: ErrorCode
ERROR_CODE_INVALID_OBSERVATION: ErrorCode
ERROR_CODE_INVALID_ACTION: ErrorCode
ERROR_CODE_INVALID_INSTRUCTION: ErrorCode
ERROR_CODE_PROTOCOL: ErrorCode
ERROR_CODE_REFUSED: ErrorCode
ERROR_CODE_INTERNAL: ErrorCode
ERROR_CODE_STOPPED: ErrorCode
ERROR_CODE_LATE: ErrorCode

class Array(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Field(_message.Message):
    __slots__ = ("name", "unit", "low", "high", "mode")
    class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MODE_UNSPECIFIED: _ClassVar[Field.Mode]
        MODE_ABSOLUTE: _ClassVar[Field.Mode]
        MODE_DELTA: _ClassVar[Field.Mode]
    MODE_UNSPECIFIED: Field.Mode
    MODE_ABSOLUTE: Field.Mode
    MODE_DELTA: Field.Mode
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    name: str
    unit: str
    low: float
    high: float
    mode: Field.Mode
    def __init__(self, name: _Optional[str] = ..., unit: _Optional[str] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., mode: _Optional[_Union[Field.Mode, str]] = ...) -> None: ...

class Camera(_message.Message):
    __slots__ = ("name", "height", "width", "fovy_deg")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    FOVY_DEG_FIELD_NUMBER: _ClassVar[int]
    name: str
    height: int
    width: int
    fovy_deg: float
    def __init__(self, name: _Optional[str] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., fovy_deg: _Optional[float] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("velocity", "acceleration", "workspace")
    VELOCITY_FIELD_NUMBER: _ClassVar[int]
    ACCELERATION_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_FIELD_NUMBER: _ClassVar[int]
    velocity: _containers.RepeatedScalarFieldContainer[float]
    acceleration: _containers.RepeatedScalarFieldContainer[float]
    workspace: Box
    def __init__(self, velocity: _Optional[_Iterable[float]] = ..., acceleration: _Optional[_Iterable[float]] = ..., workspace: _Optional[_Union[Box, _Mapping]] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: _containers.RepeatedScalarFieldContainer[float]
    high: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, low: _Optional[_Iterable[float]] = ..., high: _Optional[_Iterable[float]] = ...) -> None: ...

class RobotSpec(_message.Message):
    __slots__ = ("name", "control_hz", "cameras", "state", "action", "skills", "tasks", "watchdog_s", "version", "limits", "realtime", "tiers")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTROL_HZ_FIELD_NUMBER: _ClassVar[int]
    CAMERAS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SKILLS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    WATCHDOG_S_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    REALTIME_FIELD_NUMBER: _ClassVar[int]
    TIERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    control_hz: float
    cameras: _containers.RepeatedCompositeFieldContainer[Camera]
    state: _containers.RepeatedCompositeFieldContainer[Field]
    action: _containers.RepeatedCompositeFieldContainer[Field]
    skills: _containers.RepeatedScalarFieldContainer[str]
    tasks: _containers.RepeatedScalarFieldContainer[str]
    watchdog_s: float
    version: str
    limits: Limits
    realtime: bool
    tiers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., control_hz: _Optional[float] = ..., cameras: _Optional[_Iterable[_Union[Camera, _Mapping]]] = ..., state: _Optional[_Iterable[_Union[Field, _Mapping]]] = ..., action: _Optional[_Iterable[_Union[Field, _Mapping]]] = ..., skills: _Optional[_Iterable[str]] = ..., tasks: _Optional[_Iterable[str]] = ..., watchdog_s: _Optional[float] = ..., version: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., realtime: bool = ..., tiers: _Optional[_Iterable[str]] = ...) -> None: ...

class Origin(_message.Message):
    __slots__ = ("module", "options", "checkpoint_sha256", "versions")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODULE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_SHA256_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    module: str
    options: str
    checkpoint_sha256: str
    versions: _containers.ScalarMap[str, str]
    def __init__(self, module: _Optional[str] = ..., options: _Optional[str] = ..., checkpoint_sha256: _Optional[str] = ..., versions: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("camera", "raw", "jpeg", "shared")
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    JPEG_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    camera: str
    raw: Array
    jpeg: Jpeg
    shared: SharedFrame
    def __init__(self, camera: _Optional[str] = ..., raw: _Optional[_Union[Array, _Mapping]] = ..., jpeg: _Optional[_Union[Jpeg, _Mapping]] = ..., shared: _Optional[_Union[SharedFrame, _Mapping]] = ...) -> None: ...

class Jpeg(_message.Message):
    __slots__ = ("height", "width", "data")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    data: bytes
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SharedFrame(_message.Message):
    __slots__ = ("offset", "height", "width")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    offset: int
    height: int
    width: int
    def __init__(self, offset: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class FrameOffer(_message.Message):
    __slots__ = ("encodings", "jpeg_quality", "shared")
    ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    JPEG_QUALITY_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    encodings: _containers.RepeatedScalarFieldContainer[FrameEncoding]
    jpeg_quality: int
    shared: SharedMemory
    def __init__(self, encodings: _Optional[_Iterable[_Union[FrameEncoding, str]]] = ..., jpeg_quality: _Optional[int] = ..., shared: _Optional[_Union[SharedMemory, _Mapping]] = ...) -> None: ...

class SharedMemory(_message.Message):
    __slots__ = ("pid", "descriptor", "size", "nonce")
    PID_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    pid: int
    descriptor: int
    size: int
    nonce: bytes
    def __init__(self, pid: _Optional[int] = ..., descriptor: _Optional[int] = ..., size: _Optional[int] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class FrameChoice(_message.Message):
    __slots__ = ("encoding",)
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    encoding: FrameEncoding
    def __init__(self, encoding: _Optional[_Union[FrameEncoding, str]] = ...) -> None: ...

class Observation(_message.Message):
    __slots__ = ("time_ns", "state", "instruction")
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    time_ns: int
    state: Array
    instruction: str
    def __init__(self, time_ns: _Optional[int] = ..., state: _Optional[_Union[Array, _Mapping]] = ..., instruction: _Optional[str] = ...) -> None: ...

class SkillArgument(_message.Message):
    __slots__ = ("number", "text")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    number: float
    text: str
    def __init__(self, number: _Optional[float] = ..., text: _Optional[str] = ...) -> None: ...

class SkillCall(_message.Message):
    __slots__ = ("name", "arguments")
    class ArgumentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: SkillArgument
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[SkillArgument, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    arguments: _containers.MessageMap[str, SkillArgument]
    def __init__(self, name: _Optional[str] = ..., arguments: _Optional[_Mapping[str, SkillArgument]] = ...) -> None: ...

class Action(_message.Message):
    __slots__ = ("pose", "text", "skill")
    POSE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SKILL_FIELD_NUMBER: _ClassVar[int]
    pose: Array
    text: str
    skill: SkillCall
    def __init__(self, pose: _Optional[_Union[Array, _Mapping]] = ..., text: _Optional[str] = ..., skill: _Optional[_Union[SkillCall, _Mapping]] = ...) -> None: ...

class Actions(_message.Message):
    __slots__ = ("poses", "mixed")
    POSES_FIELD_NUMBER: _ClassVar[int]
    MIXED_FIELD_NUMBER: _ClassVar[int]
    poses: Array
    mixed: _containers.RepeatedCompositeFieldContainer[Action]
    def __init__(self, poses: _Optional[_Union[Array, _Mapping]] = ..., mixed: _Optional[_Iterable[_Union[Action, _Mapping]]] = ...) -> None: ...

class Intervention(_message.Message):
    __slots__ = ("kind", "field", "requested", "applied")
    KIND_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    kind: str
    field: str
    requested: float
    applied: float
    def __init__(self, kind: _Optional[str] = ..., field: _Optional[str] = ..., requested: _Optional[float] = ..., applied: _Optional[float] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("observation", "reward", "success", "terminated", "truncated", "executed", "interventions", "labels", "dropped", "timing_ns", "faults", "health")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Array
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Array, _Mapping]] = ...) -> None: ...
    class TimingNsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class HealthEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    TERMINATED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    EXECUTED_FIELD_NUMBER: _ClassVar[int]
    INTERVENTIONS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    TIMING_NS_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    observation: Observation
    reward: float
    success: bool
    terminated: bool
    truncated: bool
    executed: int
    interventions: _containers.RepeatedCompositeFieldContainer[Intervention]
    labels: _containers.MessageMap[str, Array]
    dropped: int
    timing_ns: _containers.ScalarMap[str, int]
    faults: _containers.RepeatedCompositeFieldContainer[Fault]
    health: _containers.ScalarMap[str, float]
    def __init__(self, observation: _Optional[_Union[Observation, _Mapping]] = ..., reward: _Optional[float] = ..., success: bool = ..., terminated: bool = ..., truncated: bool = ..., executed: _Optional[int] = ..., interventions: _Optional[_Iterable[_Union[Intervention, _Mapping]]] = ..., labels: _Optional[_Mapping[str, Array]] = ..., dropped: _Optional[int] = ..., timing_ns: _Optional[_Mapping[str, int]] = ..., faults: _Optional[_Iterable[_Union[Fault, _Mapping]]] = ..., health: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Fault(_message.Message):
    __slots__ = ("part", "kind", "detail")
    PART_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    part: str
    kind: str
    detail: str
    def __init__(self, part: _Optional[str] = ..., kind: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    message: str
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., message: _Optional[str] = ...) -> None: ...
