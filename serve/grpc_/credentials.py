"""TLS of the gRPC server: the certificate that HTTP has, or another program in front that ends TLS."""

import re
from pathlib import Path

import grpc

from assay.errors import UserError, storage_errors
from serve.limits.settings import Limits

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----.+?-----END ([A-Z]+ )?PRIVATE KEY-----", re.DOTALL)


def require_tls(limits: Limits, port: int, *, public: bool, behind_tls: bool) -> None:
    """Refuses gRPC that would carry tokens and records in plain text through a network.

    Args:
        limits: with the certificate, if there is one.
        port: of gRPC; 0 offers none.
        public: whether it listens on other interfaces than loopback.
        behind_tls: whether a program in front ends TLS.

    Raises:
        UserError: neither ends TLS.
    """
    if port and public and not limits.certificate and not behind_tls:
        raise UserError(
            f"grpc_port={port} with public=true: calls from other machines would carry tokens and records without "
            "encryption; name certificate in ASSAY_SERVE_LIMITS, or say grpc_behind_tls=true where a proxy or a "
            "service mesh in front of this port ends TLS, or leave grpc_port out",
            setting="grpc_port",
            given=port,
        )


def credentials_of(limits: Limits) -> grpc.ServerCredentials | None:
    """Returns the certificates of TLS that the limits name.

    Args:
        limits: ``certificate`` holds certificate and key (PEM); ``client_authorities`` certificates of those who sign
            the certificates of callers.

    Returns:
        None without a certificate.

    Raises:
        UserError: a file cannot be read, or holds no certificate and key.
    """
    if not limits.certificate:
        return None
    with storage_errors(limits.certificate, setting="certificate"):
        content = Path(limits.certificate).read_bytes()
    key, chain = _KEY.search(content), b"\n".join(_CERTIFICATE.findall(content))
    if key is None or not chain:
        raise UserError(
            f"{limits.certificate!r} must hold a certificate and its private key, both as PEM",
            setting="certificate",
            given=limits.certificate,
        )
    authorities = None
    if limits.client_authorities:
        with storage_errors(limits.client_authorities, setting="client_authorities"):
            authorities = Path(limits.client_authorities).read_bytes()
    return grpc.ssl_server_credentials([(key[0], chain)], authorities, require_client_auth=authorities is not None)
