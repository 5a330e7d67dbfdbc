"""The Ray Serve application: one finished model, with its explanations, certificates and card.

serve run serve.app:build_app results=results/quickstart recipe=interval_bounds
"""

import asyncio
import os
from collections.abc import Callable, Mapping

import ray
from click import ClickException
from fastapi import FastAPI
from ray import serve
from ray.serve import Application

import assay
from assay.cluster.ledger_actor import cluster_joined, opening
from assay.cluster.resources import REPLICA
from assay.cluster.room import require_room
from assay.cluster.session import joins_cluster, start_ray_here
from assay.errors import UserError
from assay.release.serving import release_served
from serve.answers.tensors import check_models
from serve.api import create_api
from serve.audit_log.log import DecisionLog
from serve.devices import device_of
from serve.limits.taken import require_free
from serve.repository.entries import Repository, Version
from serve.repository.loaded import Loaded, follow
from serve.repository.online import Online, bring_online
from serve.repository.opening import open_source
from serve.settings import Serving, read_settings

TIMEOUT = 60.0
"""Seconds after which a call is cancelled."""
CHECKED_EVERY, CHECKED_WITHIN = 3.0, 10.0
"""Seconds between two self-tests of a replica, and seconds in which it must pass. Serve replaces it after three that it
did not pass; a proxy sends it no call from the first that it failed."""


def build_app(args: Mapping[str, str]) -> Application:
    """Builds the application for ``serve run`` and for a Serve configuration file.

    If no cluster is running or named, Ray and Serve start on this machine, on the loopback interface only.

    Args:
        args: settings of ``Serving``, as text.

    Returns:
        The application.

    Raises:
        ClickException: the model does not exist, may not be served, or the cluster has no room for a replica.
    """
    starts_here = not ray.is_initialized() and "RAY_ADDRESS" not in os.environ
    try:
        serving = read_settings(args)
        if not starts_here:
            _require_room(serving)
        chosen = "" if serving.repository else choose(serving)
        if starts_here:
            start_here(serving.port)
            _require_room(serving)
    except UserError as error:
        # ``serve run`` prints this exception as one line, without a traceback.
        raise ClickException(str(error)) from error
    return application(serving, chosen)


class Checked:
    """A replica that says whether its models still answer a known record as when they were loaded."""

    app: FastAPI
    """Set by Serve, from the function that builds it."""

    async def check_health(self) -> None:
        """Answers the known records; Serve calls it, and takes the replica out of rotation if it raises an error."""
        await asyncio.to_thread(check_models, self.app.state.loaded)


def application(serving: Serving, chosen: str = "") -> Application:
    """Builds the application of checked settings.

    Args:
        serving: the settings.
        chosen: hash of the weights of the one model that is served; empty with a repository.

    Returns:
        The application.
    """

    def replica() -> FastAPI:
        log = open_log(serving)
        told = None if log is None else log.event
        loaded = _of_repository(serving, told) if serving.repository else _of_one(serving, chosen, told)
        record = None if log is None else log.record
        return create_api(loaded, public=serving.public, title=serving.known_as, log=record)

    return (
        serve.deployment(serve.ingress(replica)(Checked))
        .options(
            name=serving.known_as,
            num_replicas=serving.replicas,
            max_ongoing_requests=serving.ongoing,
            max_queued_requests=serving.queued,
            health_check_period_s=CHECKED_EVERY,
            health_check_timeout_s=CHECKED_WITHIN,
            ray_actor_options={"num_cpus": serving.threads, "num_gpus": serving.gpus},
            # A line a call costs a tenth of a prediction; calls are counted by the metrics.
            logging_config={"enable_access_log": False},
        )
        .bind()
    )


def _of_repository(serving: Serving, told: Callable[..., None] | None) -> Loaded:
    """Loads the models of a repository, and follows it as long as this process lives."""
    loaded = Loaded(told=told)

    def load(name: str, version: Version) -> Online:
        finished = open_source(version, public=serving.public).on(device_of(serving.gpus))
        return bring_online(finished, name=name, version=version.version, threads=serving.threads)

    follow(loaded, Repository(serving.repository), [serving.model] if serving.model else None, load)
    return loaded


def _of_one(serving: Serving, chosen: str, told: Callable[..., None] | None) -> Loaded:
    """Loads the one model of a service without a repository, with the weights that were chosen."""
    source = serving.source.model_copy(update={"artefact": chosen})
    finished = open_source(source, public=serving.public).on(device_of(serving.gpus))
    return Loaded([bring_online(finished, name=serving.known_as, threads=serving.threads)], told=told)


def choose(serving: Serving) -> str:
    """Opens the model that a service asks for, and charges it where others will call it.

    Args:
        serving: the settings.

    Returns:
        Hash of its weights.

    Raises:
        UserError: it does not exist, or may not be served.
    """
    finished = open_source(serving.source, public=serving.public)
    if serving.public:
        release_served(
            finished,
            results=serving.results,
            known_as=serving.known_as,
            purpose=serving.purpose,
            ledger=serving.ledger,
            budget=serving.budget,
            joined=cluster_joined(),
            opening=opening(),
        )
    return finished.artefact


def open_log(serving: Serving) -> DecisionLog | None:
    """Opens the decision log of a replica.

    Args:
        serving: the settings.

    Returns:
        The log; None where nothing is kept.

    Raises:
        StorageError: its folder cannot be used.
    """
    if serving.log_folder is None:
        return None
    return DecisionLog(
        serving.log_folder, full=serving.log_full, sync=serving.log_sync, days=serving.log_days,
        about={"assay": assay.__version__},
    )  # fmt: skip


def _require_room(serving: Serving) -> None:
    """Refuses replicas for which the cluster has no room: Serve would wait for it without an end."""
    with cluster_joined():
        require_room(serving.reserved, serving.replicas, grows=joins_cluster(None), asker=REPLICA, seconds=serving.wait)


def start_here(port: int) -> None:
    """Starts Ray and Serve on this machine, on the loopback interface only.

    Args:
        port: of the service.

    Raises:
        UserError: the port is taken, or Ray does not start.
    """
    require_free(port)
    start_ray_here(namespace="serve", log_to_driver=True)
    serve.start(
        proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": TIMEOUT}
    )
