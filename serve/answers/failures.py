"""What a call that failed is told, the same for every protocol."""

from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

import serve.messages as m
from serve.audit_log.decision import LogFullError
from serve.batching import FullError
from serve.limits.refusals import describe_faults, text_of
from serve.model import NoFiniteAnswerError
from serve.refusals import RefusedError
from serve.repository.loaded import UnfitError, UnknownModelError

_FIELDS = {name for kind in vars(m).values() if hasattr(kind, "model_fields") for name in kind.model_fields}


@dataclass(frozen=True)
class Failure:
    """Why a call failed."""

    status: int
    """HTTP status."""
    message: str
    reason: str = ""
    """Code for programs."""


def failure(error: Exception) -> Failure:
    """Returns why a call failed; nothing of an error that was not foreseen.

    Args:
        error: that ended the call.
    """
    if isinstance(error, RefusedError):
        return Failure(error.status, str(error), error.reason)
    if isinstance(error, ValidationError | RequestValidationError):
        return Failure(422, faults_of(error))
    if isinstance(error, FullError):
        return Failure(503, f"the model is busy: {error}")
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), None)
    return Failure(500, text_of(500)) if status is None else Failure(status, str(error))


_STATUSES: dict[type[Exception], int] = {
    UnknownModelError: 404,
    LogFullError: 503,
    UnfitError: 503,
    NoFiniteAnswerError: 500,
}


def faults_of(error: ValidationError | RequestValidationError) -> str:
    """Returns the first faults of a request, without unknown keys and values, which are the caller's own text.

    Args:
        error: of pydantic.
    """
    if isinstance(error, RequestValidationError):
        return describe_faults(error.errors(), _FIELDS)
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return describe_faults(details, _FIELDS)
