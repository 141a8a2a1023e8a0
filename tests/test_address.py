"""Addresses: what may be served on, what is refused, and why."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from embodied.bridge.address import Address
from embodied.bridge.robot_server import serve_robot
from embodied.errors import EmbodiedError
from tests.dummy_robot import DummyRobot


@pytest.mark.parametrize("text", ["127.0.0.1:50051", "localhost:1", "[::1]:50051", "unix:/tmp/robot"])
def test_an_address_reads_back_as_it_was_written(text: str) -> None:
    assert str(Address.parse(text)) == text
    assert Address.parse(text).is_local


@pytest.mark.parametrize("text", ["", "robot", ":50051", "host:", "host:port", "host:65536", "host:-1", "unix:", "h:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(EmbodiedError, match="is no address; give host:port or unix:/path"):
        Address.parse(text)


@pytest.mark.parametrize(
    "text", ["0.0.0.0:0", "[::]:0", "192.168.1.4:50051", "robot.local:50051", "127.0.0.1.example:1"]
)
def test_what_other_machines_can_reach_is_refused_unless_insecure(text: str) -> None:
    with pytest.raises(EmbodiedError, match=r"can be reached from other machines.*--tls DIR.*--token FILE.*--insecure"):
        serve_robot(DummyRobot, text)


def test_insecure_serves_other_machines() -> None:
    with serve_robot(DummyRobot, "0.0.0.0:0", insecure=True) as server:
        assert server.address.startswith("0.0.0.0:")


def test_a_port_in_use_is_named() -> None:
    with serve_robot(DummyRobot) as server:
        port = server.address.rpartition(":")[2]
        with pytest.raises(EmbodiedError, match=f"port {port} of 127.0.0.1 is in use; choose another"):
            serve_robot(DummyRobot, server.address)


def test_a_unix_socket_in_use_is_not_taken_away(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/robot"
    with serve_robot(DummyRobot, address), pytest.raises(EmbodiedError, match="is in use by another server"):
        serve_robot(DummyRobot, address)


def test_a_path_that_is_a_file_or_has_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(EmbodiedError, match="is a file, not a socket"):
        serve_robot(DummyRobot, f"unix:{tmp_path}/notes")
    assert (tmp_path / "notes").read_text() == "mine"
    with pytest.raises(EmbodiedError, match="nowhere is no folder"):
        serve_robot(DummyRobot, f"unix:{tmp_path}/nowhere/robot")
    with pytest.raises(EmbodiedError, match="at most 107 bytes"):
        serve_robot(DummyRobot, f"unix:{tmp_path}/{'r' * 108}")


def test_the_socket_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/robot"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{tmp_path}/robot")
    with serve_robot(DummyRobot, address) as server:
        assert server.address == address


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises(EmbodiedError, match=r"192\.0\.2\.1:50051 cannot be listened on: Cannot assign"):
        serve_robot(DummyRobot, "192.0.2.1:50051", insecure=True)
