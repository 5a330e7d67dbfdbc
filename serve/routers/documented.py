"""Routes that read and write bodies without FastAPI, which is several times faster, and their OpenAPI descriptions."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from serve.routers.events import EVENTS


class PlainRoute(APIRoute):
    """Route that FastAPI describes and does not run: its function reads the request and returns a response."""

    def __init__(self, path: str, endpoint: Any, **about: Any) -> None:
        super().__init__(path, endpoint, **about)
        self.app = self._reply

    async def _reply(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await self.endpoint(request=request, **request.path_params)
        await response(scope, receive, send)


def add_call(api: FastAPI, path: str, call: Any, **about: Any) -> None:
    """Adds a call by POST that reads the request itself.

    Args:
        api: the application.
        path: with the parameters of ``call`` in braces.
        call: ``await call(request=…, **parameters)`` returns the response.
        about: further arguments of a route of FastAPI, as ``documented`` returns them.
    """
    api.router.add_api_route(
        path,
        call if "{version" in path else _of_current(call),
        methods=["POST"],
        route_class_override=PlainRoute,
        **about,
    )


def _of_current(call: Any) -> Any:
    """Returns a call without its parameter ``version``, which FastAPI would else describe as one of the query."""

    async def current(name: str, request: Request) -> Any:
        return await call(name=name, request=request)

    current.__name__, current.__doc__ = call.__name__, call.__doc__
    return current


_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def documented(
    asked: type[BaseModel],
    answered: Any,
    *,
    binary: str | None = None,
    stream: str | None = None,
    required: bool = True,
) -> dict[str, Any]:
    """Returns the arguments with which FastAPI describes a call.

    Args:
        asked: its request. The models of which it consists are moved to the components by ``describe``.
        answered: its response.
        binary: header that gives the length of the JSON, where binary tensors may follow it in both directions.
        stream: description of the events, where the answer may be a stream of them.
        required: whether the request must have a body.

    Returns:
        Keyword arguments of a route.
    """
    schema = asked.model_json_schema(ref_template="#/components/schemas/{model}")
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    response: dict[str, Any] = {"model": answered, "description": "The answer."}
    extra: dict[str, Any] = {"requestBody": {"required": required, "content": content}}
    if stream is not None:
        response["content"] = {EVENTS: {"schema": {"type": "string", "description": stream}}}
    if binary is not None:
        content |= _BINARY
        response["content"] = _BINARY
        about = f"Length in bytes of the JSON, where binary tensors follow it; see parameters of {asked.__name__}."
        extra["parameters"] = [
            {"name": binary, "in": "header", "required": False, "description": about, "schema": {"type": "integer"}}
        ]
        response["headers"] = {binary: {"description": about, "schema": {"type": "integer"}}}
    return {"response_model": None, "responses": {200: response}, "openapi_extra": extra}
