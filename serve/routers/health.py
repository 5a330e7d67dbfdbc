"""Health of the server and of its models, and what it serves."""

from fastapi import FastAPI, Request
from starlette.responses import Response

from serve import messages as m
from serve.answers.metadata import index_of, server_metadata
from serve.answers.readiness import require_ready
from serve.model import NoFiniteAnswerError
from serve.repository.loaded import Loaded
from serve.routers.documented import documented
from serve.routers.paths import MODEL, VERSION
from serve.routers.reading import read
from serve.routers.replies import refusal, reply

BY_THE_OPERATOR = "callers may not load or unload models: who runs the server does, by python -m jobs.serve"


def add_health(api: FastAPI, loaded: Loaded) -> None:
    """Adds the calls that say whether the server and its models are ready.

    Args:
        api: the application.
        loaded: its models.
    """

    @api.get("/v2", tags=["health"])
    async def server() -> m.ServerMetadata:
        """Returns name, version and extensions of the server."""
        return server_metadata()

    @api.get("/v2/health/live", tags=["health"], response_model_exclude_none=True)
    async def live() -> m.Health:
        return m.Health(live=True)

    @api.get("/v2/health/ready", tags=["health"], response_model=m.Health)
    def ready() -> Response:
        """Answers a known record with every model, and compares the answer with that at the start."""
        try:
            require_ready(loaded)
        except NoFiniteAnswerError as error:
            return refusal(503, str(error))
        return reply({"ready": True})

    @api.get(f"/v2/models/{MODEL}/ready", tags=["health"])
    @api.get(f"/v2/models/{MODEL}/versions/{VERSION}/ready", tags=["health"])
    async def model_ready(name: str, version: str | None = None) -> m.ModelStatus:
        return m.ModelStatus(name=loaded.find(name, version).name, ready=True)

    @api.get("/v1/models", tags=["health"])
    async def models() -> m.ModelList:
        return m.ModelList(models=loaded.names)

    @api.get(f"/v1/models/{MODEL}", tags=["health"])
    async def status(name: str) -> m.ModelStatus:
        return m.ModelStatus(name=loaded.find(name).name, ready=True)

    @api.post("/v2/repository/index", tags=["model"], **documented(m.IndexRequest, list[m.IndexEntry], required=False))
    async def index(request: Request) -> Response:
        """Lists the versions of all models, those too that could not be loaded."""
        asked = await read(request, m.IndexRequest) if await request.body() else m.IndexRequest()
        return reply([entry.model_dump() for entry in index_of(loaded, ready=asked.ready)])

    @api.post(f"/v2/repository/models/{MODEL}/load", tags=["model"])
    @api.post(f"/v2/repository/models/{MODEL}/unload", tags=["model"])
    async def change(name: str) -> Response:
        """Refuses to change what is served."""
        return refusal(403, BY_THE_OPERATOR)
