"""Security: who is let in, what either end says to who is not, and that no input ends or blocks a server."""

from __future__ import annotations

import logging
import os
import queue
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from embodied.bridge.admission import MAX_WAITING
from embodied.bridge.audience import MAX_WATCHERS
from embodied.bridge.certificates import CLIENT, SERVER
from embodied.bridge.channel import open_channel
from embodied.bridge.credentials import OPEN_CLIENT, OPEN_SERVER, ClientCredentials, Identity, ServerCredentials
from embodied.bridge.emergency import stop_button
from embodied.bridge.policy_client import RemotePolicy
from embodied.bridge.policy_server import serve_policy
from embodied.bridge.robot_client import RemoteRobot
from embodied.bridge.robot_server import MAX_STREAMS, SPARE_THREADS, RobotServer, serve_robot
from embodied.bridge.watcher import watch_robot
from embodied.cli import main
from embodied.errors import EmbodiedError, ProtocolError
from embodied.types import Action, Observation, PoseAction, RobotSpec, Step
from embodied.v1 import robot_pb2 as pb
from policies.hold import HoldPolicy
from tests.certificates import PAST, make_folder
from tests.dummy_robot import DummyRobot
from tests.toy_world import make as make_toy

SERVICE = "/embodied.v1.RobotService"
AT_ONCE_S = 4.0  # far below any time-out that would hide the reason


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the good folder `tls`, `other` of another authority, `expired` of the same one, and two tokens."""
    root = tmp_path_factory.mktemp("credentials")
    authority = make_folder(root / "tls")
    make_folder(root / "other")
    make_folder(root / "expired", authority=authority, server=PAST, client=PAST)
    for name in ("token", "wrong"):
        (root / name).write_text(f"{name}-" * 8)
        (root / name).chmod(0o600)
    return root


def server_of(root: Path, kind: str) -> ServerCredentials:
    return {
        "plain": OPEN_SERVER,
        "mutual": ServerCredentials.of(root / "tls", None),
        "tls and token": ServerCredentials.of(root / "tls", root / "token"),
        "token": ServerCredentials(token=root / "token"),
    }[kind]


def client_of(root: Path, kind: str) -> ClientCredentials:
    authority = root / "tls" / "authority.pem"
    return {
        "plain": OPEN_CLIENT,
        "mutual": ClientCredentials.of(root / "tls", None),
        "tls alone": ClientCredentials(authority),
        "tls and token": ClientCredentials(authority, token=root / "token"),
        "tls and wrong token": ClientCredentials(authority, token=root / "wrong"),
        "token": ClientCredentials(token=root / "token"),
        "wrong token": ClientCredentials(token=root / "wrong"),
        "of another authority": ClientCredentials.of(root / "other", None),
        "certificate of another authority": ClientCredentials(authority, Identity.in_folder(root / "other", CLIENT)),
    }[kind]


LET_IN = [("plain", "plain"), ("mutual", "mutual"), ("tls and token", "tls and token"), ("token", "token")]
NO_TLS = "it does not speak TLS; start it with --tls DIR, or leave --tls out here"
TLS = "it speaks TLS, and this client does not; say --tls DIR"
NO_CERTIFICATE = "it lets in only clients with a certificate"
WRONG_TOKEN = r"refused: the token in .*wrong is not its own \(the token given is not this server's\)"
NO_TOKEN = r"refused: it wants a token; say --token FILE \(this server lets in only those who give its token"
KEPT_OUT = [
    ("plain", "mutual", NO_TLS),
    ("plain", "tls alone", NO_TLS),
    ("token", "tls and token", NO_TLS),
    ("token", "plain", NO_TOKEN),
    ("token", "wrong token", WRONG_TOKEN),
    ("mutual", "plain", TLS),
    ("mutual", "token", TLS),
    ("mutual", "tls alone", NO_CERTIFICATE),
    ("mutual", "tls and token", NO_CERTIFICATE),
    ("mutual", "of another authority", r"its certificate is not signed by .*other/authority\.pem"),
    ("mutual", "certificate of another authority", r"it does not accept .*other/client\.pem: not signed by the auth"),
    ("tls and token", "plain", TLS),
    ("tls and token", "token", TLS),
    ("tls and token", "tls alone", NO_TOKEN),
    ("tls and token", "mutual", NO_TOKEN),
    ("tls and token", "tls and wrong token", WRONG_TOKEN),
]


@contextmanager
def served(credentials: ServerCredentials = OPEN_SERVER, address: str = "127.0.0.1:0") -> Iterator[RobotServer]:
    """Serve a dummy robot, and find it still well at the end."""
    with serve_robot(DummyRobot, address, credentials=credentials) as server:
        yield server


@pytest.mark.parametrize(("server_kind", "client_kind"), LET_IN)
def test_who_has_the_credentials_drives_watches_and_stops(root: Path, server_kind: str, client_kind: str) -> None:
    credentials = client_of(root, client_kind)
    with served(server_of(root, server_kind)) as server:
        with RemoteRobot(server.address, credentials=credentials) as robot:
            robot.reset(0, "wait")
            assert robot.step(PoseAction(np.zeros(3, np.float32))).executed == 1
        with watch_robot(server.address, credentials=credentials) as watch:
            next(watch)
        with stop_button(server.address, credentials=credentials) as button:
            assert button.press().stopped and not button.release().stopped
    with (
        serve_policy(HoldPolicy, credentials=server_of(root, server_kind)) as policies,
        RemotePolicy(policies.address, credentials=credentials) as policy,
    ):
        assert policy.description.name == "policy"


@pytest.mark.parametrize(("server_kind", "client_kind", "said"), KEPT_OUT)
def test_who_has_not_is_told_at_once_what_is_wrong(root: Path, server_kind: str, client_kind: str, said: str) -> None:
    with served(server_of(root, server_kind)) as server:
        began_s = time.monotonic()
        with pytest.raises(ProtocolError, match=f"robot server at {server.address} .*{said}"):
            RemoteRobot(server.address, credentials=client_of(root, client_kind))
        assert time.monotonic() - began_s < AT_ONCE_S
        RemoteRobot(server.address, credentials=client_of(root, server_kind)).close()


@contextmanager
def anyones_server(identity: Identity) -> Iterator[str]:
    """Serve nothing with a certificate that ours would refuse to serve with."""
    server = grpc.server(None)
    pair = (identity.key.read_bytes(), identity.certificate.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_server_whose_certificate_expired_is_told_with_the_date(root: Path) -> None:
    said = f"its certificate expired on {PAST.ends:%Y-%m-%d %H:%M} UTC"
    with (
        anyones_server(Identity.in_folder(root / "expired", SERVER)) as address,
        pytest.raises(ProtocolError, match=said),
    ):
        RemoteRobot(address, credentials=client_of(root, "mutual"))


def test_a_client_whose_certificate_expired_is_kept_out(root: Path) -> None:
    expired = Identity.in_folder(root / "expired", CLIENT)
    pem = ((root / "tls/authority.pem").read_bytes(), expired.key.read_bytes(), expired.certificate.read_bytes())
    with served(server_of(root, "mutual")) as server:
        with grpc.secure_channel(server.address, grpc.ssl_channel_credentials(*pem)) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(f"{SERVICE}/Status")(b"", timeout=AT_ONCE_S)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(EmbodiedError, match=r"expired/client\.pem expired on"):
            RemoteRobot(server.address, credentials=ClientCredentials.of(root / "expired", None))
        RemoteRobot(server.address, credentials=client_of(root, "mutual")).close()


def test_a_server_by_another_name_is_told_with_the_names_it_has(root: Path) -> None:
    with served(server_of(root, "mutual"), "0.0.0.0:0") as server:
        port = server.address.rpartition(":")[2]
        said = r"its certificate is for robot\.lab, localhost, 127\.0\.0\.1, .*and not for '127\.0\.0\.2'"
        with pytest.raises(ProtocolError, match=said):
            RemoteRobot(f"127.0.0.2:{port}", credentials=client_of(root, "mutual"))
        RemoteRobot(f"localhost:{port}", credentials=client_of(root, "mutual")).close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", "what listens there speaks no gRPC"),
        (None, "something listens there and says nothing"),
        (b"", "something listens there and hangs up"),
    ],
)
@pytest.mark.parametrize("client_kind", ["plain", "mutual"])
def test_what_is_no_server_of_ours_is_told(root: Path, client_kind: str, answer: bytes | None, said: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def answer_all() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(answer or b"")
                    connection.shutdown(socket.SHUT_WR)

        if answer is not None:
            threading.Thread(target=answer_all, daemon=True).start()
        with pytest.raises(ProtocolError, match=said):
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            RemoteRobot(address, credentials=client_of(root, client_kind), connect_timeout_s=0.5)
        listener.shutdown(socket.SHUT_RDWR)


def test_a_host_that_does_not_exist_is_told() -> None:
    with pytest.raises(ProtocolError, match=r"there is no host called 'robot\.invalid'"):
        RemoteRobot("robot.invalid:50051")


def test_a_client_waits_for_a_server_that_is_still_starting(tmp_path: Path) -> None:
    address, servers = f"unix:{tmp_path}/robot", list[RobotServer]()
    starting = threading.Timer(0.5, lambda: servers.append(serve_robot(DummyRobot, address)))
    starting.start()
    with RemoteRobot(address) as robot:
        assert robot.spec.name == "dummy"
    starting.join()
    servers[0].stop()


def test_the_token_is_asked_of_every_method(root: Path) -> None:
    methods = [f"{SERVICE}/{method.name}" for method in pb.DESCRIPTOR.services_by_name["RobotService"].methods]
    methods += [f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch")]
    methods += [f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")]
    methods += [f"{SERVICE}/NoSuchMethod"]
    with served(server_of(root, "token")) as server, grpc.insecure_channel(server.address) as channel:
        for metadata in ((), (("authorization", "Bearer wrong"),), (("authorization", "token-" * 8),)):
            for method in methods:
                with pytest.raises(grpc.RpcError) as refused:
                    list(channel.stream_stream(method)(iter([b""]), metadata=metadata, timeout=10))
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED, method


def test_the_emergency_stop_needs_the_token_and_no_lease(root: Path) -> None:
    with (
        served(server_of(root, "token")) as server,
        RemoteRobot(server.address, credentials=client_of(root, "token")) as robot,
    ):
        robot.reset(0, "wait")
        with stop_button(server.address) as stranger, pytest.raises(ProtocolError, match="it wants a token"):
            stranger.press()
        robot.step(PoseAction(np.zeros(3, np.float32)))
        with stop_button(server.address, credentials=client_of(root, "token")) as button:
            assert button.press().stopped


@pytest.mark.parametrize("kind", ["mutual", "tls and token", "token"])
def test_the_command_line_drives_and_stops_with_the_same_files(
    root: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [] if kind == "token" else ["--tls", str(root / "tls")]
    options += [] if kind == "mutual" else ["--token", str(root / "token")]
    credentials = server_of(root, kind)
    with (
        serve_robot(make_toy, credentials=credentials) as robot,
        serve_policy(HoldPolicy, credentials=credentials) as policy,
    ):
        rollout = ["rollout", "--robot", robot.address, "--policy", policy.address, "--task", "reach", "--videos", "0"]
        rollout += ["--episodes", "1", "--max-steps", "3", "--out", str(tmp_path / "out")]
        assert main([*rollout, *options]) == 0
        assert main(["stop", robot.address, *options]) == 0
        assert main(["stop", robot.address, *options, "--status"]) == 1
        capsys.readouterr()
        assert main(["stop", robot.address, "--release"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and ("--tls DIR" in said or "--token FILE" in said)


def test_a_stranger_is_logged_once_and_no_token_ever(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with served(server_of(root, "token")) as server:
        for _ in range(5):
            with stop_button(server.address, credentials=client_of(root, "wrong token")) as button:
                for _ in range(3):
                    with pytest.raises(ProtocolError, match="is not its own"):
                        button.press()
    said = [record.getMessage() for record in caplog.records if record.name.startswith("embodied")]
    assert len([line for line in said if "refused" in line and "127.0.0.1" in line]) == 1
    assert "wrong-wrong" not in caplog.text and "token-token" not in caplog.text


@pytest.mark.parametrize("path", [f"{SERVICE}/Explode", "/embodied.v1.NoService/Describe", "/", "/a", "//"])
def test_what_no_server_offers_is_unimplemented(path: str) -> None:
    with served() as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(path)(b"", timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        RemoteRobot(server.address).close()


def http2_frame(kind: int, payload: bytes, *, flags: int = 0, stream: int = 0) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def garbage(seed: int) -> bytes:
    """Return what nobody should send: noise, other protocols, HTTP/2 gone wrong, TLS gone wrong."""
    noise = random.Random(seed)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    return [
        noise.randbytes(4096),
        b"GET / HTTP/1.1\r\nHost: robot\r\n\r\n",
        preface + noise.randbytes(4096),
        preface + http2_frame(4, b"") + http2_frame(1, noise.randbytes(200), flags=4, stream=1),
        preface + http2_frame(4, b"") + http2_frame(0, b"\xff" * 100, stream=7),
        preface + b"\xff" * 9,
        b"\x16\x03\x01\x02\x00" + noise.randbytes(512),
        b"\x80" * 65536,
    ][seed % 8]


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def hosted(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `embodied host` with the dummy robot; yield it with the address it serves."""
    command = [sys.executable, "-m", "embodied", "host", "tests.dummy_robot", "--address", "127.0.0.1:0", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=Path(__file__).parents[1]) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.kill()


