"""The gRPC server of a replica asks for the tokens of its service, and ends with the replica."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from assay.errors import UserError
from serve.auth.settings import SCOPES, AuthSettings
from serve.auth.tokens import add_token
from serve.grpc_ import open_inference_pb2 as pb
from serve.grpc_.beside import grpc_beside
from serve.grpc_.credentials import require_tls
from serve.grpc_.service import SERVICE
from serve.limits.ports import free_ports, require_free
from serve.limits.settings import Limits
from serve.repository.loaded import Loaded
from serve.repository.online import Online
from tests.serve.grpc_.calls import Loop


@pytest.mark.parametrize("anyone", [False, True])
def test_a_token_is_needed_unless_anyone_may_call(anyone: bool, tmp_path: Path, loop: Loop, online: Online) -> None:
    file, (port,) = tmp_path / "tokens.json", free_ports(1)
    token = add_token(file, "ward", scopes=SCOPES, days=None)
    auth = AuthSettings(anyone=True) if anyone else AuthSettings(tokens=str(file))
    observed: list[int] = []

    def observe(call: str, model: str, status: int, seconds: float) -> None:
        observed.append(status)

    beside = grpc_beside(Loaded([online]), port, public=False, auth=auth, observe=observe, log=None)
    loop.run(beside.__aenter__())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ready = channel.unary_unary(
            f"/{SERVICE}/ModelReady", pb.ModelReadyRequest.SerializeToString, pb.ModelReadyResponse.FromString
        )
        given = pb.ModelReadyRequest(name="standard")
        if anyone:
            assert ready(given, timeout=20).ready
        else:
            with pytest.raises(grpc.RpcError) as caught:
                ready(given, timeout=20)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert ready(given, timeout=20, metadata=[("authorization", f"Bearer {token}")]).ready
    loop.run(beside.__aexit__(None, None, None))
    require_free(port)
    assert observed == [200 if anyone else 401, 200]


def certificate(folder: Path) -> Limits:
    """A certificate for this machine with its key, in one file, as HAProxy takes it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    pem = made.add_extension(address, critical=False).sign(key, SHA256()).public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "c.pem").write_bytes(pem + private)
    (folder / "public.pem").write_bytes(pem)
    return Limits(certificate=str(folder / "c.pem"))


def test_the_certificate_of_http_is_that_of_grpc_too(tmp_path: Path, loop: Loop, online: Online) -> None:
    (port,), auth = free_ports(1), AuthSettings(anyone=True)
    about = {"auth": auth, "observe": lambda *_: None, "log": None, "limits": certificate(tmp_path)}
    beside = grpc_beside(Loaded([online]), port, public=False, **about)  # type: ignore[arg-type]
    loop.run(beside.__aenter__())
    trusted = grpc.ssl_channel_credentials((tmp_path / "public.pem").read_bytes())
    channels = grpc.secure_channel(f"127.0.0.1:{port}", trusted), grpc.insecure_channel(f"127.0.0.1:{port}")
    found = []
    for channel in channels:
        with channel:
            live = channel.unary_unary(
                f"/{SERVICE}/ServerLive", pb.ServerLiveRequest.SerializeToString, pb.ServerLiveResponse.FromString
            )
            try:
                found.append(live(pb.ServerLiveRequest(), timeout=20).live)
            except grpc.RpcError as error:
                found.append(error.code())
    loop.run(beside.__aexit__(None, None, None))
    assert found == [True, grpc.StatusCode.UNAVAILABLE]


def test_calls_of_other_machines_are_encrypted_by_somebody() -> None:
    with pytest.raises(UserError, match="without encryption; name certificate"):
        require_tls(Limits(), 8001, public=True, behind_tls=False)
    require_tls(Limits(certificate="/c.pem"), 8001, public=True, behind_tls=False)
    require_tls(Limits(), 8001, public=True, behind_tls=True)
    require_tls(Limits(), 8001, public=False, behind_tls=False)
    require_tls(Limits(), 0, public=True, behind_tls=False)
