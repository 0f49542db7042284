"""A certificate authority for one sandbox: it stands in for the hosts that are told secrets.

It lives in the brain, knows no other names, and ends with the sandbox.
"""

from __future__ import annotations

import functools
import ssl
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_BEFORE = timedelta(days=1)
"""Clocks differ between machines."""

_LASTS = timedelta(days=9)
"""No job lasts longer than a week."""

_Extension = tuple[x509.ExtensionType, bool]


class Authority:
    """Says for some hosts, to those who trust it, that the proxy is them.

    Args:
        hosts: Their names.
    """

    def __init__(self, hosts: Sequence[str]) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "FlowForge sandbox")])
        names = [x509.DNSName(host) for host in hosts]
        extensions: list[_Extension] = [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (x509.NameConstraints(permitted_subtrees=names, excluded_subtrees=None), True),
            (_usage(signs_others=True), True),
            (x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), False),
        ]
        self._own = self._sign(self._name, self._key, extensions)

    @property
    def certificate(self) -> str:
        """Its own certificate, PEM."""
        return _pem(self._own).decode()

    @functools.lru_cache  # noqa: B019 - it ends with the sandbox, as this does
    def stand_in(self, host: str) -> ssl.SSLContext:
        """What a server that stands in for a host needs."""
        key = ec.generate_private_key(ec.SECP256R1())
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        extensions: list[_Extension] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.SubjectAlternativeName([x509.DNSName(host)]), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (_usage(signs_others=False), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (by, False),
        ]
        certificate = self._sign(x509.Name([]), key, extensions)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        with tempfile.NamedTemporaryFile(prefix="flowforge-") as file:
            file.write(_pem(certificate) + _pem_of_key(key))
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extensions: list[_Extension]
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BEFORE)
            .not_valid_after(now + _LASTS)
        )
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(self._key, hashes.SHA256())


def _usage(*, signs_others: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_others,
        key_cert_sign=signs_others,
        crl_sign=signs_others,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
