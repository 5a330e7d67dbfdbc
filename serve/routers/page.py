"""The page at ``/``, its files, and what it must know of a model."""

from importlib import resources

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serve.page.facts import facts_of
from serve.repository.loaded import Loaded
from serve.routers.replies import reply

SAFE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Headers of the page and of its files: nothing is loaded from elsewhere, and no script stands in the page."""
_KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css"}


def add_page(api: FastAPI, loaded: Loaded, *, public: bool) -> None:
    """Adds the page on which a reader asks the models.

    Args:
        api: the application.
        loaded: its models.
        public: whether others may open the page; they are shown no records.
    """
    folder = resources.files("serve.page")
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in _KINDS}

    @api.get("/", include_in_schema=False)
    async def page() -> Response:
        return _file("index.html")

    @api.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "no such file")
        return _file(name)

    # Not in the event loop: copies of training records are looked for among the test records.
    @api.get("/page/models/{name}", include_in_schema=False)
    @api.get("/page/models/{name}/versions/{version}", include_in_schema=False)
    def facts(name: str, version: str | None = None) -> Response:
        found = facts_of(loaded.find(name, version), loaded.versions(name), public=public)
        return reply(found, headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})

    def _file(name: str) -> Response:
        return Response(files[name], media_type=_KINDS[name.rpartition(".")[2]], headers=SAFE)
