"""A local certificate authority for tests and labs: makes what the folder given as --tls DIR holds."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from embodied.bridge.certificates import CLIENT, SERVER, CredentialsError
from embodied.bridge.credentials import AUTHORITY, AUTHORITY_KEY

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")  # a server is also reached from its own machine
CLOCK_SKEW = datetime.timedelta(hours=1)  # the other machine's clock may be behind


@dataclass(frozen=True)
class Period:
    """When a certificate is valid."""

    begins: datetime.datetime
    ends: datetime.datetime

    @classmethod
    def of_days(cls, days: int) -> Period:
        """Return so many days from now."""
        now = datetime.datetime.now(datetime.UTC)
        return cls(now - CLOCK_SKEW, now + datetime.timedelta(days=days))


@dataclass(frozen=True)
class Authority:
    """An authority's certificate and key, which sign others. Elliptic curve P-256 throughout."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, period: Period) -> Authority:
        """Make a new one."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("embodied local authority")
        usage = _usage(digital_signature=False, key_cert_sign=True, crl_sign=True)
        builder = (
            _builder(name, key, period, issuer=name, issuer_key=key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """Read the one that create made and save wrote; raise CredentialsError if it is not there."""
        try:
            certificate = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
            key = serialization.load_pem_private_key((folder / AUTHORITY_KEY).read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise CredentialsError(f"{folder} holds no authority that certs made here: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise CredentialsError(f"{folder / AUTHORITY_KEY} is not the key of {folder / AUTHORITY}")
        return cls(certificate, key)

    def save(self, folder: Path) -> None:
        """Write both files, the key for this user's eyes only."""
        _write(folder / AUTHORITY, _pem(self.certificate))
        _write(folder / AUTHORITY_KEY, _key_pem(self.key))

    def make_server(self, folder: Path, hosts: Sequence[str], period: Period) -> None:
        """Write server.pem and server.key, for a server that is reached by these names and addresses and locally."""
        names = x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys((*hosts, *LOCAL_HOSTS))])
        self._issue(folder, SERVER, _name(hosts[0]), names, period)

    def make_client(self, folder: Path, name: str, period: Period) -> None:
        """Write client.pem and client.key; name is for people."""
        self._issue(folder, CLIENT, _name(name), x509.SubjectAlternativeName([x509.DNSName(name)]), period)

    def _issue(
        self, folder: Path, role: str, subject: x509.Name, names: x509.SubjectAlternativeName, period: Period
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if role == SERVER else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(subject, key, period, issuer=self.certificate.subject, issuer_key=self.key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True, key_cert_sign=False, crl_sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(names, critical=False)
        )
        _write(folder / f"{role}.pem", _pem(builder.sign(self.key, hashes.SHA256())))
        _write(folder / f"{role}.key", _key_pem(key))


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    period: Period,
    *,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(period.begins)
        .not_valid_after(period.ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])  # X.520's limit


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, digital_signature: bool, key_cert_sign: bool, crl_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    mode = 0o600 if path.suffix == ".key" else 0o644
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
