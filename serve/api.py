"""The HTTP interface of a served model, independent of Ray."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

import assay
from assay.report.card import Card
from serve import messages as m
from serve.limits.middleware import Bodies, Front
from serve.limits.refusals import describe_faults
from serve.limits.settings import Limits
from serve.model import MOST_EXPLAINED, RefusedError, ServedModel

MOST_BYTES = 1 << 20
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": m.Refusal} for status in (400, 403, 404, 413, 422, 500, 503)
}


def create_api(model: ServedModel, card: Card, *, public: bool) -> FastAPI:
    """Creates the HTTP interface of one model.

    Args:
        model: the model.
        card: its description with its evidence.
        public: whether calls from other machines are allowed.

    Returns:
        The FastAPI application.
    """
    api = FastAPI(
        title=f"Assay: {card.name}",
        version=assay.__version__,
        description=f"{card.artefact}. {card.intended_use} [Card](v1/models/{card.name}/card)",
        responses=_REFUSALS,
    )
    limits = replace(Limits.from_environment(), body=MOST_BYTES, public=public)
    api.add_middleware(Bodies, limits=limits)
    api.add_middleware(Front, limits=limits)
    _answer_errors(api)
    if model.differs_from_card:
        card = replace(card, warnings=(*card.warnings, model.differs_from_card))
    _health(api, card)
    _v2(api, model, card)
    _v1(api, model, card)
    return api


def _health(api: FastAPI, card: Card) -> None:
    @api.get("/", include_in_schema=False)
    def root() -> RedirectResponse:
        return RedirectResponse(f"v1/models/{card.name}/card?html=true")

    @api.get("/v2", tags=["health"])
    def server_metadata() -> m.ServerMetadata:
        return m.ServerMetadata(version=assay.__version__)

    @api.get("/v2/health/live", tags=["health"], response_model_exclude_none=True)
    def live() -> m.Health:
        return m.Health(live=True)

    @api.get("/v2/health/ready", tags=["health"], response_model_exclude_none=True)
    def ready() -> m.Health:
        return m.Health(ready=True)

    @api.get("/v2/models/{name}/ready", tags=["health"])
    def model_ready(name: str) -> m.ModelStatus:
        _known(card, name)
        return m.ModelStatus(name=card.name, ready=True)

    @api.get("/v1/models", tags=["health"])
    def models() -> m.ModelList:
        return m.ModelList(models=[card.name])


def _v2(api: FastAPI, model: ServedModel, card: Card) -> None:
    """Adds the calls of the Open Inference Protocol, with tensors as input and output."""

    @api.get("/v2/models/{name}", tags=["model"])
    def metadata(name: str) -> m.ModelMetadata:
        _known(card, name)
        return _metadata(model, card)

    @api.post("/v2/models/{name}/infer", tags=["model"], response_model_exclude_none=True)
    def infer(name: str, request: m.InferRequest) -> m.InferResponse:
        _known(card, name)
        return _infer(model, card, request)


def _v1(api: FastAPI, model: ServedModel, card: Card) -> None:
    """Adds the calls of KServe's first protocol and further ones, with records as input and named values as output."""

    @api.get("/v1/models/{name}", tags=["health"])
    def status(name: str) -> m.ModelStatus:
        _known(card, name)
        return m.ModelStatus(name=card.name, ready=True)

    @api.get("/v1/models/{name}/card", tags=["model"], response_model=None)
    def the_card(name: str, html: bool = False) -> HTMLResponse | JSONResponse:
        """Returns the model card: what the model is, its measured performance, and its warnings."""
        _known(card, name)
        return HTMLResponse(card.to_html()) if html else JSONResponse(card.to_json())

    @api.post("/v1/models/{name}:predict", tags=["model"])
    def predict(name: str, request: m.PredictRequest) -> m.PredictResponse:
        _known(card, name)
        return _predict(model, request)

    @api.post("/v1/models/{name}:explain", tags=["model"], response_model_exclude_none=True)
    def explain(name: str, request: m.ExplainRequest) -> m.ExplainResponse:
        """Returns each input's contribution to the predicted class: to its log-odds, or by SHAP to its lead."""
        _known(card, name)
        return _explain(model, request)

    @api.post("/v1/models/{name}:certify", tags=["model"])
    def certify(name: str, request: m.CertifyRequest) -> m.CertifyResponse:
        """Returns whether the predicted class is proven not to change if each input changes by at most ε."""
        _known(card, name)
        return _certify(model, request)


def _metadata(model: ServedModel, card: Card) -> m.ModelMetadata:
    dataset = model.dataset
    return m.ModelMetadata(
        name=card.name,
        versions=[card.trial],
        inputs=[_input(model)],
        outputs=[
            m.TensorInfo(name="probabilities", datatype="FP32", shape=[-1, dataset.classes]),
            m.TensorInfo(name="class_index", datatype="INT64", shape=[-1]),
        ],
        class_names=list(dataset.class_names),
        feature_names=list(dataset.feature_names),
        units=dataset.units,
        preprocessing=dataset.preprocessing,
        low=[] if model.reads_text else np.broadcast_to(dataset.low, dataset.shape).tolist(),
        high=[] if model.reads_text else np.broadcast_to(dataset.high, dataset.shape).tolist(),
        epsilons=list(dataset.epsilons),
        default_explanation=model.default.method.name,
        explanations=["integrated_gradients"] + ([] if model.unexplained else ["shap"]),
        certificates=not model.unbounded,
        threshold=model.threshold,
    )


