"""Schemathesis calls every route as the OpenAPI document describes it, rightly and wrongly.

No call fails the server, and every answer has a status, a type and a form that the document has.
"""

import contextlib
import copy
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.types import ASGIApp, Receive, Scope, Send

from assay.store.folder import Store
from assay.study.finished import open_finished
from serve.api import create_api
from serve.repository.loaded import Loaded
from serve.repository.online import bring_online

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
FEW, MANY = 3, 60
"""Calls of each route and of each way to draw them."""


class FromHere:
    """Middleware that makes every call one of this machine."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = [one for one in scope["headers"] if one[0] != b"host"]
            scope = {**scope, "client": ("127.0.0.1", 5000), "headers": [*headers, (b"host", b"localhost:8000")]}
        await self._app(scope, receive, send)


@pytest.fixture(scope="module")
def description(store: Store) -> Any:
    """The document of a service, with the names of its models, so that not every call is one of an unknown model."""
    online = bring_online(open_finished(store, recipe="standard"), name="standard")
    api = create_api(Loaded([online]), public=False)
    document = copy.deepcopy(api.openapi())
    names = {"name": "standard", "version": online.version}
    for path in document["paths"].values():
        for call in path.values():
            for parameter in call.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["schema"] = {"type": "string", "enum": [names[parameter["name"]], "other"]}
    schema = schemathesis.openapi.from_dict(document)
    schema.app = FromHere(api)
    return schema


def call_all(description: Any, mode: GenerationMode, examples: int) -> int:
    """Draws calls of each route, and judges the answers; returns how many there were."""
    count = 0
    for found in description.get_all_operations():

        @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=found.ok().as_strategy(generation_mode=mode))
        def judge(case: schemathesis.Case) -> None:
            nonlocal count
            count += 1
            case.validate_response(case.call(), checks=CHECKS)

        # Of a call without parameters and without a body nothing can be wrong.
        with contextlib.suppress(Unsatisfiable):
            judge()
    return count


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_call_is_answered_as_described(description: Any, mode: GenerationMode) -> None:
    assert call_all(description, mode, FEW) > 50


@pytest.mark.slow  # a few calls of each route are fast
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_many_calls_are_answered_as_described(description: Any, mode: GenerationMode) -> None:
    assert call_all(description, mode, MANY) > 500
