"""The HTTP interface of the loaded models, independent of Ray."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI

import assay
from serve import messages as m
from serve.audit_log.decision import Hook
from serve.auth.layers import Layers
from serve.auth.settings import AuthSettings
from serve.limits.settings import Limits
from serve.repository.loaded import Loaded
from serve.routers.docs import add_docs
from serve.routers.health import add_health
from serve.routers.metrics import Measure, Metrics, NameCall, add_metrics
from serve.routers.noting import CountRefusals
from serve.routers.page import add_page
from serve.routers.replies import answer_errors
from serve.routers.v1 import add_v1
from serve.routers.v2 import add_v2

Beside = Callable[[Metrics], AbstractAsyncContextManager[None]]
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": m.Refusal} for status in (400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 500, 503)
}


def create_api(
    loaded: Loaded,
    *,
    public: bool,
    title: str = "models",
    log: Hook | None = None,
    auth: AuthSettings | None = None,
    beside: Beside | None = None,
) -> FastAPI:
    """Creates the HTTP interface.

    Args:
        loaded: the models of this replica.
        public: whether calls from other machines are allowed.
        title: of the description.
        log: takes what is answered, and the status of what is refused, such as ``DecisionLog.record``.
        auth: who may call. By default everyone whom ``public`` allows, without a token.
        beside: runs another server, such as that of gRPC, as long as this one. It is given the figures of the calls.

    Returns:
        The FastAPI application.
    """
    api = FastAPI(
        title=f"Assay: {title}",
        version=assay.__version__,
        description="Predictions, explanations, certificates and cards of trained models.",
        responses=_REFUSALS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=None if beside is None else lambda api: beside(api.state.metrics),
    )
    api.state.loaded = loaded
    api.state.metrics = metrics = Metrics(loaded, tokens=auth.tokens if auth else "")
    api.add_middleware(NameCall, loaded=loaded)
    limits = replace(Limits.from_environment(), public=public)
    api.add_middleware(Layers, limits=limits, settings=auth or AuthSettings(anyone=True))
    if log is not None:
        api.add_middleware(CountRefusals, log=log)  # the last to be added see every response
    api.add_middleware(Measure, metrics=metrics)
    answer_errors(api)
    # Routes are tried in their order, by Ray Serve too: those that are called most are first.
    add_v1(api, loaded, log)
    add_v2(api, loaded, log)

    add_page(api, loaded, public=public)
    add_health(api, loaded)
    add_metrics(api, metrics)
    add_docs(api)
    return api
