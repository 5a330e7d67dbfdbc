"""Replies: JSON by orjson, and every error in one form, without the data of the request."""

from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

import serve.messages as m
from serve.batching import FullError
from serve.limits.refusals import describe_faults, error_body, error_headers, text_of
from serve.model import NoFiniteAnswerError
from serve.refusals import RefusedError
from serve.repository.loaded import UnknownModelError

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
    return Response(body, status, {**own, **(headers or {})})


def told(error: ValidationError | RequestValidationError) -> str:
    """Returns the first faults of a request, without unknown keys and values, which are the caller's own text.

    Args:
        error: of pydantic.
    """
    if isinstance(error, RequestValidationError):
        return describe_faults(error.errors(), _OURS)
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return describe_faults(details, _OURS)


def answer_errors(api: FastAPI) -> None:
    """Returns every error as ``{"error": …}``.

    Args:
        api: the application.
    """

    @api.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Response:
        return refusal(error.status, str(error), reason=error.reason)

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
        return refusal(503, f"the model is busy: {error}")

    @api.exception_handler(NoFiniteAnswerError)
    async def no_answer(_: Request, error: NoFiniteAnswerError) -> Response:
        return refusal(500, str(error))

    @api.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> Response:
        # Starlette's own texts are the names of statuses.
        own = "" if error.detail == HTTPStatus(error.status_code).phrase else error.detail
        return refusal(error.status_code, own, dict(error.headers or {}))

    @api.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        return refusal(500)
