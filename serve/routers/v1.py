"""Calls of KServe's first protocol and further ones: records as input, named values as output."""

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from serve import answer_messages as responses
from serve import messages as m
from serve.answers.certificates import ABOUT, certificates
from serve.answers.explanations import about_explanations, explanations
from serve.answers.overlays import add_overlays, require_overlays
from serve.answers.predictions import predictions
from serve.answers.warned import warned
from serve.answers.whole import whole_answers
from serve.audit_log.decision import Hook
from serve.inputs.read import MOST_RECORDS
from serve.model import MOST_EXPLAINED
from serve.refusals import RefusedError
from serve.repository.loaded import Loaded
from serve.repository.online import Online
from serve.routers.documented import add_call, documented
from serve.routers.events import DESCRIPTION, EVENTS, explanation_events
from serve.routers.noting import Note, classes_of
from serve.routers.paths import MODEL, VERSION
from serve.routers.reading import read, records_of
from serve.routers.replies import reply

_CARD: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}
"""A card may be a page too."""


def add_v1(api: FastAPI, loaded: Loaded, log: Hook | None = None) -> None:
    """Adds the calls under ``/v1/models``.

    Args:
        api: the application.
        loaded: its models.
        log: takes what is answered.
    """

    for path in (f"/v1/models/{MODEL}:%s", f"/v1/models/{MODEL}/versions/{VERSION}:%s"):
        for call, (answer, asked, answered) in CALLS.items():
            about = documented(asked, answered, stream=DESCRIPTION if call == "explain" else None)
            _add(api, loaded, path % call, answer, about, log=log)

    @api.get(f"/v1/models/{MODEL}/card", tags=["model"], response_model=None, responses=_CARD)
    @api.get(f"/v1/models/{MODEL}/versions/{VERSION}/card", tags=["model"], response_model=None, responses=_CARD)
    async def card(name: str, html: bool = False, version: str | None = None) -> Response:
        """Returns the model card: what the model is, its measured performance, and its warnings."""
        model_card = loaded.find(name, version).card
        return HTMLResponse(model_card.to_html()) if html else reply(model_card.to_json())


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
    predicted = predictions(online.model, await online.logits(records.x), records)
    await note(records, classes_of(online, predicted))
    return reply({"predictions": predicted, **online.origin})


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
        return StreamingResponse(explanation_events(about, records, first, pieces), media_type=EVENTS)
    explained = warned([*first, *[one async for piece in pieces for one in piece]], records)
    await note(records, classes_of(online, explained))
    if asked.overlay:
        about["overlay_scale"] = await add_overlays(online.model, explained, records)
    return reply({**about, "explanations": explained})


async def certify(online: Online, request: Request, note: Note) -> Response:
    """Returns whether the predicted class is proven not to change if each input changes by at most ε."""
    asked = await read(request, m.CertifyRequest, images=online.model.reads_images)
    records = await records_of(online.model, asked)
    epsilons = asked.epsilons or list(online.model.dataset.epsilons)
    certified = warned(await certificates(online, records.x, epsilons), records)
    await note(records, classes_of(online, certified))
    units = online.model.dataset.units
    return reply({**ABOUT, "units": units, "epsilons": epsilons, "certificates": certified, **online.origin})


async def answer(online: Online, request: Request, note: Note) -> Response:
    """Returns everything about each record: class, prediction set, abstention, explanation and certificate."""
    asked = await read(request, m.AnswerRequest, images=online.model.reads_images)
    if asked.overlay:
        require_overlays(online.model, len(asked.instances))
    records = await records_of(online.model, asked, most=MOST_EXPLAINED)
    whole = await whole_answers(online, records, explain=asked.explain, certify=asked.certify, overlay=asked.overlay)
    left = [one["left_to_clinician"]["left"] for one in whole["answers"]]
    await note(records, classes_of(online, whole["answers"]), left)
    return reply(whole)


CALLS: dict[str, tuple[Any, type, type]] = {
    "predict": (predict, m.PredictRequest, responses.PredictResponse),
    "explain": (explain, m.ExplainRequest, responses.ExplainResponse),
    "certify": (certify, m.CertifyRequest, responses.CertifyResponse),
    "answer": (answer, m.AnswerRequest, responses.AnswerResponse),
}
"""Function, request and response of each call."""
