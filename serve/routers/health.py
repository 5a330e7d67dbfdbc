"""Health of the server and of its models, and what it serves."""

from fastapi import FastAPI
from starlette.responses import Response

import assay
from serve import messages as m
from serve.model import NoFiniteAnswerError
from serve.repository.loaded import Loaded
from serve.routers.replies import refusal, reply

EXTENSIONS = ["model_repository(unload_dependents)"]


def add_health(api: FastAPI, loaded: Loaded) -> None:
    """Adds the calls that say whether the server and its models are ready.

    Args:
        api: the application.
        loaded: its models.
    """

    @api.get("/v2", tags=["health"])
    async def server_metadata() -> m.ServerMetadata:
        return m.ServerMetadata(version=assay.__version__)

    @api.get("/v2/health/live", tags=["health"], response_model_exclude_none=True)
    async def live() -> m.Health:
        return m.Health(live=True)

    @api.get("/v2/health/ready", tags=["health"], response_model=m.Health)
    def ready() -> Response:
        """Answers a known record with every model, and compares the answer with that at the start."""
        try:
            for name in loaded.names:
                loaded.find(name).model.check_self()
        except NoFiniteAnswerError as error:
            return refusal(503, str(error))
        return reply({"ready": bool(loaded.names)}, 200 if loaded.names else 503)

    @api.get("/v2/models/{name}/ready", tags=["health"])
    @api.get("/v2/models/{name}/versions/{version}/ready", tags=["health"])
    async def model_ready(name: str, version: str | None = None) -> m.ModelStatus:
        return m.ModelStatus(name=loaded.find(name, version).name, ready=True)

    @api.get("/v1/models", tags=["health"])
    async def models() -> m.ModelList:
        return m.ModelList(models=loaded.names)

    @api.get("/v1/models/{name}", tags=["health"])
    async def status(name: str) -> m.ModelStatus:
        return m.ModelStatus(name=loaded.find(name).name, ready=True)

    @api.post("/v2/repository/index", tags=["model"])
    async def index() -> list[m.IndexEntry]:
        """Lists the versions of all models, those too that could not be loaded."""
        found = []
        for name in loaded.names:
            found += [m.IndexEntry(name=name, version=version, state="READY") for version in loaded.versions(name)]
            found += [
                m.IndexEntry(name=name, version=version, state="UNAVAILABLE", reason=why)
                for version, why in loaded.failed(name).items()
            ]
        return found
