"""The Ray Serve application: one finished model, with its explanations, certificates and card.

serve run serve.app:build_app results=results/quickstart recipe=interval_bounds
"""

import os
from collections.abc import Mapping
from pathlib import Path

import ray
import torch
from click import ClickException
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ray import serve
from ray.serve import Application

from assay.cluster.ledger_actor import cluster_joined, opening
from assay.cluster.resources import REPLICA, Reservation
from assay.cluster.room import require_room
from assay.cluster.session import joins_cluster, start_ray_here
from assay.cluster.waiting import WAIT
from assay.errors import SpecError, UserError
from assay.registry import explain, first_mistake
from assay.release.candidates import for_others, require_same_weights
from assay.release.serving import release_served
from assay.report.card import card_of
from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from assay.study.spec import PathName
from serve.api import create_api
from serve.model import ServedModel

TIMEOUT = 60.0
"""Seconds after which a call is cancelled."""


class Serving(BaseModel):
    """Settings of a service; each may be given as ``key=value`` to ``serve run``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    results: str
    """Folder or URI of a study."""
    recipe: str
    cohort: str | None = None
    """Name of the cohort; by default the first that has the recipe."""
    fold: int = Field(default=1, ge=1)
    repeat: int = Field(default=1, ge=1)
    client: str = ""
    """Client whose own model is served, where the recipe personalises: its site, or its number; by default the shared
    model."""
    name: PathName | None = None
    """Name of the model in the paths of all calls; by default the name of the recipe."""
    public: bool = False
    """Whether calls from other machines are allowed; refused for a model whose privacy claim does not hold."""
    ledger: str | None = None
    """Folder of the ledgers, where a public model is charged once, before its first answer; by default beside the
    folder of the results."""
    budget: float | None = Field(default=None, gt=0)
    """Total ε of all releases from the data; needed at the first release. A different value is refused later."""
    purpose: str = "served to others"
    """For the processing record."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port, if Serve is started on this machine; on a cluster its configuration decides."""
    replicas: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    """Torch threads of a replica, for each of which it reserves a CPU."""
    gpus: float = Field(default=0.0, ge=0, le=1)
    """GPU that a replica reserves, and on which its model answers: 1, or a share such as 0.25. With 0 it answers on the
    CPU."""
    wait: float = Field(default=WAIT, ge=0, allow_inf_nan=False)
    """Seconds to wait for a machine with room for a replica, on a cluster whose machines still have to start."""
    ongoing: int = Field(default=8, ge=1)
    """Simultaneous calls of a replica."""
    queued: int = Field(default=32, ge=1)
    """Waiting calls; the next call gets status 503 at once."""

    @property
    def known_as(self) -> str:
        """Name of the model in the paths of all calls."""
        return self.name or self.recipe

    @property
    def reserved(self) -> Reservation:
        """What each replica reserves."""
        return Reservation(cpus=self.threads, gpus=self.gpus)


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
        serving = _read(args)
        finished = _open(serving)
        if not starts_here:
            _require_room(serving)
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
        chosen = finished.artefact
        if starts_here:
            _start_here(serving.port)
            _require_room(serving)
    except UserError as error:
        # ``serve run`` prints this exception as one line, without a traceback.
        raise ClickException(str(error)) from error

    def replica() -> FastAPI:
        torch.set_num_threads(serving.threads)
        finished = _open(serving, chosen).on(_device_of(serving))
        return create_api(ServedModel(finished), card_of(finished, serving.known_as), public=serving.public)

    return (
        serve.deployment(serve.ingress(replica)())
        .options(
            name=serving.known_as,
            num_replicas=serving.replicas,
            max_ongoing_requests=serving.ongoing,
            max_queued_requests=serving.queued,
            ray_actor_options={"num_cpus": serving.reserved.cpus, "num_gpus": serving.reserved.gpus},
        )
        .bind()
    )


def _read(args: Mapping[str, str]) -> Serving:
    try:
        given = Serving.model_validate(dict(args))
    except ValidationError as error:
        message = f"serve: {'; '.join(explain(error))}; settings: {', '.join(Serving.model_fields)}"
        raise SpecError(message, **first_mistake(error)) from None
    if "://" in given.results:
        return given
    return given.model_copy(update={"results": str(Path(given.results).expanduser().resolve())})


def _open(serving: Serving, chosen: str = "") -> Finished:
    """Returns the model to serve, with the figures that may be shown.

    Args:
        chosen: hash of the weights. When a replica restarts after a failure, the store may hold other weights.
    """
    store = Store(serving.results)
    finished = open_finished(
        store,
        recipe=serving.recipe,
        cohort=serving.cohort,
        fold=serving.fold,
        repeat=serving.repeat,
        client=serving.client,
    )
    if chosen:
        require_same_weights(finished.trial, chosen=chosen, found=finished.artefact)
    if not serving.public:
        return finished
    if finished.objections:
        raise SpecError(
            f"public=true: {serving.recipe!r} may not leave this machine: {'; '.join(finished.objections)}; "
            "serve it with public=false",
            setting="public",
            given=True,
            allowed=finished.objections,
        )
    return for_others(store, finished) if finished.private else finished


def _require_room(serving: Serving) -> None:
    """Refuses replicas for which the cluster has no room: Serve would wait for it without an end."""
    with cluster_joined():
        require_room(serving.reserved, serving.replicas, grows=joins_cluster(None), asker=REPLICA, seconds=serving.wait)


def _device_of(serving: Serving) -> torch.device:
    """Returns the device of a replica, in its process: the GPU that it has reserved, or the CPU."""
    if not serving.gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            f"gpus={serving.gpus:g}: the replica has reserved a GPU, but PyTorch finds none on its machine; install a "
            "driver and a PyTorch with CUDA there (on Kubernetes the image for cuda), or serve with gpus=0",
            setting="gpus",
            given=serving.gpus,
            allowed=0,
        )
    return torch.device("cuda")


def _start_here(port: int) -> None:
    start_ray_here(namespace="serve", log_to_driver=True)
    serve.start(
        proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": TIMEOUT}
    )
