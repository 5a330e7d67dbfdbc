"""Runs the service of a repository on this machine: one application with everything, and others for what is slow."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import ray
from ray import serve
from ray.serve import RunTarget
from ray.serve import status as serve_status

from assay.cluster.session import lost_processes
from assay.errors import UserError
from serve.app import application
from serve.audit_log.retention import DAYS
from serve.auth.settings import VARIABLE, AuthSettings, chosen_auth
from serve.limits.settings import Limits
from serve.local import BURST, start_again, start_local
from serve.repository.entries import Repository
from serve.settings import Serving

FRONT = "assay"
"""The application that answers everything for which no other one runs."""
APART = ("explain", "certify")
"""Calls that have deployments of their own behind HAProxy, so that they do not delay predictions."""
_PER_SECOND = 2000
"""Calls a second of one token on this machine, unless the environment says who may call and how often."""
_EVERY = 1.0


@dataclass(frozen=True, kw_only=True)
class Service:
    """Settings of a service on this machine."""

    repository: str
    port: int = 8000
    threads: int = 1
    gpus: float = 0.0
    replicas: int = 1
    """Of the application that predicts."""
    slow_replicas: int = 1
    """Of each application that explains or certifies."""
    log: str = "none"
    """Folder of the decision log, or ``none``."""
    log_days: int = DAYS
    """Days after which files of the log are deleted."""
    log_full: Literal["refuse", "continue"] = "refuse"
    """What happens to calls where the log cannot be written."""
    tokens: str | None = None
    """File of the tokens of those who may call, with its full path; ``none`` asks for no token; None where the
    environment says who may call."""
    grpc_port: int = 0
    """Of gRPC; 0 offers none."""
    apart: bool = True
    """Whether explanations and certificates have applications of their own, behind HAProxy. Else one application
    answers everything, behind Ray's Python proxy."""

    def settings(self, model: str = "") -> Serving:
        """Returns the settings of an application.

        Args:
            model: its only model; all of the repository by default.
        """
        return Serving(
            repository=self.repository,
            log=self.log,
            log_days=self.log_days,
            log_full=self.log_full,
            model=model,
            port=self.port,
            threads=self.threads,
            gpus=self.gpus,
            replicas=self.slow_replicas if model else self.replicas,
            grpc_port=0 if model else self.grpc_port,
            **({"queued": BURST} if self.apart else {}),
        )

    @property
    def auth(self) -> AuthSettings:
        """Who may call."""
        chosen = chosen_auth(self.tokens)
        if VARIABLE in os.environ:
            return chosen
        return replace(chosen, per_second=_PER_SECOND, burst=2 * _PER_SECOND)


def start(service: Service, limits: Limits) -> str:
    """Starts Ray, its proxy and all applications of a repository.

    Args:
        service: the settings.
        limits: of the proxy.

    Returns:
        The address of the page, with the token of this start, with which everything may be called.

    Raises:
        UserError: a port is taken, or Ray does not start.
    """
    address = start_local(
        service.port, auth=service.auth, limits=limits, haproxy=service.apart, grpc_port=service.grpc_port
    )
    _run(service)
    return address


def _run(service: Service) -> None:
    """Runs all applications."""
    serve.run_many([RunTarget(application(service.settings()), name=FRONT, route_prefix="/"), *_apart(service)])


def stop() -> None:
    """Ends all applications, the proxy and Ray; running calls are answered first."""
    # After a failed new start there is nothing to end, and ``serve.shutdown`` would start Ray to look for it.
    if ray.is_initialized():
        serve.shutdown()
        ray.shutdown()


def keep(service: Service, limits: Limits, say: Callable[[str], None]) -> None:
    """Starts and ends applications as names come and go in the repository, until interrupted.

    Ray replaces replicas, proxies and the controller that died. If a process of Ray's head dies, everything starts
    again, with the same settings and tokens.

    Args:
        service: the settings.
        limits: of the proxy.
        say: shows a message.

    Raises:
        UserError: the service does not start again.
    """
    repository = Repository(service.repository)
    served, trouble = set(repository.names()), ""
    while True:
        time.sleep(_EVERY)
        if lost := lost_processes():
            say(f"Ray's {' and '.join(lost)} has ended; everything starts again")
            start_again(service.port, auth=service.auth, limits=limits, haproxy=service.apart)
            _run(service)
            say("ready again, with the same address and tokens")
            served = set(repository.names())
        try:
            now = set(repository.names())
        except (UserError, OSError) as error:
            # Replicas go on with what they have loaded.
            if str(error) != trouble:
                say(f"the repository cannot be read; what is loaded answers: {error}")
            trouble = str(error)
            continue
        trouble = ""
        if now == served:
            continue
        for name in sorted(served - now):
            for kind in APART:
                if (app := f"{name}-{kind}") in serve_status().applications:
                    serve.delete(app)
            say(f"{name} is no longer served")
        if service.apart and now - served:
            serve.run_many(_apart(service, only=now - served))
        for name in sorted(now - served):
            say(f"{name} is served")
        served = now


def _apart(service: Service, only: set[str] | None = None) -> list[RunTarget]:
    """Returns the applications of what is slow, two for each model."""
    if not service.apart:
        return []
    names = [name for name in Repository(service.repository).names() if only is None or name in only]
    return [
        RunTarget(application(service.settings(name)), name=f"{name}-{kind}", route_prefix=f"/models/{name}/{kind}")
        for name in names
        for kind in APART
    ]


def require_models(repository: Repository, location: str) -> None:
    """Raises an error if a repository is empty.

    Args:
        repository: that is to be served.
        location: of it, for the message.

    Raises:
        UserError: it has no model.
    """
    if not repository.names():
        raise UserError(
            f"{location} has no model yet; add one: python -m jobs.serve load NAME --results RESULTS "
            f"--repository {location}",
            setting="--repository",
            given=location,
        )
