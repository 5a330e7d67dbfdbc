"""OpenAPI descriptions of calls whose bodies are read and written without FastAPI, which is several times faster."""

from typing import Any

from pydantic import BaseModel

_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def documented(
    asked: type[BaseModel], answered: Any, *, binary: str | None = None, required: bool = True
) -> dict[str, Any]:
    """Returns the arguments with which FastAPI describes a call.

    Args:
        asked: its request. The models of which it consists are moved to the components by ``describe``.
        answered: its response.
        binary: header that gives the length of the JSON, where binary tensors may follow it in both directions.
        required: whether the request must have a body.

    Returns:
        Keyword arguments of a route.
    """
    schema = asked.model_json_schema(ref_template="#/components/schemas/{model}")
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    response: dict[str, Any] = {"model": answered, "description": "The answer."}
    extra: dict[str, Any] = {"requestBody": {"required": required, "content": content}}
    if binary is not None:
        content |= _BINARY
        response["content"] = _BINARY
        about = f"Length in bytes of the JSON, where binary tensors follow it; see parameters of {asked.__name__}."
        extra["parameters"] = [
            {"name": binary, "in": "header", "required": False, "description": about, "schema": {"type": "integer"}}
        ]
        response["headers"] = {binary: {"description": about, "schema": {"type": "integer"}}}
    return {"response_model": None, "responses": {200: response}, "openapi_extra": extra}
