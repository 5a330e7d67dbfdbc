"""Figures of the service for Prometheus, at ``/metrics``: calls, times, batches, waiting records, refusals."""

import re
import time
from collections.abc import Iterator
from functools import cache

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assay.errors import UserError
from serve.auth.tokens import read_tokens
from serve.repository.loaded import Loaded

NOTED = "assay.noted"
"""Key of an ASGI scope under which the layers note ``call``, ``model`` and ``reason``. They are given copies of the
scope, all of which share this dictionary."""
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_CODE = re.compile(r"[a-z_]{1,40}")
_REASONS = {
    400: "malformed",
    401: "no_token",
    403: "not_allowed",
    404: "unknown",
    405: "wrong_method",
    408: "too_slow",
    413: "too_long",
    415: "content_type",
    422: "invalid",
    429: "too_many",
    431: "headers_too_long",
    503: "busy",
    504: "too_late",
}


class Metrics:
    """Figures of one replica, in a registry of their own. No label holds anything of a request: models are named once
    they are known to be loaded, calls by the names of their functions.

    Args:
        loaded: the models.
        tokens: file of the tokens of those who may call; empty without one.
    """

    def __init__(self, loaded: Loaded, *, tokens: str = "") -> None:
        self._loaded = loaded
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "assay_serve_calls", "Calls, by their answers.", ("call", "model", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "assay_serve_seconds",
            "Seconds from the first byte of an answered call to the last of its answer.",
            ("call", "model"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._refused = Counter(
            "assay_serve_refusals", "Calls without an answer, by the reason.", ("reason",), registry=self.registry
        )
        self.registry.register(_Batches(loaded))
        if tokens:
            usable = "1 while the file of tokens can be used, else 0: then no token is accepted, and the log says why."
            Gauge("assay_serve_tokens_usable", usable, registry=self.registry).set_function(lambda: _usable(tokens))
        # Looking for a label by its texts costs more than counting.
        self._counted = cache(lambda call, model, status: self._calls.labels(call, model, str(status)))
        self._timed = cache(self._seconds.labels)

    def observe(self, call: str, model: str, status: int, seconds: float, reason: str = "") -> None:
        """Counts a call.

        Args:
            call: its name.
            model: that it asked; empty for what is not loaded.
            status: HTTP status, also that which stands for one of gRPC.
            seconds: that it took.
            reason: code of an error; by default that of its status.
        """
        self._counted(call, model, status).inc()
        if status < 400:
            self._timed(call, model).observe(seconds)
        else:
            known = reason if _CODE.fullmatch(reason) else _REASONS.get(status, "failed" if status >= 500 else "other")
            self._refused.labels(known).inc()


class Measure:
    """Middleware, the outermost, that counts calls, whatever answered them.

    Args:
        app: the application behind it.
        metrics: that count.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        noted: dict[str, str] = {}

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope[NOTED] = noted
        try:
            await self._app(scope, receive, sent)
        finally:
            told = noted.get("call", "none"), noted.get("model", "")
            self._metrics.observe(*told, status, time.perf_counter() - began, noted.get("reason", ""))


class NameCall:
    """Middleware, the innermost, that notes the name of a call and of its model.

    Args:
        app: the routes.
        loaded: the models.
    """

    def __init__(self, app: ASGIApp, loaded: Loaded) -> None:
        self._app, self._loaded = app, loaded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if (route := scope.get("route")) is not None:
                asked = scope["path_params"].get("name", "")
                model = asked if asked in self._loaded.names else ""
                scope.get(NOTED, {}).update(call=route.name, model=model)


def add_metrics(api: FastAPI, metrics: Metrics) -> None:
    """Adds the page that Prometheus reads.

    Args:
        api: the application.
        metrics: of this replica.
    """

    @api.get("/metrics", include_in_schema=False)
    async def figures() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _usable(tokens: str) -> float:
    try:
        read_tokens(tokens)
    except (OSError, UserError):
        return 0.0
    return 1.0


class _Batches(Collector):
    """Sizes of batches and numbers of waiting records, as the batchers know them."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def collect(self) -> Iterator[Metric]:
        labels = ("model", "version", "work")
        waiting = GaugeMetricFamily("assay_serve_waiting_records", "Records that wait for a batch.", labels=labels)
        sizes = HistogramMetricFamily("assay_serve_batch_records", "Records of a batch.", labels=labels)
        for online in self._loaded.online():
            for work, batcher in online.batchers.items():
                about = online.name, online.version, work
                waiting.add_metric(about, batcher.waiting)
                buckets = [
                    (f"{most:.1f}", sum(count for size, count in batcher.sizes.items() if size <= most))
                    for most in _SIZES
                ]
                total = sum(size * count for size, count in batcher.sizes.items())
                buckets.append(("+Inf", batcher.sizes.total()))
                sizes.add_metric(about, buckets, total)
        fit = GaugeMetricFamily(
            "assay_serve_fit", "1 while the replica passes its self-test, else 0.", value=float(not self._loaded.unfit)
        )
        yield from (waiting, sizes, fit)
