"""Ray and Serve on this machine, on the loopback interface only, with the limits and the tokens of the service."""

import atexit
import os
import shutil
import tempfile
import time
from pathlib import Path

import ray
from ray import serve

from assay.cluster.session import start_ray_here
from assay.errors import UserError
from serve.auth.environment import environment
from serve.auth.settings import AuthSettings
from serve.auth.tokens import start_token
from serve.limits.ports import require_free
from serve.limits.settings import Limits

TIMEOUT = 60.0
"""Seconds after which a call is cancelled."""
CPUS = 256
"""That Ray is told of. On one machine, reserving CPUs would only keep a model waiting that was asked for."""
BURST = 128
"""Calls that a replica behind HAProxy lets wait. HAProxy bounds the queue; Ray counts each call of a burst as waiting
until the event loop has reached it, and would refuse some that have a place."""
_MOST_THREADS = 4
"""Greatest number of threads of HAProxy."""
QUICK = {
    # Else each call crosses two event loops in two threads, which costs more than the prediction of a small network.
    # What takes long runs in threads of its own (``Batcher``).
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    # Ray gives processes that compute the lowest priority but four; those that answer callers keep the usual one.
    "RAY_worker_niceness": "0",
}
"""Environment variables of Ray for services, used unless the user has set them."""
STEADY = {
    # Ray replaces HAProxy, or the actor that runs it, after three checks in a row that failed; by default in 30 s.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "2",
    # By default it takes HAProxy 5 s to ask a replica again that has answered so far.
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "2s",
}
"""Environment variables of Ray by which what has died is found and replaced, used unless the user has set them."""
_PORT_WITHIN = 15.0
"""Seconds in which what remains of a service that died gives its port back."""


def start_local(
    port: int, *, auth: AuthSettings, limits: Limits, haproxy: bool, grpc_port: int = 0, log_to_driver: bool = False
) -> str:
    """Starts Ray and Serve.

    Args:
        port: of the service.
        auth: who may call. A token of this start is added to its file of tokens.
        limits: of what callers may send.
        haproxy: whether HAProxy takes the calls, or Ray's Python proxy.
        grpc_port: of gRPC, which replicas will offer; 0 for none.
        log_to_driver: whether messages of replicas are shown here.

    Returns:
        The address of the page, with the token of this start, which may call everything, if there is a file of tokens.

    Raises:
        UserError: a port is taken, or Ray does not start.
    """
    require_free(port)
    if grpc_port:
        require_free(grpc_port, setting="grpc_port")
    address = f"http://localhost:{port}/" + (f"?token={start_token(auth.tokens)}" if auth.tokens else "")
    _start(port, auth=auth, limits=limits, haproxy=haproxy, log_to_driver=log_to_driver)
    return address


def start_again(port: int, *, auth: AuthSettings, limits: Limits, haproxy: bool) -> None:
    """Ends what is left of a service whose head has died, and starts Ray and Serve again; tokens stay as they are.

    Args:
        port: of the service.
        auth: who may call.
        limits: of what callers may send.
        haproxy: whether HAProxy takes the calls, or Ray's Python proxy.

    Raises:
        UserError: the port is taken still, or Ray does not start.
    """
    # Not ``serve.shutdown``, which would ask the head.
    ray.shutdown()
    serve.context._set_global_client(None)
    give_up = time.monotonic() + _PORT_WITHIN
    while True:
        try:
            require_free(port)
            break
        except UserError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.2)
    _start(port, auth=auth, limits=limits, haproxy=haproxy, log_to_driver=False)


def _start(port: int, *, auth: AuthSettings, limits: Limits, haproxy: bool, log_to_driver: bool) -> None:
    """Starts Ray and Serve with the environment of this start."""
    folder = Path(tempfile.mkdtemp(prefix="assay-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(environment(limits, auth, folder=folder, haproxy=haproxy))
    threads = {"RAY_SERVE_HAPROXY_NBTHREAD": str(min(os.cpu_count() or 1, _MOST_THREADS))}
    for name, value in (QUICK | STEADY | threads).items():
        os.environ.setdefault(name, value)
    start_ray_here(namespace="serve", log_to_driver=log_to_driver, num_cpus=CPUS)
    options = {"host": "127.0.0.1", "port": port, "request_timeout_s": TIMEOUT}
    serve.start(proxy_location="HeadOnly", http_options=options)
