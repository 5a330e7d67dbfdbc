"""Reads the body of a request: JSON, or an image file; and the records that it holds."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

from serve.inputs.images import KINDS
from serve.inputs.read import MOST_RECORDS
from serve.inputs.records import Records
from serve.inputs.strict_json import LONGEST_STRING, parse_json
from serve.messages import RecordsRequest
from serve.model import ServedModel

Body = TypeVar("Body", bound=BaseModel)
_DECODING = ThreadPoolExecutor(1, thread_name_prefix="decoding")
"""The thread in which images are decoded: one call at a time, so that its memory does not grow with calls."""


async def read(request: Request, kind: type[Body], *, images: bool = False) -> Body:
    """Reads and checks the body of a request.

    A body without Content-Type is taken for JSON, for clients of the Open Inference Protocol send none.

    Args:
        request: of the caller.
        kind: what its body must be.
        images: whether the model takes images: then a string may be as long as the body, and the body may be an image
            file, which is one record.

    Returns:
        The body.

    Raises:
        RefusedError: it is not JSON.
        HTTPException: it says that it is something else (415).
        ValidationError: it is not of this kind.
    """
    file = KINDS.get(_content_type(request)) if images and _is_plain(request) else None
    if file is not None:
        return kind.model_validate({"instances": [{file: await request.body()}]})
    require_json(request)
    body = await request.body()
    return parse(body, kind, longest_string=len(body) if images else LONGEST_STRING)


async def records_of(model: ServedModel, asked: RecordsRequest, *, most: int = MOST_RECORDS) -> Records:
    """Reads the records of a request. Images are decoded in a thread, and other calls are answered meanwhile.

    Args:
        model: that answers.
        asked: the body.
        most: greatest number of records.

    Returns:
        The records.

    Raises:
        RefusedError: they are none that the model takes.
    """
    read = partial(model.read, asked.instances, most=most, about=asked.about)
    if model.reads_images and type(asked.instances[0]) is dict:
        return await asyncio.get_running_loop().run_in_executor(_DECODING, read)
    return read()


def parse(body: bytes, kind: type[Body], *, longest_string: int = LONGEST_STRING) -> Body:
    """Parses JSON and checks it.

    Args:
        body: the JSON.
        kind: what it must be.
        longest_string: greatest length of a string in bytes.

    Returns:
        The body.

    Raises:
        RefusedError: it is not JSON (400).
        ValidationError: it is not of this kind.
    """
    return kind.model_validate(parse_json(body, longest_string=longest_string))


def require_json(request: Request) -> None:
    """Refuses a body that is encoded, or that says it is not JSON.

    Args:
        request: of the caller.

    Raises:
        HTTPException: 415.
    """
    if not _is_plain(request):
        raise HTTPException(415, "send the body as it is: Content-Encoding is not supported")
    if _content_type(request) not in ("application/json", "application/octet-stream", ""):
        raise HTTPException(415, "send JSON with the header Content-Type: application/json")


def _is_plain(request: Request) -> bool:
    return request.headers.get("content-encoding", "identity") == "identity"


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
