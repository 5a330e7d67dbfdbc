"""Replies: JSON by orjson, and every error in one form, without the data of the request."""

from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serve.answers.failures import failure, told
from serve.batching import FullError
from serve.model import NoFiniteAnswerError
from serve.refusals import RefusedError
from serve.repository.loaded import UnknownModelError

MOST_BYTES = 4096
"""Greatest length of an error body."""
_RETRY_AFTER = "1"


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


def answer_errors(api: FastAPI) -> None:
    """Returns every error as ``{"error": …}``.

    Args:
        api: the application.
    """

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return refusal(422, told(error))

    @api.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> Response:
        return refusal(error.status_code, error.detail, dict(error.headers or {}))

    for kind in (RefusedError, ValidationError, UnknownModelError, FullError, NoFiniteAnswerError, Exception):
        api.exception_handler(kind)(_failed)


async def _failed(_: Request, error: Exception) -> Response:
    status, why = failure(error)
    return refusal(status, why, {"Retry-After": _RETRY_AFTER} if status == 503 else None)
