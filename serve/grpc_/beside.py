"""Runs the gRPC server of a replica as long as that answers HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve.audit_log.decision import Hook
from serve.auth.authenticator import Authenticator
from serve.auth.settings import AuthSettings
from serve.grpc_.authorising import Authorise, anyone, loopback_only
from serve.grpc_.credentials import credentials_of, require_tls
from serve.grpc_.server import start_grpc
from serve.grpc_.service import Observe
from serve.grpc_.tokens import TokenRule
from serve.limits.settings import Limits
from serve.repository.loaded import Loaded


@asynccontextmanager
async def grpc_beside(
    loaded: Loaded,
    port: int,
    *,
    public: bool,
    auth: AuthSettings,
    observe: Observe,
    log: Hook | None,
    limits: Limits | None = None,
    behind_tls: bool = False,
) -> AsyncIterator[None]:
    """Starts the server in the running event loop, and ends it after the block.

    Args:
        loaded: the models of the replica.
        port: replicas of a machine share it.
        public: whether calls from other machines are allowed; else it listens on the loopback interface only.
        auth: who may call.
        observe: told of each call.
        log: takes what is answered, and the status of what is refused.
        limits: with the certificate of TLS; by default those of the environment.
        behind_tls: whether a program in front ends TLS.

    Raises:
        UserError: another program listens on the port, or calls of others would not be encrypted.
    """
    limits = limits or Limits.from_environment()
    require_tls(limits, port, public=public, behind_tls=behind_tls)
    rule: Authorise = TokenRule(Authenticator(auth), public=public)
    if auth.anyone:
        rule = anyone if public else loopback_only
    host = "0.0.0.0" if public else "127.0.0.1"
    server = await start_grpc(
        loaded, host, port, rule, credentials=credentials_of(limits), observe=observe, log=log, shared=True
    )
    try:
        yield
    finally:
        await server.stop()
