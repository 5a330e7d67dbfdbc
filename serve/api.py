"""The HTTP interface of the loaded models, independent of Ray."""

from dataclasses import replace
from typing import Any

from fastapi import FastAPI

import assay
from serve import messages as m
from serve.limits.middleware import Bodies, Front
from serve.limits.settings import Limits
from serve.repository.loaded import Loaded
from serve.routers.health import add_health
from serve.routers.page import add_page
from serve.routers.replies import answer_errors
from serve.routers.v1 import add_v1
from serve.routers.v2 import add_v2

MOST_BYTES = 1 << 20
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": m.Refusal} for status in (400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 500, 503)
}


def create_api(loaded: Loaded, *, public: bool, title: str = "models") -> FastAPI:
    """Creates the HTTP interface.

    Args:
        loaded: the models of this replica.
        public: whether calls from other machines are allowed.
        title: of the description.

    Returns:
        The FastAPI application.
    """
    api = FastAPI(
        title=f"Assay: {title}",
        version=assay.__version__,
        description="Predictions, explanations, certificates and cards of trained models.",
        responses=_REFUSALS,
    )
    limits = replace(Limits.from_environment(), body=MOST_BYTES, public=public)
    api.add_middleware(Bodies, limits=limits)
    api.add_middleware(Front, limits=limits)
    answer_errors(api)

    add_page(api, loaded, public=public)
    add_health(api, loaded)
    add_v2(api, loaded)
    add_v1(api, loaded)
    return api
