"""A server that is frozen with its connections open: whoever waits for it is told soon, and one that is slow is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from embodied.bridge import lockstep
from embodied.bridge.address import PROTOCOL
from embodied.bridge.policy_client import RemotePolicy
from embodied.bridge.robot_client import RemoteRobot
from embodied.errors import ProtocolError
from embodied.types import Observation
from embodied.v1 import policy_pb2 as pb
from tests.faults.evidence import wait_until
from tests.faults.processes import host, process
from tests.faults.trials import Table
from tests.faults.wire import status
from tests.live_robot import SPEC, sweep

REPLY_TIMEOUT_S = 60.0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockstep, "SILENT_S", 0.2)
    monkeypatch.setattr(lockstep, "ANSWER_S", 2.0)


def test_an_operator_is_told_that_the_robots_server_hangs(impatient: None, tmp_path: Path, table: Table) -> None:
    with host(tmp_path, "--realtime") as live, RemoteRobot(live.address, reply_timeout_s=REPLY_TIMEOUT_S) as robot:
        robot.reset(0, "sweep")
        live.send(signal.SIGSTOP)
        frozen_s = time.monotonic()
        with pytest.raises(ProtocolError, match=f"robot server at {live.address} answers nothing any more: it hangs"):
            robot.step(*sweep(SPEC.control_hz, 0, 3))
        told_s = time.monotonic() - frozen_s
        with pytest.raises(ProtocolError, match="reconnect"):
            robot.step(*sweep(SPEC.control_hz, 3, 3))
        assert told_s < REPLY_TIMEOUT_S / 2
        live.send(signal.SIGCONT)
        wait_until(lambda: not status(live.address).holder)
        live.evidence.check()
    table.add("server SIGSTOP", "until the client is told, of 2.2 s, ms", [told_s * 1e3])


def test_whoever_asks_a_policy_is_told_that_its_server_hangs(impatient: None) -> None:
    with (
        process("-m", "embodied", "serve", "policies.hold", "--address", "127.0.0.1:0") as server,
        RemotePolicy(server.line().split(" on ")[-1], reply_timeout_s=REPLY_TIMEOUT_S) as policy,
    ):
        policy.reset("wait", SPEC)
        server.send(signal.SIGSTOP)
        with pytest.raises(ProtocolError, match="answers nothing any more"):
            policy.act(Observation(0, {}, np.zeros(len(SPEC.state), np.float32), "wait"))


def test_a_chunk_that_takes_its_time_is_no_hang(impatient: None, tmp_path: Path) -> None:
    with host(tmp_path, "--realtime") as live, RemoteRobot(live.address) as robot:
        robot.reset(0, "sweep")
        step = robot.step(*sweep(SPEC.control_hz, 0, 30))  # 3 s, so that it is asked for many times
        assert step.executed == 30


def test_ctrl_c_ends_a_rollout_whose_robots_server_is_frozen(tmp_path: Path, table: Table) -> None:
    arguments = ["--policy", "policies.hold", "--task", "sweep", "--episodes", "1", "--max-steps", "100000"]
    arguments += ["--videos", "0", "--out", str(tmp_path / "out")]
    with host(tmp_path, "--realtime") as live:
        command = [sys.executable, "-m", "embodied", "rollout", "--robot", live.address, *arguments]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as rollout:
            try:
                wait_until(lambda: bool(live.evidence.read(1).size), 30)
                live.send(signal.SIGSTOP)
                asked_s = time.monotonic()
                os.killpg(rollout.pid, signal.SIGINT)
                assert rollout.wait(60) == 130
                took_s = time.monotonic() - asked_s
                assert took_s < 13  # the worker is given 5 s, and not the 15 of one that closes its own robot
            finally:
                if rollout.poll() is None:
                    os.killpg(rollout.pid, signal.SIGKILL)
    table.add("server SIGSTOP", "until Ctrl-C ends its rollout, ms", [took_s * 1e3])


def test_a_server_that_replies_but_does_not_say_that_it_lives_is_no_hang(impatient: None) -> None:
    def describe(request: bytes, context: grpc.ServicerContext) -> bytes:
        if described.is_set():
            over.wait(30)
        described.set()
        return pb.DescribePolicyReply(protocol=PROTOCOL, name="mute").SerializeToString()

    def act(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for number, _ in enumerate(requests, 1):
            time.sleep(0.5)
            yield pb.ActReply(sequence=number, begun=pb.Begun()).SerializeToString()

    described, over = threading.Event(), threading.Event()
    handlers = {
        "Describe": grpc.unary_unary_rpc_method_handler(describe),
        "Act": grpc.stream_stream_rpc_method_handler(act),
    }
    server = grpc.server(ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("embodied.v1.PolicyService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with RemotePolicy(f"127.0.0.1:{port}") as policy:
        for _ in range(8):  # twice as long as it is given to say so
            policy.reset("wait", SPEC)
    over.set()
    server.stop(None).wait()
