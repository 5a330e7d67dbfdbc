"""Mutations of method, path and headers."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tests.benchmarks.serving.call import Call

METHODS = ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "post", "POSTT", "M-SEARCH")
BINARY = "Inference-Header-Content-Length"
Routes = Sequence[tuple[str, str]]
Names = Mapping[str, Sequence[str]]
_ODD = (
    "\xff", "\x80\x81", "%00", "%ff", "%2f..%2f", "%zz", "..", "a" * 300, "%F0%9F%98%80", ";", "'", "%0d%0aX:1", "*",
    "~",
)  # fmt: skip
_TAILS = (
    "/", "?html=true", "?html=x", "?html=1&html=0", "?a=" + "b" * 2000, "?%ff", "?token=a&token=b", "#x", ":predict",
    "?name=other&version=1",
)  # fmt: skip
_TYPES = (
    "text/plain", "application/xml", "multipart/form-data; boundary=x", "application/json; charset=utf-16", "\xff", "",
    "application/octet-stream", "image/png", "application/dicom", "image/jpeg", "application/x-www-form-urlencoded",
)  # fmt: skip
_HEADERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Content-Type", _TYPES),
    ("Accept", ("text/event-stream", "text/html", "*/*", "\xff", "a" * 3000, "application/json;q=x")),
    ("Content-Encoding", ("gzip", "identity", "br", "\xff", "deflate, gzip")),
    ("Host", ("evil.example", "", "localhost:evil", "127.0.0.1:80@evil", "\xff", "[::1", "a" * 300, "localhost.")),
    ("Origin", ("null", "http://evil.example", "\xff", "http://[", "http://localhost:x")),
    ("Cookie", ("=", ";;;=;", "\xff\xfe", "a=b; " * 500, 'x="\\', "assay=1", "$Version=1; a=b")),
    ("X-Request-ID", ("\xff", "a" * 200, "a b", "", "Ada Lovelace 1815", "../x")),
    ("X-Forwarded-For", ("127.0.0.1", "\xff", "1, 2, 3", "::1")),
    ("X-Forwarded-Proto", ("https", "\xff")),
    ("X-Assay-Caller", ("admin", "\xff")),
    ("X-Assay-Scopes", ("admin", "")),
    ("Forwarded", ("for=127.0.0.1", "\xff")),
    ("Range", ("bytes=0-", "bytes=-1", "x")),
    ("If-None-Match", ("*", "\xff")),
    ("Accept-Encoding", ("gzip", "identity;q=0", "\xff")),
    (BINARY, ("0", "-1", "1", "9" * 20, "1e3", "", "\xff", "0x10", " 7", "\xb2")),
    ("X-Request-Timeout-Seconds", ("0", "-1", "x", "1e-9")),
    ("Request-Timeout-Seconds", ("0", "x")),
    ("serve_multiplexed_model_id", ("\xff", "table", "a" * 3000)),
    ("Traceparent", ("00-0-0-0", "\xff")),
    ("Access-Control-Request-Method", ("POST",)),
    ("Sec-Fetch-Site", ("cross-site", "\xff")),
    ("Referer", ("\xff", "http://evil.example")),
    ("User-Agent", ("\xff", "a" * 9000, "")),
    ("Content-Language", ("\xff",)),
    ("X" * 250, ("1",)),
)
_TOKENS = (
    "Bearer x", "bearer", "Basic QTpC", "Bearer " + "a" * 3000, "Bearer \xff", "", "Bearer a.b.c",
    "Bearer eyJhbGciOiJub25lIn0.e30.",
)  # fmt: skip


def mutated_head(call: Call, draw: random.Random, routes: Routes, names: Names) -> tuple[str, Call]:
    """Changes the method, the path, one header, or adds many headers.

    Args:
        call: a request.
        draw: where chance comes from.
        routes: methods and paths of the service.
        names: values of the parameters of paths.

    Returns:
        Name of the mutation, and the request.
    """
    kind = draw.choice(("method", "path", "header", "headers"))
    if kind == "method":
        return kind, replace(call, method=draw.choice(METHODS))
    if kind == "path":
        return kind, replace(call, path=_other_path(call.path, draw, routes, names) or "/")
    if kind == "header":
        return kind, other_header(call, draw)
    many, size = draw.choice((20, 90, 110, 200)), draw.choice((1, 100, 400))
    return kind, replace(call, headers=(*call.headers, *((f"X-{number}", "v" * size) for number in range(many))))


def other_header(call: Call, draw: random.Random) -> Call:
    """Sets, adds or removes a header; now and then the one that says who calls.

    Args:
        call: a request.
        draw: where chance comes from.
    """
    if draw.random() < 0.01:
        return call.with_header("Authorization", draw.choice(_TOKENS))
    if draw.random() < 0.1 and call.headers:
        return call.without(draw.choice(call.headers)[0])
    name, values = draw.choice(_HEADERS)
    twice = draw.random() < 0.15 and name != "Host"
    return (call if twice else call.without(name)).with_header(name, draw.choice(values))


def filled(route: str, draw: random.Random, names: Names) -> str:
    """Returns a path of a route, with names that exist or, now and then, do not.

    Args:
        route: with parameters in braces.
        draw: where chance comes from.
        names: values of the parameters.
    """
    for name, values in names.items():
        value = draw.choice(_ODD) if draw.random() < 0.1 else draw.choice(values)
        route = route.replace(f"{{{name}}}", value)
    return route


def _other_path(path: str, draw: random.Random, routes: Routes, names: Names) -> str:
    at = draw.randrange(1, len(path) + 1)
    version = path.replace("/v1/", draw.choice(("/v0/", "/v2/", "/", "/v1/v1/")))
    return draw.choice((
        path[:at] + draw.choice(_ODD) + path[at:],
        path + draw.choice(_TAILS),
        path.replace("/", draw.choice(("//", "/./", "/../", "%2f", "\\")), draw.randint(1, 4)),
        path.upper(),
        path.replace("e", "%65"),
        path[:at],
        filled(draw.choice(routes)[1], draw, names),
        version.replace(":", draw.choice((":", "%3A", "::", "/"))),
        f"/{draw.choice(_ODD)}/{draw.choice(_ODD)}",
    ))  # fmt: skip
