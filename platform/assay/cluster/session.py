"""Starts Ray on this machine, or joins a cluster."""

import gc
import logging
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import assay
from assay.errors import UserError
from assay.registry import PLUGINS, load_plugins, plugins

logger = logging.getLogger(__name__)

_STARTS = 3
"""Attempts to start Ray. It gives itself half a minute, which a busy machine may exceed."""
_LATE = "timed out during startup"
"""What Ray says then."""

# Environment variables for Ray and other libraries, used unless the user has set them.
DEFAULTS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_DEDUP_LOGS": "1",
    # By default Ray ends an idle process after a second, and a new one has to import torch. Processes that decode
    # records would then restart at every slow training step.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    "FLWR_TELEMETRY_ENABLED": "0",
    "WANDB_MODE": "offline",
    # Each trial sets its number of torch threads; OpenMP must not start its own pool before that.
    "OMP_NUM_THREADS": "1",
}


def set_defaults() -> None:
    """Sets environment variables for this process and its workers, except those that the user has set."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


@contextmanager
def ray_session(address: str | None, *, workers: int | None, cpus: int = 1) -> Iterator[None]:
    """Runs Ray for the duration of a block.

    A job submitted to a cluster, or a job with an ``address``, joins that cluster. Otherwise Ray starts on this
    machine, on the loopback interface only, and stops with the block. A block inside such a block shares its Ray.

    Args:
        address: ``auto``, ``host:port`` or ``ray://…``; None follows ``RAY_ADDRESS``, as submitted jobs do.
        workers: number of workers for which a Ray that starts here must have room; by default one for each CPU.
        cpus: CPUs of each worker.

    Returns:
        Context manager.

    Raises:
        UserError: the cluster does not answer, or refuses the credentials.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    set_defaults()
    joined = address or os.environ.get("RAY_ADDRESS")
    if joined:
        _join(joined)
    else:
        start_ray_here(num_cpus=max((workers or 1) * cpus, os.cpu_count() or 1))
    try:
        yield
    finally:
        ray.shutdown()


def joins_cluster(address: str | None) -> bool:
    """Returns whether ``ray_session`` joins, or this process has joined, a cluster to which nodes may be added.

    Args:
        address: as for ``ray_session``.

    Returns:
        False where Ray starts, or was started, by this process on this machine.
    """
    import ray

    if ray.is_initialized():
        node = ray._private.worker._global_node
        return node is None or not node.head
    return bool(address or os.environ.get("RAY_ADDRESS"))


def start_ray_here(**settings: Any) -> None:
    """Starts Ray on this machine, on the loopback interface only; it stops with this process.

    Args:
        settings: for ``ray.init``.

    Raises:
        UserError: Ray did not start in time, however often it was tried.
    """
    import ray

    set_defaults()
    for attempt in range(1, _STARTS + 1):
        try:
            with _on_loopback():
                ray.init(
                    # Not None, because Ray would then join a cluster named in a file of its temporary folder.
                    address="local",
                    **{"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR, **settings},
                    _node_ip_address="127.0.0.1",
                )
            return
        except Exception as error:  # Ray has no class for it
            if _LATE not in str(error):
                raise
            logger.warning("Ray did not start within half a minute (attempt %d of %d)", attempt, _STARTS)
            _end_late_start()
    raise UserError(
        f"Ray did not start on this machine in {_STARTS} attempts of half a minute each: the machine is too busy, or "
        "has too little memory. End other jobs, or join a Ray that runs already with --address"
    )


def lost_processes() -> list[str]:
    """Returns which processes of the head of a Ray that this process has started have ended by themselves.

    Without the first (``gcs_server``), Ray ends this process and everything else within a minute; without the second
    (``raylet``), everything else has ended.
    """
    import ray

    node = ray._private.worker._global_node
    ended = [] if node is None else [kind for kind, _ in node.dead_processes()]
    return [kind for kind in ("gcs_server", "raylet") if kind in ended]


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Makes a Ray that starts in the block listen on the loopback interface only.

    On Linux, Ray takes 127.0.0.1 for the machine's own address, and its servers, those of metrics too, then listen on
    all interfaces. Where it is to start no cluster of several machines, as by default on macOS, it does not. The
    variable is Ray's own option for this; Ray has read it already where it was imported before.
    """
    from ray._private import ray_constants

    variable = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before = os.environ.get(variable), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[variable], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        # A cluster may be started, or joined, later.
        ray_constants.ENABLE_RAY_CLUSTER = before[1]
        if before[0] is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before[0]


def _end_late_start() -> None:
    """Ends what a start of Ray that took too long has started."""
    import ray

    with warnings.catch_warnings():
        # Ray does not wait for the processes that it ends.
        warnings.simplefilter("ignore", ResourceWarning)
        ray.shutdown()
        gc.collect()


def lasting(location: str | None, *, default: str) -> str:
    """Returns the location of the results: the given one, or ``default`` below the working folder.

    Args:
        location: folder or URI, or None.
        default: relative folder.

    Returns:
        Absolute path or URI.

    Raises:
        UserError: this is a submitted job, whose folder is temporary, and the location is not absolute.
    """
    chosen = location or default
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ and "://" not in chosen and not Path(chosen).is_absolute():
        raise UserError(
            f"results would go to {chosen!r} below the temporary folder of this submitted job and be lost with it; "
            "give --results an absolute path or a URI such as s3://bucket/folder"
        )
    return chosen if "://" in chosen else str(Path(chosen).expanduser().resolve())


def describe_environment() -> dict[str, Any]:
    """Returns the machine and software on which a study runs, for its record.

    Returns:
        JSON-able facts by name.
    """
    import torch

    gpus = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "gpus": gpus,
        "git_commit": _git_commit(),
    }


def refuse_address(address: str) -> None:
    """Refuses the address of a cluster that no program can join.

    Args:
        address: as for ``ray_session``.

    Raises:
        UserError: it is that of a dashboard, or has another scheme that Ray does not know.
    """
    scheme, given, _ = address.partition("://")
    if given and scheme != "ray":
        submitted = f"; jobs are sent to a dashboard by python -m jobs.submit --address {address} JOB …"
        raise UserError(
            f"--address {address}: a job joins a Ray cluster by auto, HOST:6379 or ray://HOST:10001; a submitted job "
            f"needs no address{submitted if scheme in ('http', 'https') else ''}",
            setting="--address",
            given=address,
            allowed=("auto", "HOST:6379", "ray://HOST:10001"),
        )


def _join(address: str) -> None:
    import ray

    refuse_address(address)
    try:
        ray.init(address=address, runtime_env=_environment(), log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"cannot join the Ray cluster at {address!r}: {error}. Is it up? If it demands tokens, set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) here too"
        ) from None


def _environment() -> dict[str, Any] | None:
    """Returns the runtime environment for the workers of a cluster; None where a submitted job has set it already."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ or not plugins():
        return None
    return plugin_environment()


def plugin_environment() -> dict[str, Any]:
    """Returns a Ray runtime environment with the packages of ``ASSAY_PLUGINS`` and their code.

    Returns:
        The argument ``runtime_env`` of Ray.

    Raises:
        SpecError: a package cannot be imported.
    """
    import importlib

    load_plugins()
    return {
        "env_vars": {PLUGINS: ",".join(plugins())},
        "py_modules": [str(Path(str(importlib.import_module(name).__file__)).parent) for name in plugins()],
    }


def _git_commit() -> str:
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(assay.__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip()
