"""Calls that run without FastAPI are described by it, and are tried before all others."""

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from serve.api import create_api
from serve.repository.loaded import Loaded
from serve.routers.documented import PlainRoute, add_call, documented
from serve.routers.replies import answer_errors, reply


class Asked(BaseModel):
    """Request."""

    word: str


class Answered(BaseModel):
    """Response."""

    word: str


@pytest.fixture
def client() -> TestClient:
    api = FastAPI()
    answer_errors(api)

    async def call(name: str, request: Request, version: str | None = None) -> Response:
        """Says it again."""
        asked = Asked.model_validate_json(await request.body())
        return reply({"word": asked.word, "name": name, "version": version})

    for path in ("/{name}:say", "/{name}/versions/{version}:say"):
        add_call(api, path, call, tags=["words"], **documented(Asked, Answered))
    return TestClient(api)


@pytest.mark.parametrize(("path", "version"), [("/m:say", None), ("/m/versions/2:say", "2")])
def test_a_call_gets_its_parameters_from_the_path(client: TestClient, path: str, version: str | None) -> None:
    answer = client.post(path, content=b'{"word": "ah"}')
    assert (answer.status_code, answer.json()) == (200, {"word": "ah", "name": "m", "version": version})


def test_its_errors_have_the_form_of_all_errors(client: TestClient) -> None:
    answer = client.post("/m:say", content=b'{"word": 1}')
    assert answer.status_code == 422 and set(answer.json()) == {"error"}
    assert client.get("/m:say").status_code == 405


def test_it_is_described_with_request_response_and_parameters(client: TestClient) -> None:
    about = client.get("/openapi.json").json()["paths"]["/{name}/versions/{version}:say"]["post"]
    assert {one["name"] for one in about["parameters"] if one["in"] == "path"} == {"name", "version"}
    assert about["requestBody"]["content"]["application/json"]["schema"]["required"] == ["word"]
    assert about["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/Answered")
    assert about["description"] == "Says it again."


@pytest.mark.parametrize("path", ["/v1/models/standard:predict", "/v1/models/standard:explain", "/v2/models/m/infer"])
def test_calls_of_models_are_tried_before_other_routes(path: str) -> None:
    api = create_api(Loaded([]), public=False)
    scope = {"type": "http", "method": "POST", "path": path, "headers": []}
    described = [route for route in api.routes if isinstance(route, APIRoute)]
    matching = [route for route in described if route.matches(scope)[0] == Match.FULL]
    assert isinstance(matching[0], PlainRoute)
    assert isinstance(described[0], PlainRoute)
