"""Gives every error that a process sends the same form: ``{"error": ...}``, short, without what the caller sent."""

from starlette.types import Message, Send

from serve.limits.refusals import RETRIED, error_body, error_headers, text_of


async def refuse(send: Send, status: int, message: str = "", *, retry_after: int = 1) -> None:
    """Sends an error in the form that all calls use.

    Args:
        send: of the ASGI server.
        status: HTTP status.
        message: what is wrong and what is allowed; by default the text of the status.
        retry_after: seconds after which the caller may try again, where that helps.
    """
    body = error_body(message or text_of(status))
    headers = error_headers(status, len(body), retry_after=retry_after)
    if status in (400, 408, 413):
        # What is still to come of the body is not read.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Answer:
    """Sends an answer on, and replaces errors that are not in our form.

    Args:
        send: of the ASGI server.
        retry_after: seconds after which a caller may try again.
    """

    def __init__(self, send: Send, retry_after: int) -> None:
        self._send, self._retry_after = send, retry_after
        self.started = False
        self._replaced = False

    async def send(self, message: Message) -> None:
        """Sends a message of ASGI.

        Args:
            message: of the application.
        """
        if message["type"] == "http.response.start":
            self.started = True
            await self._start(message)
        elif not self._replaced:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        status, headers = message["status"], message.setdefault("headers", [])
        if status < 400:
            await self._send(message)
            return
        given = {bytes(name).lower(): bytes(value) for name, value in headers}
        if given.get(b"content-type", b"").startswith(b"application/json"):
            if status in RETRIED and b"retry-after" not in given:
                message["headers"] = [*headers, (b"retry-after", str(self._retry_after).encode())]
            await self._send(message)
        else:
            self._replaced = True
            body = error_body(text_of(status))
            kept = [(name, given[name]) for name in (b"x-request-id", b"retry-after", b"allow") if name in given]
            own = error_headers(status, len(body), retry_after=self._retry_after)
            known = [name for name, _ in kept]
            own = [(name, value) for name, value in own if name not in known]
            await self._send({"type": "http.response.start", "status": status, "headers": [*own, *kept]})
            await self._send({"type": "http.response.body", "body": body})
