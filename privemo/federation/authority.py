"""The certificate of one federation's server, under an authority that exists for it alone.

The authority's private key is thrown away as soon as it has signed: nobody can make a second certificate that
the stores of this federation would trust. A new certificate is a new invitation.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from privemo.errors import SettingsError

__all__ = ["Certificates", "issue"]

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_GRACE = timedelta(minutes=5)  # for clocks of stores that are behind


@dataclass(frozen=True)
class Certificates:
    """PEM texts: of the authority, of the server, and the server's private key."""

    authority: bytes
    server: bytes
    server_key: bytes


def issue(hosts: Sequence[str], *, days: int = 365) -> Certificates:
    """A certificate for a server that is reached under these names and addresses.

    Args:
        hosts: DNS names and IP addresses; the first names the certificate.
        days: how long it holds.

    Raises:
        SettingsError: no host, one that is no name or address, or no time.
    """
    if not hosts or days < 1:
        raise SettingsError("A certificate names at least one host, and holds for a day at least.")
    names = [_general_name(host) for host in hosts]
    begin = datetime.now(UTC) - _GRACE
    end = begin + timedelta(days=days) + _GRACE
    root_key, server_key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    root_name, server_name = _common_name("privemo federation"), _common_name(hosts[0][:64])
    root_id = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    root = (
        _builder(root_name, root_name, root_key, begin, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(root_id, critical=False)
        .sign(root_key, hashes.SHA384())
    )
    server = (
        _builder(server_name, root_name, server_key, begin, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id), critical=False
        )
        .sign(root_key, hashes.SHA384())
    )
    pem = serialization.Encoding.PEM
    return Certificates(
        authority=root.public_bytes(pem),
        server=server.public_bytes(pem),
        server_key=server_key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise SettingsError(f"{host!r} is neither a host's name nor an address.")
    return x509.DNSName(host)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
