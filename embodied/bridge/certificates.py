"""Reads and judges certificates, keys and tokens before a connection does, so that an error can name the file."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from embodied.errors import EmbodiedError

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python's ssl has no name for
SERVER, CLIENT = "server", "client"  # roles
_OTHERS_READ = 0o004
_MAX_FILE_BYTES = 1024 * 1024  # of a certificate, key or token
_MIN_TOKEN, _MAX_TOKEN = 16, 1024  # characters


class CredentialsError(EmbodiedError):
    """A certificate, key or token that cannot be used; the message names its file."""


@dataclass(frozen=True)
class Certificate:
    """What a certificate says of itself."""

    names: tuple[str, ...]  # host names and IP addresses it is for; empty for an authority
    begins_s: float  # since the epoch
    ends_s: float

    @classmethod
    def read(cls, certificate: Path, key: Path, role: str) -> Certificate:
        """Read a certificate and its private key, both PEM, for one role.

        Raise CredentialsError if they are not one pair, or the certificate is for the other role alone.
        """
        require_secret(key)
        for path, word in ((certificate, "CERTIFICATE"), (key, "PRIVATE KEY")):
            if f"{word}-----".encode() not in read_file(path):
                raise CredentialsError(f"{path} is not PEM: it has no {word}")
        client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            for end in (client, server):
                end.load_cert_chain(certificate, key, password=lambda: _refuse_passphrase(key))
        except ssl.SSLError as error:
            if "MISMATCH" in (error.reason or ""):
                raise CredentialsError(f"{key} is not the key of {certificate}") from error
            raise CredentialsError(f"{certificate} or {key} is damaged: {error}") from error
        return cls.of(_speak_to_itself(client, server, certificate, role))

    @classmethod
    def of(cls, parsed: dict[str, Any]) -> Certificate:
        """Return the certificate that Python's ssl has parsed."""
        return cls(
            names=tuple(name for kind, name in parsed.get("subjectAltName", ()) if kind in ("DNS", "IP Address")),
            begins_s=ssl.cert_time_to_seconds(parsed["notBefore"]),
            ends_s=ssl.cert_time_to_seconds(parsed["notAfter"]),
        )

    def why_not_now(self) -> str:
        """Return why it is not valid at present, in words that follow its name; empty if it is valid."""
        now_s = time.time()
        if now_s > self.ends_s:
            return f"expired on {day(self.ends_s)}"
        if now_s < self.begins_s:
            return f"is not valid before {day(self.begins_s)}; is this machine's clock right?"
        return ""


def read_authority(path: Path) -> tuple[Certificate, ...]:
    """Return the certificates of the authorities in a PEM file; raise CredentialsError if there is none."""
    read_file(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise CredentialsError(f"{path} is not PEM: it has no CERTIFICATE") from error
    if not (found := tuple(map(Certificate.of, context.get_ca_certs()))):
        raise CredentialsError(f"{path} is no authority's certificate; it cannot sign others")
    return found


def require_valid(path: Path, certificates: Iterable[Certificate]) -> None:
    """Raise CredentialsError unless every certificate of the file is valid at present."""
    for certificate in certificates:
        if reason := certificate.why_not_now():
            raise CredentialsError(f"{path} {reason}")


def read_token(path: Path) -> str:
    """Return the token in a file, one line of printable ASCII that others cannot read; raise CredentialsError."""
    require_secret(path)
    content = read_file(path)
    token = content.decode("ascii", "replace").strip()
    if not (_MIN_TOKEN <= len(token) <= _MAX_TOKEN and all("!" <= c <= "~" for c in token)):
        raise CredentialsError(
            f"{path} has no token: one line of {_MIN_TOKEN} to {_MAX_TOKEN} characters of ASCII without spaces; "
            "make one with: openssl rand -hex 32"
        )
    return token


def require_secret(path: Path) -> None:
    """Raise CredentialsError if every user of this machine can read the file."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {error.strerror}") from error
    if mode & _OTHERS_READ:
        raise CredentialsError(f"{path} is secret, and every user of this machine can read it; chmod 600 {path}")


def read_file(path: Path) -> bytes:
    """Return what a credentials file holds; raise CredentialsError, naming it, if it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise CredentialsError(f"{path} is too large to be a certificate, a key or a token")
    return content


def unverified(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let a context take any certificate that it is itself given to trust, whatever its dates and names."""
    context.check_hostname = False
    context.verify_flags = ssl.VerifyFlags(_NO_CHECK_TIME) | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    return context


def day(time_s: float) -> str:
    """Return a time since the epoch as people write it."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(time_s))


def _speak_to_itself(client: ssl.SSLContext, server: ssl.SSLContext, certificate: Path, role: str) -> dict[str, Any]:
    """Return the certificate, parsed, by a handshake in memory: Python's ssl parses only a peer's."""
    for end in (client, server):
        unverified(end).verify_mode = ssl.CERT_NONE
    judge = client if role == SERVER else server
    judge.verify_mode = ssl.CERT_REQUIRED
    judge.load_verify_locations(certificate)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (near, far, near, far):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            raise CredentialsError(f"{certificate} cannot be a {role}'s: {error.verify_message}") from error
    return (near if role == SERVER else far).getpeercert() or {}


def _refuse_passphrase(key: Path) -> NoReturn:
    raise CredentialsError(f"{key} has a passphrase; a server that starts by itself cannot ask for it")
