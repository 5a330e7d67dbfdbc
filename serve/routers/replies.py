"""Replies: JSON by orjson, and every error in one form, without the data of the request."""

from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serve.answers.failures import failure
from serve.audit_log.decision import LogFullError
from serve.batching import FullError
from serve.limits.refusals import error_body, error_headers, text_of
from serve.model import NoFiniteAnswerError
from serve.refusals import RefusedError
from serve.repository.loaded import UnfitError, UnknownModelError
from serve.routers.metrics import NOTED


def reply(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Returns a JSON response.

    Args:
        content: plain values and arrays.
        status: HTTP status.
        headers: further headers.
    """
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, headers, media_type="application/json")


def refusal(status: int, why: str = "", headers: dict[str, str] | None = None, *, reason: str = "") -> Response:
    """Returns an error in the form that all calls use.

    Args:
        status: HTTP status.
        why: message; by default what the status means.
        headers: further headers.
        reason: code for programs.
    """
    body = error_body(why or text_of(status), reason)
    own = {name.decode(): value.decode() for name, value in error_headers(status, len(body))}
    return Response(body, status, {**own, **{name.lower(): value for name, value in (headers or {}).items()}})


def answer_errors(api: FastAPI) -> None:
    """Returns every error as ``{"error": …}``.

    Args:
        api: the application.
    """

    @api.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> Response:
        # Starlette's own texts are the names of statuses.
        own = "" if error.detail == HTTPStatus(error.status_code).phrase else error.detail
        return refusal(error.status_code, own, dict(error.headers or {}))

    for kind in (*_FORESEEN, Exception):
        api.exception_handler(kind)(_failed)


_FORESEEN = (
    RefusedError,
    ValidationError,
    RequestValidationError,
    UnknownModelError,
    UnfitError,
    FullError,
    LogFullError,
    NoFiniteAnswerError,
)


async def _failed(request: Request, error: Exception) -> Response:
    found = failure(error)
    request.scope.get(NOTED, {})["reason"] = found.reason
    return refusal(found.status, found.message, reason=found.reason)