def say(address: str, what: bytes) -> None:
    """Send bytes, whatever they are, and wait until the server hangs up."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.settimeout(20)
        with suppress(OSError):  # it may hang up before all is said
            connection.sendall(what)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass


@pytest.mark.parametrize("kind", ["plain", "mutual"])
def test_garbage_on_the_port_harms_nobody(root: Path, kind: str) -> None:
    credentials, arguments = client_of(root, kind), () if kind == "plain" else ("--tls", str(root / "tls"))
    with hosted(*arguments) as (process, address), RemoteRobot(address, credentials=credentials) as robot:
        robot.reset(0, "wait")
        for seed in range(8):
            say(address, garbage(seed))
        before = rss_bytes(process.pid)
        for seed in range(200):
            say(address, garbage(seed))
        assert robot.step(PoseAction(np.zeros(3, np.float32))).executed == 1
        assert rss_bytes(process.pid) - before < 32 * 2**20
        process.terminate()
        assert process.communicate(timeout=20)[1] == ""  # gRPC's core is silent unless GRPC_VERBOSITY says otherwise


def test_metadata_over_the_cap_is_refused() -> None:
    with served() as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"{SERVICE}/Status")(b"", metadata=(("x", "y" * 100_000),), timeout=10)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        RemoteRobot(server.address).close()


def test_a_flood_is_refused_and_the_emergency_stop_heard() -> None:
    threads = MAX_STREAMS + MAX_WATCHERS + SPARE_THREADS
    never = queue.SimpleQueue[bytes | None]()
    with served() as server, grpc.insecure_channel(server.address) as channel:
        # Calls that never send their request hold a thread each, then a place in the queue.
        begin = channel.stream_unary(f"{SERVICE}/Describe")
        half_said = [begin.future(iter(never.get, None), timeout=60) for _ in range(threads + MAX_WAITING + 20)]
        done = threading.Semaphore(0)
        for call in half_said:
            call.add_done_callback(lambda _: done.release())
        for _ in range(20):
            assert done.acquire(timeout=20)
        refused = [call for call in half_said if call.done()]
        assert {call.code() for call in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        with stop_button(server.address) as button:
            began_s = time.monotonic()
            assert button.press().stopped
            assert time.monotonic() - began_s < AT_ONCE_S
        for call in half_said:
            call.cancel()
        for _ in half_said:
            never.put(None)
        wait_until(lambda: can_describe(server.address))


def test_calls_that_never_say_what_they_ask_do_not_silence_the_emergency_stop() -> None:
    never = queue.SimpleQueue[bytes | None]()
    with served() as server, grpc.insecure_channel(server.address) as channel:
        half_said = [
            channel.stream_unary(f"{SERVICE}/{method}").future(iter(never.get, None), timeout=60)
            for method in ("EmergencyStop", "ReleaseEmergencyStop", "Stop", "Status") * 10
        ]
        with stop_button(server.address) as button:
            assert button.press().stopped
        for call in half_said:
            assert isinstance(call.exception(timeout=20), grpc.RpcError)
            never.put(None)
        with stop_button(server.address) as button:
            assert button.status().stopped  # nor did any of them count as asked


def test_a_request_that_is_none_of_its_type_is_refused() -> None:
    with served() as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(f"{SERVICE}/EmergencyStop")(b"\xff" * 40, timeout=10)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with stop_button(server.address) as button:
            assert not button.status().stopped


def can_describe(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(f"{SERVICE}/Describe")(b"", timeout=1)
        except grpc.RpcError:
            return False
        return True


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came about"


class SecretiveRobot(DummyRobot):
    """A robot whose failures would tell where its code lies, were their tracebacks sent."""

    mended = threading.Event()

    def reset(self, seed: int, task: str) -> Observation:
        if task == "wait":
            return super().reset(seed, task)
        raise KeyError("calibration")

    def step(self, *actions: Action, frames: bool = True) -> Step:
        raise ValueError("the gripper fell off")

    def stop(self) -> None:
        if not self.mended.is_set():
            raise RuntimeError("no brake")


class SecretivePolicy:
    """A policy that fails."""

    def reset(self, instruction: str, spec: RobotSpec) -> None:
        raise ZeroDivisionError("no statistics")

    def act(self, observation: Observation) -> list[Action]:
        raise AssertionError("reset fails")


def test_errors_to_clients_carry_no_traceback() -> None:
    said = list[str]()

    def note(call: Callable[[], object]) -> None:
        with pytest.raises(EmbodiedError) as failed:
            call()
        said.append(str(failed.value))

    with serve_robot(SecretiveRobot) as server, RemoteRobot(server.address) as robot:
        note(lambda: robot.reset(0, "reach"))
        robot.reset(0, "wait")
        note(lambda: robot.step(PoseAction(np.zeros(3, np.float32))))
        note(robot.stop)
        with stop_button(server.address) as button:
            note(button.press)
        spec = robot.spec
        SecretiveRobot.mended.set()
    with serve_policy(SecretivePolicy) as server, RemotePolicy(server.address) as policy:
        note(lambda: policy.reset("reach", spec))
    assert "the gripper fell off" in said[1] and "no statistics" in said[4]
    for words in said:
        assert not re.search(r"Traceback|File \"|\.py|line \d|/work|/home|/tests", words), words
        assert "\n" not in words


def test_a_unix_socket_is_this_users_alone(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        with served(address=f"unix:{tmp_path}/robot") as server:
            assert (tmp_path / "robot").stat().st_mode & 0o777 == 0o600
            RemoteRobot(server.address).close()
        assert os.umask(0) == 0  # as it was
    finally:
        os.umask(mask)


def test_a_socket_in_a_folder_that_every_user_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(EmbodiedError, match=r"every user may write to .*open.*chmod o-w"):
        serve_robot(DummyRobot, f"unix:{tmp_path}/open/robot")
    (tmp_path / "open").chmod(0o1777)  # as /tmp: nobody may remove another's socket
    with served(address=f"unix:{tmp_path}/open/robot") as server:
        RemoteRobot(server.address).close()


@pytest.mark.slow
def test_a_connection_that_says_nothing_is_closed(root: Path) -> None:
    for kind in ("plain", "mutual"):
        with served(server_of(root, kind)) as server:
            host, _, port = server.address.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=30) as silent:
                while silent.recv(4096):
                    pass


def test_any_client_finds_health_and_reflection_through_the_token(root: Path) -> None:
    credentials = client_of(root, "tls and token")
    listing = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    with (
        served(server_of(root, "tls and token")) as server,
        closing(open_channel(server.address, credentials)) as channel,
    ):
        health = channel.unary_unary("/grpc.health.v1.Health/Check")(b"")
        assert health_pb2.HealthCheckResponse.FromString(health).status == health_pb2.HealthCheckResponse.SERVING
        replies = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")(iter([listing]))
        assert b"embodied.v1.RobotService" in next(replies)
