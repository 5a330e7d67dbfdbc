"""The application of the page: what a browser may ask for. It reads results and changes none."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from assay.dashboard.access import Access
from assay.dashboard.comparison import MOST as MOST_COMPARED
from assay.dashboard.comparison import compared
from assay.dashboard.export import as_csv, as_study
from assay.dashboard.figures import Figures
from assay.dashboard.intervals import intervals_of
from assay.dashboard.live import TICK, Live
from assay.dashboard.record import of_training_records, record_of
from assay.dashboard.table import Row
from assay.dashboard.wire import Held, block
from assay.errors import UserError
from assay.store.columns import about_of

MOST_ROWS = 500
"""Greatest number of rows of which texts or intervals are asked for at a time."""
PING = 5.0
"""Seconds after which an open page hears from the server even if nothing happened."""
OVERVIEW = 0.5
"""Seconds after which an open page hears of the state of the folders, if it changed."""
MOST_PAGES = 64
"""Greatest number of pages that follow at once."""
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def create_app(live: Live, *, token: str, port: int, hosts: tuple[str, ...] = ()) -> FastAPI:
    """Creates the application.

    ``app.state.stopping`` may be replaced by a function that tells whether the server is to end: open pages are then
    let go.

    Args:
        live: the trials.
        token: that the address of the page must have.
        port: of the server.
        hosts: names by which the server may be asked for, besides those of this machine.

    Returns:
        The FastAPI application.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.stopping = lambda: False
    app.add_middleware(Access, token=token, port=port, hosts=hosts)

    @app.exception_handler(StarletteHTTPException)
    def failed(_: Request, error: StarletteHTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    @app.exception_handler(UserError)
    def refused(_: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    _files(app)
    _table(app, live)
    _records(app, live)
    _exports(app, live)
    return app


def _files(app: FastAPI) -> None:
    """Adds the page and its files: those of this package and no others, read once."""
    folder = resources.files("assay.dashboard") / "static"
    known = {file.name: (file.read_bytes(), _KINDS[f".{file.name.rpartition('.')[2]}"]) for file in folder.iterdir()}

    @app.get("/")
    def page() -> Response:
        content, kind = known["index.html"]
        return Response(content, media_type=kind)

    @app.get("/static/{name}")
    def file(name: str) -> Response:
        if name == "plotly.js":
            return Response(_plotly(), media_type="text/javascript", headers={"cache-control": "max-age=86400"})
        if name not in known:
            raise HTTPException(404, "no such file")
        content, kind = known[name]
        return Response(content, media_type=kind)


@lru_cache(maxsize=1)
def _plotly() -> bytes:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).encode()


def _table(app: FastAPI, live: Live) -> None:
    """Adds the columns of all trials, and the news of them."""
    trials, open_pages = live.trials, [0]

    @app.get("/api/columns")
    def columns(epoch: str = "", since: int = 0, schema: int = -1) -> Response:
        return Response(block(trials, Held(epoch, schema, since)), media_type="application/octet-stream")

    @app.get("/api/overview")
    def overview() -> list[dict[str, Any]]:
        return live.overview()

    @app.get("/api/events")
    async def events(request: Request) -> StreamingResponse:
        if open_pages[0] >= MOST_PAGES:
            raise HTTPException(503, f"{MOST_PAGES} pages follow already; close some")
        return StreamingResponse(_news(live, request, open_pages), media_type="text/event-stream")

    @app.post("/api/rows")
    async def rows(request: Request) -> list[dict[str, Any]]:
        numbers = await _numbers(request, trials.count)
        with trials.lock:
            return [_texts(live, number) for number in numbers]

    @app.post("/api/intervals")
    async def intervals(request: Request) -> dict[str, Any]:
        numbers = await _numbers(request, trials.count)
        chosen = [trials.row(number) for number in numbers]
        return {"intervals": await asyncio.to_thread(lambda: [intervals_of(_rows(live, row)) for row in chosen])}

    @app.get("/api/find")
    def find(ids: str = "") -> list[dict[str, Any]]:
        with trials.lock:
            return [_texts(live, row) for row in trials.find(ids.split(",")[:MOST_ROWS])]


async def _news(live: Live, request: Request, open_pages: list[int]) -> AsyncIterator[str]:
    """Returns events for one page: the version of the table when it changes, and the state of the folders."""
    open_pages[0] += 1
    told: tuple[Any, ...] = ()
    shown, spoke, looked = "", 0.0, 0.0
    try:
        while not request.app.state.stopping() and not await request.is_disconnected():
            trials, now = live.trials, time.monotonic()
            if (trials.version, trials.schema) != told:
                told = trials.version, trials.schema
                facts = {"epoch": trials.epoch, "version": told[0], "schema": told[1]}
                yield f"event: rows\ndata: {json.dumps(facts)}\n\n"
                spoke = now
            if now - looked >= OVERVIEW:
                looked = now
                overview = await asyncio.to_thread(live.overview)
                text = json.dumps([_steady(one) for one in overview])
                if text != shown:
                    yield f"event: overview\ndata: {json.dumps(overview)}\n\n"
                    shown, spoke = text, now
            if now - spoke >= PING:
                yield ": still here\n\n"
                spoke = now
            await asyncio.sleep(TICK)
    finally:
        open_pages[0] -= 1


def _steady(one: dict[str, Any]) -> dict[str, Any]:
    """Returns the state of a folder without what changes each second."""
    progress = one["progress"]
    return {**one, "progress": progress and {key: value for key, value in progress.items() if key != "beat"}}


def _records(app: FastAPI, live: Live) -> None:
    """Adds the record of one trial, its figures, and the comparison of several."""
    figures = Figures()

    @app.get("/api/trials/{trial}")
    def record(trial: str) -> dict[str, Any]:
        number, row = _row(live, trial)
        rows, folder = _rows(live, row), live.folders[row.folder]
        withheld = of_training_records(rows)
        if withheld is None:
            withheld = figures.withheld(folder.location, row.place)
        with live.trials.lock:
            texts = _texts(live, number)
        stored = [one._asdict() for one in folder.reader.files_of(row.place, about_of(rows).get("training") or trial)]
        return {**texts, **record_of(rows, withheld=withheld), "location": folder.location, "files": stored}

    @app.get("/api/trials/{trial}/figures")
    def drawn(trial: str) -> dict[str, Any]:
        _, row = _row(live, trial)
        return figures.drawn(live.folders[row.folder].location, row.place)

    @app.get("/api/compare")
    def compare(trials: str) -> dict[str, Any]:
        asked = trials.split(",")
        if not 2 <= len(asked) <= MOST_COMPARED:
            raise HTTPException(422, f"{len(asked)} trials; compare two to {MOST_COMPARED}")
        chosen = [_row(live, trial)[1] for trial in asked]
        sweeps = {row.folder: live.folders[row.folder].kind == "sweep" for row in chosen}
        tables = [_rows(live, row) for row in chosen]
        return compared(live, chosen, tables, sweeps, figures)


def _exports(app: FastAPI, live: Live) -> None:
    """Adds the selection as a file."""
    trials = live.trials

    @app.post("/api/export.csv")
    async def csv(request: Request) -> Response:
        numbers = await _numbers(request, trials.count, most=trials.count)
        return Response(await asyncio.to_thread(as_csv, trials, numbers), media_type="text/csv")

    @app.post("/api/export.yaml")
    async def study(request: Request) -> Response:
        numbers = await _numbers(request, trials.count, most=trials.count)
        text = await asyncio.to_thread(as_study, live, [trials.row(number) for number in numbers])
        return Response(text, media_type="application/yaml")


async def _numbers(request: Request, count: int, most: int = MOST_ROWS) -> list[int]:
    """Returns the numbers of rows that a request holds as uint32."""
    body = await request.body()
    if len(body) % 4 or len(body) > 4 * most:
        raise HTTPException(422, f"ask for at most {most} rows, each as four bytes")
    numbers = np.frombuffer(body, "<u4")
    if len(numbers) and int(numbers.max()) >= count:
        raise HTTPException(422, f"there are {count} rows")
    return [int(number) for number in numbers]


def _texts(live: Live, number: int) -> dict[str, Any]:
    """Returns what names a row, and its error."""
    row, values = live.trials.row(number), live.trials.values(number)
    named = {key: values[key] for key in ("study", "cohort", "dataset", "model", "recipe", "fold", "repeat", "state")}
    named = {key: int(value) if isinstance(value, float) else value for key, value in named.items()}
    return {"row": number, "trial": row.place[1], "error": live.trials.error(number), **named}


def _row(live: Live, trial: str) -> tuple[int, Row]:
    with live.trials.lock:
        found = live.trials.find([trial])
        if not found:
            raise HTTPException(404, "no such trial in these folders")
        return found[0], live.trials.row(found[0])


def _rows(live: Live, row: Row) -> Any:
    return live.folders[row.folder].rows(row.place)
