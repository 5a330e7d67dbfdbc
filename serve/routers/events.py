"""Explanations as server-sent events: they come as they are made.

The events are ``about`` with what holds for all (``answer_messages.AboutExplanations``, and the origin),
``explanations`` with the next ones and the progress, and as the last one ``end``, or ``error`` where no more will
come. Each but the first has ``done`` and ``of``.
"""

import logging
from collections.abc import AsyncIterator
from typing import Any

import orjson

from serve.answers.failures import failure
from serve.answers.warned import warned
from serve.inputs.records import Records

EVENTS = "text/event-stream"
"""Content-Type of the stream, and the Accept that asks for it."""
DESCRIPTION = (
    "`about`: what holds for all explanations; `explanations`: the next ones, with `done` and `of`; then `end` with "
    "`done` and `of`, or `error` with these and `status`, `error` and `reason` as in error responses: no more will "
    "come, and explanations sent before it are complete."
)
_LOGGER = logging.getLogger(__name__)


async def explanation_events(
    about: dict[str, Any], records: Records, first: list[dict[str, Any]], pieces: AsyncIterator[list[dict[str, Any]]]
) -> AsyncIterator[bytes]:
    """Yields what holds for all explanations, then each of them with the progress.

    Args:
        about: what holds for all.
        records: of the call.
        first: the first explanations.
        pieces: the others.
    """
    yield _event("about", about)
    done, total = 0, len(records.x)
    piece: list[dict[str, Any]] | None = first
    try:
        while piece is not None:
            explained = warned(piece, records, first=done)
            done += len(piece)
            yield _event("explanations", {"done": done, "of": total, "explanations": explained})
            piece = await anext(pieces, None)
    except Exception as error:  # the status 200 was sent long ago, so whatever happened must be told here
        failed = failure(error)
        if failed.status == 500:
            _LOGGER.exception("a stream of explanations ended after %d of %d records", done, total)
        told = {"status": failed.status, "error": failed.message, "reason": failed.reason}
        yield _event("error", {"done": done, "of": total, **told})
        return
    yield _event("end", {"done": done, "of": total})


def _event(name: str, content: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(content))
