"""The description of all calls: ``/openapi.json``, and a page of it at ``/docs`` that loads nothing from elsewhere."""

import copy
from importlib import resources
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serve.routers.page import SAFE

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Calls of the served models</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon.png">
</head>
<body>
<div id="calls"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#calls", validatorUrl: null, presets: [SwaggerUIBundle.presets.apis], deepLinking: true,
  syntaxHighlight: false,
});
"""
_KINDS = {"js": "text/javascript", "css": "text/css", "png": "image/png"}
_TOKEN = {"type": "http", "scheme": "bearer", "description": "A token, where the service asks for one."}


def add_docs(api: FastAPI) -> None:
    """Adds the page of all calls, and completes their description.

    Args:
        api: the application, after its routes.
    """
    describe(api)
    # The files of Swagger UI, which this package brings.
    folder = resources.files("fastapi_offline") / "static"
    files = {name: (folder / name).read_bytes() for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon.png")}
    files["start.js"] = _START.encode()

    @api.get("/docs", include_in_schema=False)
    async def page() -> Response:
        return Response(_PAGE, media_type="text/html", headers=SAFE)

    @api.get("/docs/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "no such file")
        return Response(files[name], media_type=_KINDS[name.rpartition(".")[2]], headers=SAFE)


def describe(api: FastAPI) -> None:
    """Completes the description: what requests consist of, and how a token is sent.

    Args:
        api: the application.
    """
    by_fastapi = api.openapi
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(_completed(copy.deepcopy(by_fastapi())))
        return made

    api.openapi = openapi  # type: ignore[method-assign]


def _completed(description: dict[str, Any]) -> dict[str, Any]:
    """Moves the parts of requests, which ``documented`` leaves beside them, to the components."""
    components = description.setdefault("components", {})
    for path in description["paths"].values():
        for call in path.values():
            for content in call.get("requestBody", {}).get("content", {}).values():
                components["schemas"].update(content["schema"].pop("$defs", {}))
    components["securitySchemes"] = {"token": _TOKEN}
    # Either of both: a service on this machine may ask for none.
    return description | {"security": [{}, {"token": []}]}
