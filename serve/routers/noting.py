"""Hands what the routes answered to the decision log, before the answer is sent."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.audit_log.decision import Decision, Hook, Refused
from serve.auth.middleware import CALLER
from serve.inputs.records import Records
from serve.repository.online import Online


class Note:
    """Notes the answer to one call.

    Args:
        log: takes it; None keeps nothing.
        online: the version that answers.
        call: name of the call.
        request: of the caller.
    """

    def __init__(self, log: Hook | None, online: Online, call: str, request: Request) -> None:
        self._log, self._online, self._call, self._request = log, online, call, request

    async def __call__(
        self, records: Records, classes: Sequence[int] | np.ndarray, left: Sequence[bool | None] | None = None
    ) -> None:
        """Notes the answer, and waits for its line where the log says so.

        Args:
            records: of the call.
            classes: predicted class of each.
            left: whether each was left to the clinician, None for one of which that is not known; None for other calls.

        Raises:
            LogFullError: it cannot be noted, and must not be given then.
        """
        if self._log is None:
            return
        written = self._log(
            Decision(
                model=self._online.name,
                version=self._online.version,
                artefact=self._online.artefact,
                call=self._call,
                body=await self._request.body(),
                records=records.x,
                classes=classes,
                left=left,
                request_id=self._request.headers.get("x-request-id", ""),
                token=self._request.headers.get(CALLER.decode(), ""),
            )
        )
        if written is not None:
            await asyncio.wrap_future(written)


def classes_of(online: Online, found: Sequence[dict[str, Any]]) -> list[int]:
    """Returns the class index of each answer.

    Args:
        online: the version that answered.
        found: one mapping a record, with the name of its class.
    """
    places = {name: k for k, name in enumerate(online.model.dataset.class_names)}
    return [places[one["class_name"]] for one in found]


class CountRefusals:
    """Middleware that tells the log the status of each call that was refused, wherever that happened.

    Args:
        app: the application behind it.
        log: takes the status.
    """

    def __init__(self, app: ASGIApp, log: Hook) -> None:
        self._app, self._log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                self._log(Refused(message["status"]))
            await send(message)

        await self._app(scope, receive, noted)
