"""The layers between the network and the routes: limits, tokens, bodies.

Ray calls ``middlewares`` in its Python proxy, and in each replica behind HAProxy, where
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`` is ``serve.auth.layers:middlewares``. A replica whose process did not run
them applies them itself: ``Layers``.
"""

import os

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.auth.middleware import Authentication
from serve.auth.settings import AuthSettings
from serve.limits.admission import PASSED, Admission, holds
from serve.limits.bodies import Bodies
from serve.limits.connections import limit_connections
from serve.limits.settings import SECRET, Limits


def middlewares() -> list[Middleware]:
    """Returns the layers for Ray's proxies; the last is the outermost. Ray Serve calls this.

    Returns:
        Middlewares as Starlette has them.
    """
    limits = Limits.from_environment()
    limit_connections(limits)
    return [
        Middleware(Bodies, limits=limits),
        Middleware(Authentication, settings=AuthSettings.from_environment(), limits=limits),
        Middleware(Admission, limits=limits),
    ]


class Layers:
    """Middleware of an application that applies the layers unless the process that took the call has.

    Args:
        app: the application.
        limits: settings; by default those of the environment.
        settings: of authentication; by default those of the environment.
    """

    def __init__(self, app: ASGIApp, limits: Limits | None = None, settings: AuthSettings | None = None) -> None:
        self._app = app
        self._secret = os.environ.get(SECRET, "").encode()
        limits = limits or Limits.from_environment()
        self._layers = Admission(Authentication(Bodies(app, limits), settings, limits), limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and holds(scope["headers"], PASSED, self._secret):
            scope["headers"] = [header for header in scope["headers"] if header[0] != PASSED]
            await self._app(scope, receive, send)
        else:
            await self._layers(scope, receive, send)
