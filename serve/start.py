"""Runs the service of a repository on this machine: one application with everything, and others for what is slow."""

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import ray
from ray import serve
from ray.serve import RunTarget
from ray.serve import status as serve_status

from assay.cluster.session import lost_processes, start_ray_here
from assay.errors import UserError
from serve.app import TIMEOUT, application
from serve.auth.environment import environment
from serve.auth.settings import AuthSettings
from serve.auth.tokens import start_token
from serve.limits.settings import Limits
from serve.limits.taken import require_free
from serve.repository.entries import Repository
from serve.settings import Serving, absolute

FRONT = "assay"
"""The application that answers everything for which no other one runs."""
APART = ("explain", "certify")
"""Calls that have deployments of their own behind HAProxy, so that they do not delay predictions."""
_CPUS = 256
_PER_SECOND = 2000
"""Calls a second of one token on this machine."""
_MOST_THREADS = 4
"""Greatest number of threads of HAProxy."""
_BURST = 128
"""Calls that a replica behind HAProxy lets wait. HAProxy bounds the queue; Ray counts each call of a burst as waiting
until the event loop has reached it, and would refuse some that have a place."""
QUICK = {
    # Else each call crosses two event loops in two threads, which costs more than the prediction of a small network.
    # What takes long runs in threads of its own (``Batcher``).
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    # Ray gives processes that compute the lowest priority but four; those that answer callers keep the usual one.
    "RAY_worker_niceness": "0",
    "RAY_SERVE_HAPROXY_NBTHREAD": str(min(os.cpu_count() or 1, _MOST_THREADS)),
}
"""Environment variables of Ray for services, used unless the user has set them."""
STEADY = {
    # Ray replaces HAProxy, or the actor that runs it, after three checks in a row that failed; by default in 30 s.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
    # By default it takes HAProxy 5 s to ask a replica again that has answered so far.
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "2s",
}
"""Environment variables of Ray by which what has died is found and replaced, used unless the user has set them."""
_EVERY = 1.0
_PORT_WITHIN = 15.0
"""Seconds in which what remains of a service that died gives its port back."""


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
    tokens: str = "tokens.json"
    """File of the tokens of those who may call."""
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
            model=model,
            port=self.port,
            threads=self.threads,
            gpus=self.gpus,
            replicas=self.slow_replicas if model else self.replicas,
            **({"queued": _BURST} if self.apart else {}),
        )


def start(service: Service, limits: Limits) -> str:
    """Starts Ray, its proxy and all applications of a repository.

    Args:
        service: the settings.
        limits: of the proxy.

    Returns:
        The token of this start, with which everything may be called.

    Raises:
        UserError: the port is taken, or Ray does not start.
    """
    require_free(service.port)
    token = start_token(service.tokens)
    _run(service, limits)
    return token


def _run(service: Service, limits: Limits) -> None:
    """Starts Ray, its proxy and all applications; whoever has a token of the file may call."""
    auth = AuthSettings(tokens=absolute(service.tokens), per_second=_PER_SECOND, burst=2 * _PER_SECOND)
    folder = Path(tempfile.mkdtemp(prefix="assay-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(environment(limits, auth, folder=folder, haproxy=service.apart))
    for name, value in (QUICK | STEADY).items():
        os.environ.setdefault(name, value)
    # On one machine, reserving CPUs would only keep a model waiting that was asked for.
    start_ray_here(namespace="serve", log_to_driver=False, num_cpus=_CPUS)
    options = {"host": "127.0.0.1", "port": service.port, "request_timeout_s": TIMEOUT}
    serve.start(proxy_location="HeadOnly", http_options=options)
    serve.run_many([RunTarget(application(service.settings()), name=FRONT, route_prefix="/"), *_apart(service)])


def stop() -> None:
    """Ends all applications, the proxy and Ray; running calls are answered first."""
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
    served = set(repository.names())
    while True:
        time.sleep(_EVERY)
        if lost := lost_processes():
            say(f"Ray's {' and '.join(lost)} has ended; everything starts again")
            _run_again(service, limits)
            say("ready again, with the same address and tokens")
            served = set(repository.names())
        now = set(repository.names())
        if now == served:
            continue
        for name in sorted(served - now):
            for kind in APART:
                if (app := f"{name}-{kind}") in serve_status().applications:
                    serve.delete(app)
            say(f"{name} is no longer served")
        if service.apart and now - served:
            serve.run_many(_apart(replace(service), only=now - served))
        for name in sorted(now - served):
            say(f"{name} is served")
        served = now


def _run_again(service: Service, limits: Limits) -> None:
    """Ends what is left of a service whose head has died, and starts it again."""
    # Not ``serve.shutdown``, which would ask the head.
    ray.shutdown()
    serve.context._set_global_client(None)
    give_up = time.monotonic() + _PORT_WITHIN
    while True:
        try:
            require_free(service.port)
            break
        except UserError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.2)
    _run(service, limits)


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
