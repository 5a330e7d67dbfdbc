"""Replies: JSON by orjson, and every error in one form, without the data of the request."""

from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

import serve.messages as m
from serve.audit_log.decision import LogFullError
from serve.batching import FullError
from serve.model import NoFiniteAnswerError, RefusedError
from serve.repository.loaded import UnknownModelError

MOST_BYTES = 4096
"""Greatest length of an error body."""
_MOST_ERRORS = 5
"""Errors of one request that are named; the others are counted."""
_RETRY_AFTER = "1"
_OURS = {name for kind in vars(m).values() if hasattr(kind, "model_fields") for name in kind.model_fields}


def reply(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Returns a JSON response.

    Args:
        content: plain values and arrays.
        status: HTTP status.
        headers: further headers.
    """
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")


def refusal(status: int, why: str, headers: dict[str, str] | None = None) -> Response:
    """Returns an error in the form that all calls use.

    Args:
        status: HTTP status.
        why: message; cut where it is too long.
        headers: further headers.
    """
    text = (
        why if len(why.encode()) <= MOST_BYTES - 64 else why.encode()[: MOST_BYTES - 80].decode(errors="ignore") + " …"
    )
    return reply({"error": text}, status, headers)


def told(error: ValidationError | RequestValidationError) -> str:
    """Returns the first errors of a request, without unknown keys and values, which are the caller's own text.

    Args:
        error: of pydantic.
    """
    details = error.errors() if isinstance(error, RequestValidationError) else _first(error)
    lines = list(dict.fromkeys(map(_told, details[:_MOST_ERRORS])))
    more = len(details) - _MOST_ERRORS
    return "; ".join([*lines, f"and {more} more"] if more > 0 else lines)


def answer_errors(api: FastAPI) -> None:
    """Returns every error as ``{"error": …}``.

    Args:
        api: the application.
    """

    @api.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return refusal(422, str(error))

    @api.exception_handler(ValidationError)
    async def unfit(_: Request, error: ValidationError) -> Response:
        return refusal(422, told(error))

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return refusal(422, told(error))

    @api.exception_handler(UnknownModelError)
    async def unknown(_: Request, error: UnknownModelError) -> Response:
        return refusal(404, str(error))

    @api.exception_handler(FullError)
    async def full(_: Request, error: FullError) -> Response:
        return refusal(503, f"the model is busy: {error}", {"Retry-After": _RETRY_AFTER})

    @api.exception_handler(LogFullError)
    async def unlogged(_: Request, error: LogFullError) -> Response:
        return refusal(503, str(error), {"Retry-After": _RETRY_AFTER})

    @api.exception_handler(NoFiniteAnswerError)
    async def no_answer(_: Request, error: NoFiniteAnswerError) -> Response:
        return refusal(500, str(error))

    @api.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> Response:
        return refusal(error.status_code, error.detail, dict(error.headers or {}))

    @api.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        return refusal(500, "the server failed on this call; its log says where")


def _first(error: ValidationError) -> list[Any]:
    return error.errors(include_url=False, include_context=False, include_input=False)


def _told(detail: Any) -> str:
    where = [str(part) for part in detail["loc"] if isinstance(part, int) or part in _OURS]
    if detail["type"] == "extra_forbidden":
        return f"{'.'.join(where) or 'the body'} holds a key that is not allowed"
    return f"{'.'.join(where) or 'the body'}: {detail['msg']}"
