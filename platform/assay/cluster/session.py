"""Starts Ray on this machine, or joins a cluster."""

import logging
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import assay
from assay.errors import UserError
from assay.registry import PLUGINS, load_plugins, plugins

# What Assay wants of Ray and its neighbours, unless the user said otherwise.
DEFAULTS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_DEDUP_LOGS": "1",
    # Ray ends an idle process after a second, and a new one imports torch anew: those that decode records for a slow
    # training step would start again at every step.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
    "FLWR_TELEMETRY_ENABLED": "0",
    "WANDB_MODE": "offline",
    # Torch's threads follow each trial's own setting; OpenMP must not start a pool of its own before that.
    "OMP_NUM_THREADS": "1",
}


def set_defaults() -> None:
    """Environment variables for this process and the workers it starts."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


@contextmanager
def ray_session(address: str | None, *, workers: int | None, cpus: int = 1) -> Iterator[int]:
    """Ray for the duration of a block; yields the number of workers to use.

    A job submitted to a cluster, or ``address``, joins that cluster. Otherwise Ray starts here, on the loopback
    interface only, and stops with the block. Within such a block another one shares the same Ray.

    Args:
        address: ``auto``, ``host:port`` or ``ray://…``; None follows ``RAY_ADDRESS``, as submitted jobs do.
        workers: by default as many as fit.
        cpus: CPUs of each worker.

    Raises:
        UserError: the cluster does not answer or does not know us.
    """
    import ray

    if ray.is_initialized():
        yield workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)
        return
    set_defaults()
    joined = address or os.environ.get("RAY_ADDRESS")
    if joined:
        _join(joined)
    else:
        start_ray_here(num_cpus=max((workers or 1) * cpus, os.cpu_count() or 1))
    try:
        yield workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)
    finally:
        ray.shutdown()


def start_ray_here(**settings: Any) -> None:
    """Start Ray on this machine, on the loopback interface only; it stops with this process."""
    import ray

    set_defaults()
    ray.init(
        # Never None: Ray would join whatever cluster a file in its temporary folder names.
        address="local",
        **{"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR, **settings},
        _node_ip_address="127.0.0.1",
    )


def lasting(location: str | None, *, default: str) -> str:
    """Where results are kept: as given, or ``default`` below the folder in which we run.

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
    """Where this runs: for the record of a study."""
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


def _join(address: str) -> None:
    import ray

    try:
        ray.init(address=address, runtime_env=_environment(), log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"cannot join the Ray cluster at {address!r}: {error}. Is it up? If it demands tokens, set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) here too"
        ) from None


def _environment() -> dict[str, Any] | None:
    """What the workers of a cluster need to know; a submitted job has told it already."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ or not plugins():
        return None
    return plugin_environment()


def plugin_environment() -> dict[str, Any]:
    """The packages of ``ASSAY_PLUGINS`` as Ray sends them to a cluster: by their names, and with their code."""
    import importlib

    load_plugins()
    return {
        "env_vars": {PLUGINS: ",".join(plugins())},
        "py_modules": [str(Path(str(importlib.import_module(name).__file__)).parent) for name in plugins()],
    }


def _git_commit() -> str:
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(assay.__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.stdout.strip()
