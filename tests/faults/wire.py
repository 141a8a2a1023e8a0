"""What the trials send by hand: steps of any numbers, heartbeats, and calls that need no lease."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

from embodied.types import PoseAction
from embodied.v1 import robot_pb2 as pb
from embodied.v1 import types_pb2
from tests.live_robot import WATCHDOG_S
from tests.raw_operator import RawOperator

FORBIDDEN = np.array([[0.0, 0.5]])  # a command that must not be carried out, if the evidence shows any of it


def step(poses: Any, *, frames: bool = False) -> pb.StepRequest:
    """Return the request to carry out poses (k, n), of floats or PoseActions, as float32."""
    rows = np.array([pose.values if isinstance(pose, PoseAction) else pose for pose in poses], "<f4")
    array = types_pb2.Array(dtype=types_pb2.DTYPE_FLOAT32, shape=rows.shape, data=rows.tobytes())
    return pb.StepRequest(actions=types_pb2.Actions(poses=array), frames=frames)


@contextmanager
def alive(operator: RawOperator) -> Iterator[None]:
    """Send the operator's heartbeats meanwhile."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(WATCHDOG_S / 5):
            operator.send(heartbeat=pb.Heartbeat())

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def unary(address: str, method: str, request: Any, timeout_s: float = 10.0) -> Any:
    """Return the reply to a call that needs no lease."""
    replies = {"Describe": pb.DescribeRobotReply, "Stop": pb.StopReply}
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(
            f"/embodied.v1.RobotService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=replies.get(method, pb.RobotStatus).FromString,
        )
        return call(request, timeout=timeout_s)


def status(address: str) -> pb.RobotStatus:
    """Return who holds the robot, and what its server counted."""
    return unary(address, "Status", pb.StatusRequest())
