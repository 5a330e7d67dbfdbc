"""Reads the JSON body of a request."""

from typing import TypeVar

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

from serve.inputs.strict_json import parse_json

Body = TypeVar("Body", bound=BaseModel)


async def read(request: Request, kind: type[Body]) -> Body:
    """Reads and checks the body of a request.

    A body without Content-Type is taken for JSON, for clients of the Open Inference Protocol send none.

    Args:
        request: of the caller.
        kind: what its body must be.

    Returns:
        The body.

    Raises:
        RefusedError: it is not JSON.
        HTTPException: it says that it is something else (415).
        ValidationError: it is not of this kind.
    """
    require_json(request)
    return parse(await request.body(), kind)


def parse(body: bytes, kind: type[Body]) -> Body:
    """Parses JSON and checks it.

    Args:
        body: the JSON.
        kind: what it must be.

    Returns:
        The body.

    Raises:
        RefusedError: it is not JSON (400).
        ValidationError: it is not of this kind.
    """
    return kind.model_validate(parse_json(body))


def require_json(request: Request) -> None:
    """Refuses a body that is encoded, or that says it is not JSON.

    Args:
        request: of the caller.

    Raises:
        HTTPException: 415.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "send the body as it is: Content-Encoding is not supported")
    said = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if said not in ("application/json", "application/octet-stream", ""):
        raise HTTPException(415, "send JSON with the header Content-Type: application/json")
