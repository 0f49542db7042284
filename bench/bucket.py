"""`python -m bench.bucket PORT CERTIFICATE KEY` serves one bucket behind TLS on loopback.

moto answers; the certificate is made here and vouched for by nobody else.
"""

from __future__ import annotations

import datetime
import logging
import sys
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import run_simple

from bench.shelves import BUCKET

_NAME = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])


def write_certificate(certificate: Path, key: Path) -> None:
    """Make a certificate for this machine alone."""
    private, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def main(port: str, certificate: str, key: str) -> None:
    """Serve until the process is ended."""
    write_certificate(Path(certificate), Path(key))
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(BUCKET, "us-east-1")
    app = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", int(port), app, threaded=True, ssl_context=(certificate, key))


if __name__ == "__main__":
    main(*sys.argv[1:])
