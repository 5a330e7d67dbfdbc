"""Limits that apply before a request is read: calls from other machines, and bodies that are too long."""

import json
from ipaddress import ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


class BodyLimit:
    """Middleware that answers status 413 to a body of more than ``most`` bytes, whether or not its length is announced.

    Args:
        app: the application behind it.
        most: greatest length of a body in bytes.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._most:
                await refuse_request(
                    send, 413, f"the body is longer than {self._most} bytes; send fewer records at a time"
                )
                return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, replay, send)


class LoopbackOnly:
    """Middleware that answers status 403 to calls from other machines, and to web pages that use another host name.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not (_from_here(scope) and _asks_for_here(scope)):
            why = "this model is served on its own machine only; serve it with public=true to let others call it"
            await refuse_request(send, 403, why)
            return
        await self._app(scope, receive, send)


async def refuse_request(send: Send, status: int, why: str) -> None:
    """Sends an error in the form that all calls use.

    Args:
        send: of the ASGI server.
        status: HTTP status.
        why: message.
    """
    body = json.dumps({"error": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _from_here(scope: Scope) -> bool:
    caller = scope.get("client")
    try:
        return caller is not None and ip_address(caller[0]).is_loopback
    except ValueError:
        return False


def _asks_for_here(scope: Scope) -> bool:
    """Returns whether the Host header names this machine; DNS rebinding of a web page is thereby refused."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return name in _LOCAL_NAMES
