"""Calls of KServe's first protocol and further ones: records as input, named values as output."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from serve import messages as m
from serve.answers.certificates import ABOUT, certificates
from serve.answers.explanations import about_explanations, explanations
from serve.answers.overlays import add_overlays, require_overlays
from serve.answers.predictions import predictions
from serve.answers.warned import warned
from serve.answers.whole import whole_answers
from serve.audit_log.decision import Hook
from serve.inputs.read import MOST_RECORDS
from serve.inputs.records import Records
from serve.model import MOST_EXPLAINED
from serve.refusals import RefusedError
from serve.repository.loaded import Loaded
from serve.repository.online import Online
from serve.routers.documented import add_call, documented
from serve.routers.noting import Note, classes_of
from serve.routers.paths import MODEL, VERSION
from serve.routers.reading import read, records_of
from serve.routers.replies import reply

EVENTS = "text/event-stream"


def add_v1(api: FastAPI, loaded: Loaded, log: Hook | None = None) -> None:
    """Adds the calls under ``/v1/models``.

    Args:
        api: the application.
        loaded: its models.
        log: takes what is answered.
    """

    for path in (f"/v1/models/{MODEL}:%s", f"/v1/models/{MODEL}/versions/{VERSION}:%s"):
        for call, (answer, asked, answered) in CALLS.items():
            _add(api, loaded, path % call, answer, documented(asked, answered), log=log)

    @api.get(f"/v1/models/{MODEL}/card", tags=["model"], response_model=None)
    @api.get(f"/v1/models/{MODEL}/versions/{VERSION}/card", tags=["model"], response_model=None)
    async def card(name: str, html: bool = False, version: str | None = None) -> Response:
        """Returns the model card: what the model is, its measured performance, and its warnings."""
        own = loaded.find(name, version).card
        return HTMLResponse(own.to_html()) if html else reply(own.to_json())


def _add(api: FastAPI, loaded: Loaded, path: str, answer: Any, about: dict[str, Any], *, log: Hook | None) -> None:
    async def call(name: str, request: Request, version: str | None = None) -> Response:
        online = loaded.find(name, version)
        replied: Response = await answer(online, request, Note(log, online, answer.__name__, request))
        return replied

    call.__doc__ = answer.__doc__
    add_call(api, path, call, tags=["model"], name=answer.__name__, **about)


async def predict(online: Online, request: Request, note: Note) -> Response:
    """Returns the predicted class of each record, with all probabilities."""
    asked = await read(request, m.PredictRequest, images=online.model.reads_images)
    records = await records_of(online.model, asked)
    found = predictions(online.model, await online.logits(records.x), records)
    await note(records, classes_of(online, found))
    return reply({"predictions": found, **online.origin})


async def explain(online: Online, request: Request, note: Note) -> Response:
    """Returns each input's contribution to the predicted class: to its log-odds, or by SHAP to its lead.

    With ``Accept: text/event-stream`` the explanations come as they are made, as server-sent events.
    """
    asked = await read(request, m.ExplainRequest, images=online.model.reads_images)
    streamed = request.headers.get("accept") == EVENTS
    if asked.overlay:
        require_overlays(online.model, len(asked.instances))
        if streamed:
            raise RefusedError("overlays share one scale, which is known at the end: ask for them without a stream")
    fast = online.model.explainer(asked.method).name == "integrated_gradients"
    records = await records_of(online.model, asked, most=MOST_RECORDS if fast else MOST_EXPLAINED)
    about = {**about_explanations(online.model, asked.method), **online.origin}
    pieces = explanations(online, records.x, asked.method, records.words)
    first = await anext(pieces)  # what cannot be explained is refused before anything is sent
    if streamed:
        # Noted before anything is sent, so with classes of its own: they are those that are explained.
        await note(records, online.model.decisions(await online.logits(records.x)).tolist())
        return StreamingResponse(_events(about, records, first, pieces), media_type=EVENTS)
    found = warned([*first, *[one async for piece in pieces for one in piece]], records)
    await note(records, classes_of(online, found))
    if asked.overlay:
        about["overlay_scale"] = await add_overlays(online.model, found, records)
    return reply({**about, "explanations": found})


async def certify(online: Online, request: Request, note: Note) -> Response:
    """Returns whether the predicted class is proven not to change if each input changes by at most ε."""
    asked = await read(request, m.CertifyRequest, images=online.model.reads_images)
    records = await records_of(online.model, asked)
    epsilons = asked.epsilons or list(online.model.dataset.epsilons)
    found = warned(await certificates(online, records.x, epsilons), records)
    await note(records, classes_of(online, found))
    units = online.model.dataset.units
    return reply({**ABOUT, "units": units, "epsilons": epsilons, "certificates": found, **online.origin})


async def answer(online: Online, request: Request, note: Note) -> Response:
    """Returns everything about each record: class, prediction set, abstention, explanation and certificate."""
    asked = await read(request, m.AnswerRequest, images=online.model.reads_images)
    if asked.overlay:
        require_overlays(online.model, len(asked.instances))
    records = await records_of(online.model, asked, most=MOST_EXPLAINED)
    found = await whole_answers(online, records, explain=asked.explain, certify=asked.certify, overlay=asked.overlay)
    left = [one["left_to_clinician"]["left"] for one in found["answers"]]
    await note(records, classes_of(online, found["answers"]), left)
    return reply(found)


CALLS: dict[str, tuple[Any, type, type]] = {
    "predict": (predict, m.PredictRequest, m.PredictResponse),
    "explain": (explain, m.ExplainRequest, m.ExplainResponse),
    "certify": (certify, m.CertifyRequest, m.CertifyResponse),
    "answer": (answer, m.AnswerRequest, m.AnswerResponse),
}
"""Function, request and response of each call."""


async def _events(
    about: dict[str, Any], records: Records, first: list[dict[str, Any]], pieces: AsyncIterator[list[dict[str, Any]]]
) -> AsyncIterator[bytes]:
    """Yields what holds for all explanations, then each of them with the progress, as server-sent events."""
    yield _event("about", about)
    done, total = 0, len(records.x)
    for_now: list[dict[str, Any]] | None = first
    while for_now is not None:
        explained = warned(for_now, records, first=done)
        done += len(for_now)
        yield _event("explanations", {"done": done, "of": total, "explanations": explained})
        for_now = await anext(pieces, None)
    yield _event("end", {"done": done, "of": total})


def _event(name: str, content: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps(content))
