"""Who may connect, and how both sides prove who they are: TLS, certificates of clients, and a bearer token."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import grpc

from embodied.bridge.address import Address
from embodied.bridge.certificates import (
    CLIENT,
    SERVER,
    Certificate,
    CredentialsError,
    read_authority,
    read_file,
    read_token,
    require_valid,
)

AUTHORITY, AUTHORITY_KEY = "authority.pem", "authority.key"  # in a folder that `embodied certs` made


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key: PEM files."""

    certificate: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path, role: str) -> Identity:
        """Return the identity of a role, `server` or `client`, in a folder that `embodied certs` made."""
        return cls(folder / f"{role}.pem", folder / f"{role}.key")

    def load(self, role: str) -> tuple[bytes, bytes]:
        """Return key and certificate as gRPC takes them; raise CredentialsError if they cannot be used now."""
        require_valid(self.certificate, [Certificate.read(self.certificate, self.key, role)])
        return read_file(self.key), read_file(self.certificate)


@dataclass(frozen=True)
class ServerCredentials:
    """How a server proves itself and whom it lets in; with nothing given, nobody proves anything."""

    identity: Identity | None = None  # None: no TLS
    client_authority: Path | None = None  # lets in only clients with a certificate that it signed
    token: Path | None = None  # lets in only clients that say it

    @classmethod
    def of(cls, tls: Path | None, token: Path | None) -> ServerCredentials:
        """Return those of a folder made by `embodied certs`: clients need a certificate, or else the token."""
        identity = None if tls is None else Identity.in_folder(tls, SERVER)
        return cls(identity, None if tls is None or token is not None else tls / AUTHORITY, token)

    def require_enough(self, address: Address, *, insecure: bool) -> None:
        """Raise CredentialsError if other machines could reach the address and drive what it serves."""
        if self.client_authority is not None and self.identity is None:
            raise CredentialsError("certificates of clients are checked over TLS only; the server needs its own")
        if address.is_local:
            return
        if self.token is not None and self.identity is None:
            raise CredentialsError(
                f"{address} can be reached from other machines, and without TLS anyone on the way could read the token "
                f"{self.token}; add --tls DIR, made by: embodied certs DIR --host NAME"
            )
        if not insecure and (self.identity is None or (self.client_authority is None and self.token is None)):
            raise CredentialsError(
                f"{address} can be reached from other machines, and whoever reaches it could move what is served; "
                "either say --tls DIR, and only clients with a certificate are let in "
                "(embodied certs DIR --host NAME makes them); "
                "or --tls DIR --token FILE, and only those who know the token are; "
                "or --insecure, and everyone is. Else serve on 127.0.0.1 or unix:/path"
            )

    def load(self) -> grpc.ServerCredentials | None:
        """Return what gRPC listens with, None without TLS; raise CredentialsError naming the file that is unusable."""
        if self.identity is None:
            return None
        pair = self.identity.load(SERVER)
        if self.client_authority is None:
            return grpc.ssl_server_credentials([pair])
        require_valid(self.client_authority, read_authority(self.client_authority))
        return grpc.ssl_server_credentials([pair], read_file(self.client_authority), require_client_auth=True)

    def load_token(self) -> str | None:
        """Return the token that clients must say, None if none; raise CredentialsError if its file is unusable."""
        return None if self.token is None else read_token(self.token)


@dataclass(frozen=True)
class ClientCredentials:
    """How a client knows the server and proves itself; with nothing given, it speaks in the clear."""

    authority: Path | None = None  # that signed the server's certificate; None: no TLS
    identity: Identity | None = None
    token: Path | None = None

    @classmethod
    def of(cls, tls: Path | None, token: Path | None) -> ClientCredentials:
        """Return those of a folder made by `embodied certs`; beside a token the client's own certificate may lack."""
        if tls is None:
            return cls(token=token)
        identity = Identity.in_folder(tls, CLIENT)
        has_identity = token is None or identity.certificate.exists()
        return cls(tls / AUTHORITY, identity if has_identity else None, token)

    def release_command(self, address: str) -> str:
        """Return the command, to be typed as it stands, that releases the emergency stop with these credentials."""
        words = ["embodied", "stop", address]
        words += [] if self.authority is None else ["--tls", str(self.authority.parent)]
        words += [] if self.token is None else ["--token", str(self.token)]
        return shlex.join([*words, "--release"])

    def load(self, address: Address) -> grpc.ChannelCredentials | None:
        """Return what gRPC connects with, None without TLS.

        Raise CredentialsError naming the file that is unusable, or where a token would cross a network in the clear.
        """
        if self.authority is None:
            if self.identity is not None:
                raise CredentialsError(f"{self.identity.certificate} needs TLS; name the server's authority as well")
            if self.token is not None and not address.is_local:
                raise CredentialsError(
                    f"the token {self.token} is not sent to {address} in the clear, where anyone on the way could read "
                    "it; add --tls DIR"
                )
            return None
        require_valid(self.authority, read_authority(self.authority))
        key, certificate = (None, None) if self.identity is None else self.identity.load(CLIENT)
        return grpc.ssl_channel_credentials(read_file(self.authority), key, certificate)

    def load_token(self) -> str | None:
        """Return the token that goes with every call, None if none; raise CredentialsError if its file is unusable."""
        return None if self.token is None else read_token(self.token)


OPEN_SERVER = ServerCredentials()
OPEN_CLIENT = ClientCredentials()
