"""What a call that failed is told, the same for every protocol."""

from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

import serve.messages as m
from serve.batching import FullError
from serve.model import NoFiniteAnswerError
from serve.refusals import RefusedError
from serve.repository.loaded import UnknownModelError

OURS = "the server failed on this call; its log says where"
_MOST_ERRORS = 5
"""Errors of one request that are named; the others are counted."""
_OURS = {name for kind in vars(m).values() if hasattr(kind, "model_fields") for name in kind.model_fields}


def failure(error: Exception) -> tuple[int, str]:
    """Returns the HTTP status and the message of an error; nothing of an error that was not foreseen.

    Args:
        error: that ended the call.

    Returns:
        Status and message.
    """
    if isinstance(error, RefusedError):
        return error.status, str(error)
    if isinstance(error, ValidationError):
        return 422, told(error)
    if isinstance(error, UnknownModelError):
        return 404, str(error)
    if isinstance(error, FullError):
        return 503, f"the model is busy: {error}"
    if isinstance(error, NoFiniteAnswerError):
        return 500, str(error)
    return 500, OURS


def told(error: ValidationError | RequestValidationError) -> str:
    """Returns the first errors of a request, without unknown keys and values, which are the caller's own text.

    Args:
        error: of pydantic.
    """
    details = error.errors() if isinstance(error, RequestValidationError) else _first(error)
    lines = list(dict.fromkeys(map(_told, details[:_MOST_ERRORS])))
    more = len(details) - _MOST_ERRORS
    return "; ".join([*lines, f"and {more} more"] if more > 0 else lines)


def _first(error: ValidationError) -> list[Any]:
    return error.errors(include_url=False, include_context=False, include_input=False)


def _told(detail: Any) -> str:
    where = [str(part) for part in detail["loc"] if isinstance(part, int) or part in _OURS]
    if detail["type"] == "extra_forbidden":
        return f"{'.'.join(where) or 'the body'} holds a key that is not allowed"
    return f"{'.'.join(where) or 'the body'}: {detail['msg']}"