def _infer(model: ServedModel, card: Card, request: m.InferRequest) -> m.InferResponse:
    (tensor,) = request.inputs
    if model.reads_text:
        raise RefusedError(f"this model reads texts: send them to /v1/models/{card.name}:predict")
    target, probabilities = model.predict(model.records(_nested(tensor, model.dataset.shape)))
    outputs = [
        m.OutputTensor(
            name="probabilities",
            datatype="FP32",
            shape=list(probabilities.shape),
            data=probabilities.flatten().tolist(),
        ),
        m.OutputTensor(
            name="class_index",
            datatype="INT64",
            shape=[len(probabilities)],
            data=target.tolist(),
        ),
    ]
    wanted: set[str] = {output.name for output in request.outputs}
    return m.InferResponse(
        model_name=card.name,
        model_version=card.trial,
        id=request.id,
        outputs=[output for output in outputs if not wanted or output.name in wanted],
    )


def _predict(model: ServedModel, request: m.PredictRequest) -> m.PredictResponse:
    names = model.dataset.class_names
    target, probabilities = model.predict(model.records(request.instances))
    return m.PredictResponse(
        predictions=[
            m.Prediction(class_name=names[k], class_index=k, probabilities=dict(zip(names, row, strict=True)))
            for k, row in zip(target.tolist(), probabilities.tolist(), strict=True)
        ]
    )


def _explain(model: ServedModel, request: m.ExplainRequest) -> m.ExplainResponse:
    explainer = model.explainer(request.method)
    fast = explainer.name == "integrated_gradients"
    x = model.records(request.instances, **({} if fast else {"most": MOST_EXPLAINED}))
    target, attribution = model.explain(x, request.method)
    what = "additivity" if explainer.from_background else "completeness"
    words: Sequence[list[str] | None] = model.words(request.instances) or [None] * len(x)
    return m.ExplainResponse(
        method=request.method if request.method == "shap" else explainer.name,
        compared_with=model.compared_with,
        faithfulness=model.stated_by_card(request.method),
        error_is=f"{what} error, relative to the change that is explained",
        explanations=[
            m.Explanation(
                class_name=model.dataset.class_names[k],
                words=text,
                attributions=values if text is None else values[: len(text)],
                error=error,
            )
            for k, text, values, error in zip(
                target.tolist(), words, attribution.values.tolist(), attribution.error.tolist(), strict=True
            )
        ],
    )


def _certify(model: ServedModel, request: m.CertifyRequest) -> m.CertifyResponse:
    epsilons = request.epsilons or list(model.dataset.epsilons)
    target, proven = model.certify(model.records(request.instances), epsilons)
    return m.CertifyResponse(
        units=model.dataset.units,
        epsilons=epsilons,
        certificates=[
            m.Certificate(class_name=model.dataset.class_names[k], certified=row)
            for k, row in zip(target.tolist(), proven.tolist(), strict=True)
        ],
    )


def _input(model: ServedModel) -> m.TensorInfo:
    if model.reads_text:
        return m.TensorInfo(name="records", datatype="BYTES", shape=[-1])
    return m.TensorInfo(name="records", datatype="FP32", shape=[-1, *model.dataset.shape])


def _known(card: Card, name: str) -> None:
    if name != card.name:
        raise HTTPException(404, f"no such model; this server has {card.name!r}")


def _nested(tensor: m.InputTensor, shape: tuple[int, ...]) -> list[Any]:
    """Returns the data of a tensor as records, for flat or nested data."""
    if tuple(tensor.shape[1:]) != shape:
        raise RefusedError(f"shape must be [records, {', '.join(map(str, shape))}]")
    flat = not isinstance(tensor.data[0] if tensor.data else None, list)
    count = len(tensor.data) // int(np.prod(shape)) if flat else len(tensor.data)
    if count != tensor.shape[0] or (flat and len(tensor.data) % int(np.prod(shape))):
        raise RefusedError("the data do not hold as many numbers as shape says")
    if not flat:
        return tensor.data
    size = int(np.prod(shape))
    rows = [tensor.data[place * size : (place + 1) * size] for place in range(count)]
    return rows if len(shape) == 1 else [_fold(row, shape) for row in rows]


def _fold(flat: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """Nests a flat list in row-major order."""
    if len(shape) == 1:
        return flat
    size = len(flat) // shape[0]
    return [_fold(flat[place * size : (place + 1) * size], shape[1:]) for place in range(shape[0])]


def _answer_errors(api: FastAPI) -> None:
    """Returns every error in one form, ``{"error": …}``, without the data of the request, which may be a patient's."""

    @api.exception_handler(RefusedError)
    def refused(_: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    @api.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        details = error.errors()
        if any(detail["type"] == "json_invalid" for detail in details):
            return JSONResponse({"error": "the body is no JSON"}, 400)
        return JSONResponse({"error": describe_faults(details, _OURS)}, 422)

    @api.exception_handler(StarletteHTTPException)
    def failed(_: Request, error: StarletteHTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @api.exception_handler(Exception)
    def broken(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": "the server failed on this call; its log says where"}, 500)


_OURS = {name for kind in vars(m).values() if hasattr(kind, "model_fields") for name in kind.model_fields}
