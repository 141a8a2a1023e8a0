"""embodied certs: an authority, a server's and a client's certificate, and further clients; nothing is overwritten."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from embodied.bridge.address import Address
from embodied.bridge.certificates import CLIENT, SERVER, Certificate, read_authority
from embodied.bridge.credentials import ClientCredentials, ServerCredentials
from embodied.cli import main

FILES = ["authority.key", "authority.pem", "client.key", "client.pem", "server.key", "server.pem"]


def certs(folder: Path, *arguments: str) -> int:
    return main(["certs", str(folder), *arguments])


def test_it_makes_what_both_sides_need_and_says_what_goes_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "lab"
    assert certs(folder, "--host", "robot.lab", "--host", "10.0.0.5", "--host", "fd00::5", "--days", "10") == 0
    said = capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert all(name in said for name in FILES) and "for tests and labs" in said
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.key")} == {0o600}
    server = Certificate.read(folder / "server.pem", folder / "server.key", SERVER)
    assert server.names[:3] == ("robot.lab", "10.0.0.5", "FD00:0:0:0:0:0:0:5") and "localhost" in server.names
    for made in (server, *read_authority(folder / "authority.pem")):
        assert made.ends_s - time.time() == pytest.approx(10 * 86400, abs=60)
        assert made.begins_s < time.time() - 3000  # another machine's clock may be behind
    assert ServerCredentials.of(folder, None).load() is not None
    assert ClientCredentials.of(folder, None).load(Address.parse("robot.lab:1")) is not None


def test_another_client_gets_a_folder_to_take_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "lab"
    certs(folder, "--host", "robot.lab")
    assert certs(folder, "--client", "anna") == 0
    assert "copy that folder to anna's computer" in capsys.readouterr().out
    assert sorted(path.name for path in (folder / "anna").iterdir()) == ["authority.pem", "client.key", "client.pem"]
    assert (folder / "anna" / "authority.pem").read_bytes() == (folder / "authority.pem").read_bytes()
    assert Certificate.read(folder / "anna" / "client.pem", folder / "anna" / "client.key", CLIENT).names == ("anna",)


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "lab"
    certs(folder, "--host", "robot.lab")
    certs(folder, "--client", "anna")
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    capsys.readouterr()
    assert certs(folder, "--host", "other.lab") == 2
    assert "certs overwrites nothing" in capsys.readouterr().err
    assert certs(folder, "--client", "anna") == 2
    assert "anna is there already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "robot.lab:50051"], "--host takes a name or an IP address alone"),
        (["--host", "0.0.0.0"], "--host takes a name or an IP address alone"),
        (["--host", "a" * 300], "--host takes"),
        (["--client", "../anna"], "--client takes a name of letters"),
        (["--client", "anna"], "holds no authority that certs made here"),
        ([], "--host"),
        (["--host", "a", "--client", "b"], "not allowed with"),
        (["--host", "a", "--days", "0"], "must be at least 1"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert certs(tmp_path / "lab", *arguments) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_cryptography_the_package_to_install_is_named() -> None:
    program = "import sys; sys.modules['cryptography'] = None; from embodied.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "certs", "/nowhere/lab", "--host", "robot.lab"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "pip install 'embodied-runtime[certs]'" in result.stderr
