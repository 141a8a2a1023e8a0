"""Finds out why a connection fails: gRPC says only that it does, so the same is tried by hand, step by step."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from enum import Enum

from embodied.bridge.address import Address
from embodied.bridge.certificates import Certificate, unverified
from embodied.bridge.credentials import ClientCredentials

TIMEOUT_S = 2.0  # for each step
_SETTINGS = b"\4"  # the type of the frame with which both ends of HTTP/2 begin (RFC 9113)
_FRAME_HEAD_BYTES = 9
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + b"\0\0\0\0\0"
_EXPIRED, _NOT_YET = 10, 9  # X509_V_ERR_* of OpenSSL
_UNKNOWN_AUTHORITY = (18, 19, 20, 21)
_OTHER_NAME = (62, 64)  # hostname and IP address mismatch


@dataclass(frozen=True)
class Trouble:
    """Why there is no connection."""

    words: str
    may_pass: bool = False  # by waiting: the server may be starting


class _Speech(Enum):
    """What a server says at the beginning of a connection."""

    HTTP2 = "HTTP/2"
    NOTHING = "nothing"
    END = "the end of the connection"
    OTHER = "something else"


def find_trouble(address: Address, credentials: ClientCredentials) -> Trouble | None:
    """Say why a client with these credentials has no connection to the address; None if a connection works.

    Takes as long as the far side lets it, at most a few TIMEOUT_S.
    """
    try:
        with _connect(address) as plain:
            if credentials.authority is None:
                return _plain_trouble(address, plain)
            return _tls_trouble(address, plain, credentials)
    except OSError as error:
        return _no_connection(address, error)


def _no_connection(address: Address, error: OSError) -> Trouble:
    match error:
        case socket.gaierror():
            return Trouble(f"there is no host called {address.host!r}")
        case ConnectionRefusedError() | FileNotFoundError():
            return Trouble("nobody listens there; is the server running?", may_pass=True)
        case TimeoutError():
            return Trouble("no answer at all; is the machine up, and may its port be reached?", may_pass=True)
        case ConnectionError():
            return Trouble("it closes the connection", may_pass=True)
    return Trouble(error.strerror or str(error))


def _plain_trouble(address: Address, plain: socket.socket) -> Trouble | None:
    if (speech := _listen(plain)) is _Speech.HTTP2:
        return None
    if _shown_certificate(address, ClientCredentials()) is not None:
        return Trouble("it speaks TLS, and this client does not; say --tls DIR")
    return _no_grpc(speech)


def _tls_trouble(address: Address, plain: socket.socket, credentials: ClientCredentials) -> Trouble | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # as gRPC
    context.load_verify_locations(credentials.authority)
    try:
        secure = _handshake(context, plain, address, credentials)
    except ssl.SSLCertVerificationError as error:
        return Trouble(_about_certificate(address, error, credentials))
    except TimeoutError:
        return _no_grpc(_Speech.NOTHING)
    except (ssl.SSLError, ConnectionError):
        return _no_tls(address)
    with secure:
        speech = _listen(secure)
    if speech is _Speech.HTTP2:
        return None
    # With TLS 1.3 a client's handshake is over before the server has judged its certificate; gRPC's just hangs up then.
    return _not_let_in(credentials) if speech is _Speech.END else _no_grpc(speech)


def _about_certificate(address: Address, error: ssl.SSLCertVerificationError, credentials: ClientCredentials) -> str:
    shown = _shown_certificate(address, credentials)
    if error.verify_code in (_EXPIRED, _NOT_YET) and shown is not None:
        return f"its certificate {shown.why_not_now()}"
    if error.verify_code in _OTHER_NAME and shown is not None:
        return f"its certificate is for {', '.join(shown.names)}, and not for {address.host!r}"
    if error.verify_code in _UNKNOWN_AUTHORITY:
        return f"its certificate is not signed by {credentials.authority}"
    return f"its certificate is not accepted: {error.verify_message}"


def _not_let_in(credentials: ClientCredentials) -> Trouble:
    if credentials.identity is None:
        return Trouble(
            "it lets in only clients with a certificate; the folder of --tls needs client.pem and client.key"
        )
    return Trouble(
        f"it does not accept {credentials.identity.certificate}: not signed by the authority that it trusts, or not "
        "valid by its clock"
    )


def _no_tls(address: Address) -> Trouble:
    with _connect(address) as plain:
        speech = _listen(plain)
    if speech is _Speech.HTTP2:
        return Trouble("it does not speak TLS; start it with --tls DIR, or leave --tls out here")
    return _no_grpc(speech)


def _no_grpc(speech: _Speech) -> Trouble:
    match speech:
        case _Speech.NOTHING:
            return Trouble("something listens there and says nothing; it may be starting", may_pass=True)
        case _Speech.END:
            return Trouble("something listens there and hangs up", may_pass=True)
    return Trouble("what listens there speaks no gRPC")


def _connect(address: Address) -> socket.socket:
    if not address.path:
        return socket.create_connection((address.host, address.port), TIMEOUT_S)
    plain = socket.socket(socket.AF_UNIX)
    plain.settimeout(TIMEOUT_S)
    try:
        plain.connect(address.path)
    except OSError:
        plain.close()
        raise
    return plain


def _handshake(
    context: ssl.SSLContext, plain: socket.socket, address: Address, credentials: ClientCredentials
) -> ssl.SSLSocket:
    context.set_alpn_protocols(["h2"])
    if credentials.identity is not None:
        context.load_cert_chain(credentials.identity.certificate, credentials.identity.key)
    return context.wrap_socket(plain, server_hostname=address.host or "localhost")  # for a unix socket, as gRPC


def _listen(connection: socket.socket) -> _Speech:
    """Hear how the server begins: some wait until they have heard the client's beginning."""
    for said, timeout_s in ((b"", TIMEOUT_S / 4), (_PREFACE, TIMEOUT_S)):
        connection.settimeout(timeout_s)
        try:
            connection.sendall(said)
            heard = connection.recv(_FRAME_HEAD_BYTES)
        except TimeoutError:
            continue
        except OSError:
            return _Speech.END
        if not heard:
            return _Speech.END
        return _Speech.HTTP2 if heard[3:4] == _SETTINGS else _Speech.OTHER
    return _Speech.NOTHING


def _shown_certificate(address: Address, credentials: ClientCredentials) -> Certificate | None:
    """Return the certificate that the server shows, whatever it is worth; None if it shows none."""
    try:
        anyone = unverified(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        anyone.verify_mode = ssl.CERT_NONE
        with _connect(address) as plain, _handshake(anyone, plain, address, credentials) as secure:
            shown = secure.getpeercert(binary_form=True) or b""
        # Python's ssl parses only a certificate that it trusts: trust this one, and ask again.
        itself = unverified(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        itself.load_verify_locations(cadata=shown)
        with _connect(address) as plain, _handshake(itself, plain, address, credentials) as secure:
            return Certificate.of(secure.getpeercert() or {})
    except OSError:
        return None
