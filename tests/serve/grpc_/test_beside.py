"""The gRPC server of a replica asks for the tokens of its service, and ends with the replica."""

from pathlib import Path

import grpc
import pytest

from serve.auth.settings import SCOPES, AuthSettings
from serve.auth.tokens import add_token
from serve.grpc_ import open_inference_pb2 as pb
from serve.grpc_.beside import grpc_beside
from serve.grpc_.service import SERVICE
from serve.limits.taken import free_ports, require_free
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
