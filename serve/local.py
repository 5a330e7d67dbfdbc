"""Ray and Serve on this machine, on the loopback interface only, with the limits and the tokens of the service."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from ray import serve

from assay.cluster.session import start_ray_here
from serve.auth.environment import environment
from serve.auth.settings import AuthSettings
from serve.auth.tokens import start_token
from serve.limits.settings import Limits
from serve.limits.taken import require_free

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
    "RAY_SERVE_HAPROXY_NBTHREAD": str(min(os.cpu_count() or 1, _MOST_THREADS)),
}
"""Environment variables of Ray for services, used unless the user has set them."""


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
    folder = Path(tempfile.mkdtemp(prefix="assay-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.update(environment(limits, auth, folder=folder, haproxy=haproxy))
    for name, value in QUICK.items():
        os.environ.setdefault(name, value)
    start_ray_here(namespace="serve", log_to_driver=log_to_driver, num_cpus=CPUS)
    options = {"host": "127.0.0.1", "port": port, "request_timeout_s": TIMEOUT}
    serve.start(proxy_location="HeadOnly", http_options=options)
    return address
