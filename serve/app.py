"""The Ray Serve application: one finished model, or those of a repository, with explanations, certificates and cards.

serve run serve.app:build_app results=results/quickstart recipe=interval_bounds
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import ray
from click import ClickException, echo
from fastapi import FastAPI
from ray import serve
from ray.serve import Application

import assay
from assay.cluster.ledger_actor import cluster_joined, opening
from assay.cluster.resources import REPLICA
from assay.cluster.room import require_room
from assay.cluster.session import joins_cluster
from assay.errors import UserError
from assay.release.serving import release_served
from assay.study.finished import Finished
from serve.answers.readiness import check_models
from serve.api import create_api
from serve.audit_log.log import DecisionLog
from serve.auth.environment import HAPROXY, require_shared
from serve.auth.settings import NO_TOKENS, AuthSettings, chosen_auth
from serve.auth.tokens import read_tokens
from serve.devices import device_of
from serve.grpc_.beside import grpc_beside
from serve.grpc_.credentials import require_tls
from serve.limits.run_haproxy import haproxy_binary
from serve.limits.settings import Limits
from serve.local import BURST, start_local
from serve.replica_port import bind_here
from serve.repository.entries import Repository, Version
from serve.repository.loaded import Loaded, follow, settle
from serve.repository.online import Online, bring_online
from serve.repository.opening import open_source
from serve.routers.metrics import Metrics
from serve.settings import Serving, read_settings

CHECKED_EVERY, CHECKED_WITHIN = 2.0, 10.0
"""Seconds between two self-tests of a replica, and seconds in which it must pass. Serve replaces it after three that it
did not pass; a proxy sends it no call from the first that it failed."""


def build_app(args: Mapping[str, str]) -> Application:
    """Builds the application for ``serve run`` and for a Serve configuration file.

    If no cluster is running or named, Ray and Serve start on this machine, on the loopback interface only, and the
    address with the token of this start is printed. On a cluster, the file of tokens must be there already.

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
            require_shared(os.environ, auth_of(serving), public=serving.public)
            require_tls(
                Limits.from_environment(), serving.grpc_port, public=serving.public, behind_tls=serving.grpc_behind_tls
            )
            _require_tokens(serving)
            _require_room(serving)
        chosen = "" if serving.repository else choose(serving)
        if serving.repository and serving.public:
            _release_all(serving)
        haproxy = os.environ.get(HAPROXY) == "1"
        if starts_here:
            haproxy = haproxy_binary() is not None
            echo(f"open {start_here(serving, haproxy=haproxy)}")
            _require_room(serving)
        serving = serving.model_copy(update={"queued": BURST}) if haproxy else serving
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

    auth = auth_of(serving)

    def replica() -> FastAPI:
        elsewhere = ray.util.get_node_ip_address() != "127.0.0.1"
        if elsewhere:
            # The proxy of this machine has the same environment.
            require_shared(os.environ, auth, public=serving.public)
        bind_here()
        log = open_log(serving)
        told = None if log is None else log.event
        loaded = _of_repository(serving, told) if serving.repository else _of_one(serving, chosen, told)
        record = None if log is None else log.record

        def grpc(metrics: Metrics) -> AbstractAsyncContextManager[None]:
            # Where Ray runs on the loopback interface, as where it was started here, nothing listens elsewhere.
            return grpc_beside(
                loaded, serving.grpc_port, public=serving.public and elsewhere, auth=auth, observe=metrics.observe,
                log=record, behind_tls=serving.grpc_behind_tls,
            )  # fmt: skip

        beside = grpc if serving.grpc_port else None
        return create_api(loaded, public=serving.public, title=serving.known_as, log=record, auth=auth, beside=beside)

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
        finished = open_source(version, public=serving.public)
        if serving.public:
            _release(finished, serving, results=version.results, known_as=name)
        finished = finished.on(device_of(serving.gpus))
        return bring_online(finished, name=name, version=version.version, threads=serving.threads)

    follow(loaded, Repository(serving.repository), [serving.model] if serving.model else None, load)
    return loaded


def _of_one(serving: Serving, chosen: str, told: Callable[..., None] | None) -> Loaded:
    """Loads the one model of a service without a repository, with the weights that were chosen."""
    source = serving.source.model_copy(update={"artefact": chosen})
    finished = open_source(source, public=serving.public).on(device_of(serving.gpus))
    loaded = Loaded([bring_online(finished, name=serving.known_as, threads=serving.threads)], told=told)
    settle()
    return loaded


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
        _release(finished, serving, results=serving.results, known_as=serving.known_as)
    return finished.artefact


def _release_all(serving: Serving) -> None:
    """Charges all versions of a repository that others will call; those added later are charged as they load."""
    repository = Repository(serving.repository)
    for name in [serving.model] if serving.model else repository.names():
        entry = repository.read(name)
        for version in entry.versions if entry else ():
            _release(open_source(version, public=True), serving, results=version.results, known_as=name)


def _release(finished: Finished, serving: Serving, *, results: str, known_as: str) -> None:
    """Charges a model to the ledger of its data before its first answer; once, however often it is started."""
    release_served(
        finished,
        results=results,
        known_as=known_as,
        purpose=serving.purpose,
        ledger=serving.ledger,
        budget=serving.budget,
        joined=cluster_joined(),
        opening=opening(),
    )


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


def auth_of(serving: Serving) -> AuthSettings:
    """Returns who may call a service.

    Args:
        serving: the settings.
    """
    return chosen_auth(serving.tokens)


def _require_tokens(serving: Serving) -> None:
    """Refuses a service on a cluster that nobody could call."""
    settings = auth_of(serving)
    if settings.tokens and not settings.jwks and not read_tokens(settings.tokens):
        raise UserError(
            f"{settings.tokens} has no token, so nobody could call: python -m jobs.tokens add NAME --file "
            f"{settings.tokens}, or tokens={NO_TOKENS}, which asks for none",
            setting="tokens",
            given=settings.tokens,
        )


def start_here(serving: Serving, *, haproxy: bool) -> str:
    """Starts Ray and Serve on this machine, on the loopback interface only.

    Args:
        serving: the settings.
        haproxy: whether HAProxy takes the calls, or Ray's Python proxy.

    Returns:
        The address of the page, with the token of this start.

    Raises:
        UserError: the port is taken, or Ray does not start.
    """
    return start_local(
        serving.port, auth=auth_of(serving), limits=limits_of(serving), haproxy=haproxy, grpc_port=serving.grpc_port,
        log_to_driver=True,
    )  # fmt: skip


def limits_of(serving: Serving) -> Limits:
    """Returns what callers of a service may send: as the environment says, with what the settings say.

    Args:
        serving: the settings.
    """
    return replace(
        Limits.from_environment(),
        ongoing={"": serving.ongoing},
        queued={"": serving.queued},
        public=serving.public,
    )
