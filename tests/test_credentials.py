"""Credentials: what is unusable is refused before anything connects, in words that name the file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from embodied.bridge.address import Address
from embodied.bridge.certificates import CLIENT, SERVER, CredentialsError
from embodied.bridge.credentials import ClientCredentials, Identity, ServerCredentials
from tests.certificates import FUTURE, PAST, make_folder

LOCAL, ELSEWHERE = Address.parse("127.0.0.1:50051"), Address.parse("0.0.0.0:50051")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_folder(tmp_path / "tls")
    return tmp_path / "tls"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    return write_token(tmp_path / "token", "0123456789abcdef" * 4 + "\n")


def write_token(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_folder_of_embodied_certs_is_enough_for_either_side(folder: Path, token: Path) -> None:
    mutual = ServerCredentials.of(folder, None)
    assert mutual.client_authority == folder / "authority.pem" and mutual.load() is not None
    assert ClientCredentials.of(folder, None).load(ELSEWHERE) is not None
    by_token = ServerCredentials.of(folder, token)
    assert by_token.client_authority is None and by_token.load_token() == "0123456789abcdef" * 4
    assert ClientCredentials.of(folder, token).identity == Identity.in_folder(folder, CLIENT)


def test_beside_a_token_a_client_needs_no_certificate_of_its_own(folder: Path, token: Path) -> None:
    (folder / "client.pem").unlink()
    assert ClientCredentials.of(folder, token).identity is None
    with pytest.raises(CredentialsError, match=r"client\.key|client\.pem"):
        (folder / "client.key").unlink()
        ClientCredentials.of(folder, None).load(LOCAL)


@pytest.mark.parametrize(
    ("insecure", "tls", "with_token", "refused"),
    [
        (False, False, False, "--tls DIR.*--tls DIR --token FILE.*--insecure"),
        (False, False, True, "anyone on the way could read the token"),
        (True, False, True, "anyone on the way could read the token"),
        (True, False, False, None),
        (False, True, False, None),
        (False, True, True, None),
    ],
)
def test_beyond_this_machine_a_server_needs_tls_and_to_know_its_clients(
    folder: Path, token: Path, insecure: bool, tls: bool, with_token: bool, refused: str | None
) -> None:
    credentials = ServerCredentials.of(folder if tls else None, token if with_token else None)
    credentials.require_enough(LOCAL, insecure=False)
    credentials.require_enough(Address.parse("unix:/tmp/robot"), insecure=False)
    if refused is None:
        credentials.require_enough(ELSEWHERE, insecure=insecure)
        return
    with pytest.raises(CredentialsError, match=f"{re.escape(str(ELSEWHERE))} can be reached.*{refused}"):
        credentials.require_enough(ELSEWHERE, insecure=insecure)


def test_encryption_alone_is_not_enough_beyond_this_machine(folder: Path) -> None:
    with pytest.raises(CredentialsError, match="whoever reaches it could move"):
        ServerCredentials(Identity.in_folder(folder, SERVER)).require_enough(ELSEWHERE, insecure=False)


def test_a_client_sends_its_token_to_no_other_machine_in_the_clear(token: Path) -> None:
    assert ClientCredentials(token=token).load(LOCAL) is None
    with pytest.raises(CredentialsError, match=r"not sent to robot\.lab:50051 in the clear.*add --tls DIR"):
        ClientCredentials(token=token).load(Address.parse("robot.lab:50051"))


def test_certificates_of_clients_without_tls_are_a_contradiction(folder: Path) -> None:
    with pytest.raises(CredentialsError, match="over TLS only"):
        ServerCredentials(client_authority=folder / "authority.pem").require_enough(LOCAL, insecure=False)
    with pytest.raises(CredentialsError, match="needs TLS"):
        ClientCredentials(identity=Identity.in_folder(folder, CLIENT)).load(LOCAL)


@pytest.mark.parametrize("name", ["server.pem", "server.key", "authority.pem"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CredentialsError, match=rf"{name} cannot be read: No such file"):
        ServerCredentials.of(folder, None).load()


@pytest.mark.parametrize("name", ["server.pem", "server.key", "authority.pem"])
def test_a_file_that_is_not_pem_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\x00\xffnot a certificate")
    with pytest.raises(CredentialsError, match=f"{name} is not PEM"):
        ServerCredentials.of(folder, None).load()


@pytest.mark.parametrize("name", ["server.pem", "server.key"])
def test_a_damaged_file_is_named(folder: Path, name: str) -> None:
    lines = (folder / name).read_text().splitlines(keepends=True)
    (folder / name).write_text("".join([lines[0], lines[1][:20] + "\n", *lines[2:]]))
    with pytest.raises(CredentialsError, match=f"{name}.*is damaged"):
        ServerCredentials.of(folder, None).load()


def test_the_key_of_another_certificate_is_named(folder: Path) -> None:
    (folder / "client.key").replace(folder / "server.key")
    with pytest.raises(CredentialsError, match=r"server\.key is not the key of .*server\.pem"):
        ServerCredentials.of(folder, None).load()


def test_a_certificate_for_the_other_role_is_refused(folder: Path) -> None:
    with pytest.raises(CredentialsError, match=r"client\.pem cannot be a server's: unsuitable certificate purpose"):
        ServerCredentials(Identity.in_folder(folder, CLIENT)).load()
    with pytest.raises(CredentialsError, match=r"server\.pem cannot be a client's"):
        ClientCredentials(folder / "authority.pem", Identity.in_folder(folder, SERVER)).load(LOCAL)


def test_a_certificate_that_signs_no_others_is_no_authority(folder: Path) -> None:
    with pytest.raises(CredentialsError, match=r"client\.pem is no authority's certificate"):
        ClientCredentials(folder / "client.pem").load(LOCAL)


def test_certificates_out_of_their_time_are_refused_with_the_date(tmp_path: Path) -> None:
    make_folder(tmp_path / "past", server=PAST, client=PAST)
    make_folder(tmp_path / "future", server=FUTURE, client=FUTURE)
    with pytest.raises(CredentialsError, match=rf"server\.pem expired on {PAST.ends:%Y-%m-%d %H:%M} UTC"):
        ServerCredentials.of(tmp_path / "past", None).load()
    with pytest.raises(CredentialsError, match=rf"client\.pem is not valid before {FUTURE.begins:%Y-%m-%d %H:%M} UTC"):
        ClientCredentials.of(tmp_path / "future", None).load(LOCAL)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666])
def test_a_secret_that_every_user_can_read_is_refused(folder: Path, token: Path, mode: int) -> None:
    (folder / "server.key").chmod(mode)
    with pytest.raises(CredentialsError, match=r"every user of this machine can read it; chmod 600 .*server\.key"):
        ServerCredentials.of(folder, None).load()
    token.chmod(mode)
    with pytest.raises(CredentialsError, match=r"chmod 600 .*token"):
        ServerCredentials(token=token).load_token()


def test_a_secret_may_be_shared_with_a_group(folder: Path, token: Path) -> None:
    (folder / "server.key").chmod(0o640)
    token.chmod(0o640)
    assert ServerCredentials.of(folder, token).load() is not None


@pytest.mark.parametrize("text", ["", "short", "two words " * 3, "ü" * 32, "a" * 16 + "\n" + "b" * 16, "x" * 2000])
def test_what_is_no_token_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(CredentialsError, match="openssl rand -hex 32") as refused:
        ServerCredentials(token=write_token(tmp_path / "token", text)).load_token()
    assert not text or text not in str(refused.value)


def test_a_key_with_a_passphrase_is_refused_instead_of_asking(folder: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((folder / "server.key").read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"sesame")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    (folder / "server.key").write_bytes(pem)
    with pytest.raises(CredentialsError, match=r"server\.key has a passphrase"):
        ServerCredentials.of(folder, None).load()


def test_a_huge_file_is_not_read_whole(folder: Path) -> None:
    with (folder / "server.pem").open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(CredentialsError, match=r"server\.pem is too large"):
        ServerCredentials.of(folder, None).load()
