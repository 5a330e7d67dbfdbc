"""Hardens the configuration that Ray Serve writes for HAProxy.

``harden`` is a pure function from Ray's configuration to ours. ``run_haproxy.py`` applies it whenever Ray starts or
reloads HAProxy. What Ray wrote is changed only at lines that are known; if one is absent, as after an update of Ray,
an error says so and HAProxy does not start, rather than without a limit.

Imports nothing but the standard library.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serve.limits.error_files import ERROR_FILES
from serve.limits.refusals import RETRIED, TEXTS, error_body, text_of
from serve.limits.removed import BEGINNINGS, CALL_HEADER, NAMES, PROXY_HEADER
from serve.limits.settings import Limits

MARK = "# Hardened by serve/limits/haproxy.py"
"""First line of a hardened configuration."""
CHANGES_NOTHING = (
    r"(/models/[^/]+/[a-z]+)?/v[12]/models/[^/]+(/versions/[^/:]+)?(:(predict|explain|answer|certify)|/infer)"
)
"""Paths of calls that may be sent a second time, as a regular expression: those of a model."""
VERBS = {"predict": "predict", "explain": "explain", "answer": "explain", "certify": "certify"}
"""Kind of deployment that answers each call of KServe's first protocol, ``/v1/models/NAME:VERB``."""

_SLACK = 64 << 10
"""Room in a buffer beside the body: for headers, and for HAProxy's own use."""
_MODELS = re.compile(r"/models/(?P<name>[^/]+)/(?P<kind>predict|explain|certify)")
_SERVES_OWN = (400, 404, 405, 408, 413, 429, 431, 500, 502, 503, 504)
"""Statuses that Ray Serve, or the server in a replica, answers by itself and as plain text."""


@dataclass(frozen=True)
class Backend:
    """Replicas of one application, as Ray's configuration names them."""

    name: str
    prefix: str
    servers: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Kind of deployment, of ``KINDS``."""
        found = _MODELS.fullmatch(self.prefix)
        return found["kind"] if found else "front"

    @property
    def model(self) -> str:
        """Name of the model; empty for the front."""
        found = _MODELS.fullmatch(self.prefix)
        return found["name"] if found else ""


def harden(config: str, limits: Limits, *, secret: str, errors: str) -> str:
    """Adds limits, errors in our form, and rules for paths and headers to Ray's configuration of HAProxy.

    Args:
        config: as Ray Serve wrote it, or as this function returned it.
        limits: settings.
        secret: that replicas demand; letters, digits, ``-`` and ``_``.
        errors: folder with the files of ``error_files``.

    Returns:
        The configuration; an already hardened one is returned unchanged.

    Raises:
        ValueError: a line that must be changed is absent, or the secret or a prefix has other characters.
    """
    if config.startswith(MARK):
        return config
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,}", secret):
        raise ValueError("the secret of the proxy must have at least 16 letters, digits, - or _")
    sections = _sections(config)
    backends = {f"backend {one.name}": one for one in _backends(sections)}

    metrics = rf"bind {limits.metrics_host}:\1\n    maxconn 16"
    changes: dict[str, Callable[[list[str]], list[str]]] = {
        "global": lambda lines: _global(lines, limits),
        "defaults": lambda lines: _defaults(lines, limits, errors),
        "frontend prometheus": lambda lines: _replaced(lines, r"bind :(\d+)", metrics),
        "frontend http_frontend": lambda lines: _frontend(lines, limits, list(backends.values()), secret),
        "frontend grpc_frontend": lambda lines: _grpc_frontend(lines, limits, secret),
        # Before Ray has told HAProxy of an application, as after a new start, nobody knows what there is.
        "backend default_backend": lambda _: [_returned(404) if backends else _returned(503, limits)],
        "listen stats": lambda lines: _replaced(lines, r"bind \*:(\d+)", r"bind 127.0.0.1:\1\n  maxconn 16"),
    }
    hardened = []
    for title, lines in sections:
        changed = changes[title](lines) if title in changes else _backend(lines, limits, backends.get(title))
        hardened.append("\n".join([title, *changed]))
    hardened.append("backend long_bodies\n    stick-table type integer size 1 expire 10m store conn_cur")
    hardened.append("backend long_bodies_of\n    stick-table type ipv6 size 100k expire 60s store conn_cur")
    return "\n".join([MARK, *hardened]) + "\n"


def _sections(config: str) -> list[tuple[str, list[str]]]:
    """Splits a configuration into titles and the lines below each."""
    sections: list[tuple[str, list[str]]] = []
    for line in config.splitlines():
        if re.match(r"(global|defaults|frontend|backend|listen)\b", line):
            sections.append((line.strip(), []))
        elif line.strip() and not line.strip().startswith("#"):
            sections[-1][1].append(line)
    return sections


def _backends(sections: Sequence[tuple[str, list[str]]]) -> list[Backend]:
    """Returns the applications, in the order of Ray's rules: the longest prefix first."""
    contents = dict(sections)
    if "frontend http_frontend" not in contents:
        raise ValueError("Ray's configuration of HAProxy has no frontend http_frontend; install ray[serve] 2.60")
    # Ray writes the prefix with a slash after it in one rule, and without in the next.
    found = re.findall(r"^\s+acl is_(\S+) path (\S+)$", "\n".join(contents["frontend http_frontend"]), re.MULTILINE)
    backends = []
    for name, prefix in found:
        if not re.fullmatch(r"[A-Za-z0-9_./-]+", prefix):
            raise ValueError("the prefix of an application must have only letters, digits, '.', '_', '-' and '/'")
        servers = re.findall(
            r"^\s+server (\S+) \S+ check(?! backup)", "\n".join(contents[f"backend {name}"]), re.MULTILINE
        )
        backends.append(Backend(name, prefix, tuple(servers)))
    return backends


def _replaced(lines: Sequence[str], pattern: str, by: str) -> list[str]:
    """Replaces every match in lines; the lines must have one."""
    text, count = re.subn(pattern, by, "\n".join(lines))
    if not count:
        raise ValueError(
            f"Ray's configuration of HAProxy has no line like {pattern!r}; this version of Ray is not known to "
            "serve/limits/haproxy.py: install ray[serve] 2.60, or unset RAY_SERVE_ENABLE_HA_PROXY"
        )
    return text.split("\n")


def _without(lines: Sequence[str], *beginnings: str) -> list[str]:
    return [line for line in lines if not line.strip().startswith(beginnings)]


def _after_bind(lines: Sequence[str], rules: Sequence[str]) -> list[str]:
    """Inserts rules below the address, before Ray's own rules."""
    place = next(number for number, line in enumerate(lines) if line.strip().startswith("bind "))
    return [*lines[: place + 1], *rules, *lines[place + 1 :]]


def _global(lines: Sequence[str], limits: Limits) -> list[str]:
    lines = _replaced(lines, r"mode 666 level admin", "mode 600 level admin")
    lines = _replaced(lines, r"(\s)maxconn \d+", rf"\g<1>maxconn {limits.connections + 64}")
    # A buffer holds a whole call, so that HAProxy reads all of it before a replica is asked, and can send it again.
    size = limits.body + limits.header_bytes + _SLACK
    lines = _replaced(lines, r"tune\.bufsize \d+", f"tune.bufsize {size}")
    return [
        *lines,
        f"    tune.http.maxhdr {limits.headers}",
        f"    tune.memory.hot-size {8 * size}",
    ]


def _defaults(lines: Sequence[str], limits: Limits, errors: str) -> list[str]:
    lines = _replaced(lines, r"option httplog", f"log-format {_quoted(_LOG)}")
    lines = _replaced(lines, r"retry-on .*", "retry-on conn-failure empty-response junk-response")
    lines = _replaced(lines, r"timeout client \S+", f"timeout client {limits.idle_seconds}s")
    lines = _replaced(lines, r"timeout http-keep-alive \S+", f"timeout http-keep-alive {limits.idle_seconds}s")
    lines = _replaced(lines, r"timeout connect \S+", "timeout connect 5s")
    replaced = ("errorfile", "retries", "timeout server", "timeout http-request", "timeout queue")
    return [
        *_without(lines, *replaced),
        "    retries 1",
        f"    timeout server {limits.answer_seconds + 5}s",
        f"    timeout queue {limits.answer_seconds}s",
        # For the answer of a replica to the question whether it is well; after two without one it gets no calls.
        "    timeout check 5s",
        f"    timeout http-request {limits.upload_seconds}s",
        "    option http-ignore-probes",
        "    option dontlognull",
        # Names with an underscore, or other characters that servers read differently.
        "    option http-restrict-req-hdr-names delete",
        *(f"    errorfile {status} {errors}/{status}.http" for status in ERROR_FILES),
    ]


_LOG = "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq"
"""Format of the log: the usual one without path, query and headers, which may tell of a patient."""


def _frontend(lines: Sequence[str], limits: Limits, backends: Sequence[Backend], secret: str) -> list[str]:
    tls = ""
    if limits.certificate:
        authorities = f" ca-file {_quoted(limits.client_authorities)} verify required"
        tls = f" ssl crt {_quoted(limits.certificate)} alpn http/1.1"
        tls += authorities if limits.client_authorities else ""
    lines = _replaced(lines, r"^(\s+bind \S+)", rf"\1{tls}")
    rules = [
        *_connections(limits),
        *_health(backends),
        *_malformed(limits),
        *_headers(limits, secret),
        *_bodies(limits),
        *_paths(backends),
    ]
    return _after_bind(lines, rules)


def _connections(limits: Limits) -> list[str]:
    rate = []
    if limits.requests_per_second:
        rate = [_returned(429, limits, f"{{ sc0_http_req_rate gt {10 * limits.requests_per_second} }}")]
    return [
        f"    maxconn {limits.connections}",
        "    stick-table type ipv6 size 100k expire 60s store conn_cur,http_req_rate(10s)",
        "    tcp-request connection track-sc0 src",
        f"    tcp-request connection reject if {{ sc0_conn_cur gt {limits.connections_per_address} }}",
        *rate,
    ]


def _health(backends: Sequence[Backend]) -> list[str]:
    """Rules that answer health by HAProxy itself, outside all queues; ready: each deployment has a replica."""
    live, ready, unready = (_quoted(json.dumps(body)) for body in ({"live": True}, {"ready": True}, {"ready": False}))
    up = [
        f"    acl up_{backend.name} srv_is_up({backend.name}/{server})"
        for backend in backends
        for server in backend.servers
    ]
    all_up = " ".join(f"up_{backend.name}" for backend in backends)
    returned = "    http-request return status {} content-type application/json string {} if METH_GET {{ path {} }}"
    rules = [returned.format(200, live, "/v2/health/live")]
    if backends and all(backend.servers for backend in backends):
        rules += [*up, f"{returned.format(200, ready, '/v2/health/ready')} {all_up}"]
    return [*rules, returned.format(503, unready, "/v2/health/ready")]


def _malformed(limits: Limits) -> list[str]:
    """Rules that refuse what no caller needs, before anything else is done with it."""
    decoded = "path,url_dec"
    return [
        _returned(405, limits, "!METH_GET !METH_POST !{ method HEAD }"),
        _returned(431, limits, f"{{ req.hdrs,length gt {limits.header_bytes} }}"),
        _returned(400, limits, "{ req.fhdr(x-request-id),length gt 128 }"),
        _returned(415, limits, "{ req.fhdr(content-encoding) -m found } !{ req.fhdr(content-encoding) -i identity }"),
        # /models/ are the inner paths of deployments; /-/routes would list them.
        _returned(404, limits, f"{{ {decoded} -m beg /models/ }}"),
        _returned(404, limits, f"{{ {decoded} -m beg /-/ }} !{{ path /-/healthz }}"),
    ]


def _headers(limits: Limits, secret: str) -> list[str]:
    """Rules that keep, remove and set headers."""
    client = ["    http-request set-var(txn.client) src"]
    if limits.trusted_proxies:
        networks = " ".join(map(_quoted, limits.trusted_proxies))
        told = "req.hdr_ip(X-Forwarded-For,-1)"
        client += [f"    http-request set-var(txn.client) {told} if {{ src {networks} }} {{ {told} -m found }}"]
    return [
        *client,
        *(f"    http-request del-header {name}" for name in NAMES),
        *(f"    http-request del-header {name} -m beg" for name in BEGINNINGS),
        "    http-request set-header X-Forwarded-For %[var(txn.client)]",
        "    http-request set-header X-Forwarded-Proto https if { ssl_fc }",
        f"    http-request set-header {PROXY_HEADER} {secret}",
        f"    http-request set-header {CALL_HEADER} %[uuid()]",
        # A request id that is no plain word is replaced, so that nobody's name gets into logs and answers.
        f"    acl plain_id req.fhdr(x-request-id) -m reg {_quoted('^[A-Za-z0-9._-]{1,128}$')}",
        "    http-request del-header X-Request-ID if !plain_id",
        "    http-request del-header X-Request-ID if { req.fhdr_cnt(x-request-id) gt 1 }",
        "    http-request set-header X-Request-ID %[uuid()] if !{ req.fhdr(x-request-id) -m found }",
        "    http-request set-var(txn.request_id) req.fhdr(x-request-id)",
    ]


def _bodies(limits: Limits) -> list[str]:
    """Rules that read the whole body, in a limited time, before a replica is asked."""
    too_long = f"{{ req.body_size gt {limits.body} }}"
    message = f"the body is longer than {limits.body} bytes; send fewer records at a time"
    long = "{ req.fhdr(transfer-encoding) -m found }", "{ req.body_size gt 65536 }"
    return [
        _returned(413, limits, too_long, message=message),
        *(f"    http-request track-sc2 src table long_bodies_of if {condition}" for condition in long),
        _returned(503, limits, f"{{ sc2_conn_cur(long_bodies_of) gt {limits.long_bodies_per_address} }}"),
        *(f"    http-request track-sc1 int(1) table long_bodies if {condition}" for condition in long),
        _returned(503, limits, f"{{ sc1_conn_cur(long_bodies) gt {limits.long_bodies} }}"),
        f"    http-request wait-for-body time {limits.upload_seconds}s",
        _returned(413, limits, too_long, message=message),
    ]


def _paths(backends: Sequence[Backend]) -> list[str]:
    """Rules that lead the calls of a model to its deployments; there are none where a deployment does not exist."""
    rules = []
    for backend in backends:
        if not backend.model:
            continue
        verbs = "|".join(verb for verb, kind in VERBS.items() if kind == backend.kind)
        name, moved = re.escape(backend.model), f"set-path {backend.prefix}%[path]"
        patterns = [f"^/v1/models/{name}(/versions/[^/:]+)?:({verbs})$"]
        patterns += [f"^/v2/models/{name}(/.*)?$"] if backend.kind == "predict" else []
        rules += [f"    http-request {moved} if {{ path,url_dec -m reg {_quoted(one)} }}" for one in patterns]
        # Figures of its own replicas: /metrics is answered by those of the front.
        condition = f"{{ path /metrics/{backend.model}/{backend.kind} }}"
        rules.append(f"    http-request set-path {backend.prefix}/metrics if {condition}")
    return rules


def _backend(lines: Sequence[str], limits: Limits, backend: Backend | None) -> list[str]:
    kind = backend.kind if backend else "front"
    lines = [f"{line} maxconn {limits.ongoing_of(kind)}" if re.match(r"\s+server ", line) else line for line in lines]
    if backend is None:
        return lines
    waiting = f"{{ queue({backend.name}) ge {limits.queued_of(kind)} }}"
    return [
        _returned(503, limits, waiting),
        # The calls of a model change nothing, so that they may be sent to a second replica after the first has died.
        f"    http-request disable-l7-retry if !METH_GET !{{ path,url_dec -m reg {_quoted(f'^{CHANGES_NOTHING}$')} }}",
        "    http-response allow if { status lt 400 }",
        *(_rewritten(status, limits) for status in _SERVES_OWN),
        *lines,
    ]


def _grpc_frontend(lines: Sequence[str], limits: Limits, secret: str) -> list[str]:
    exhausted = "hdr grpc-status 8 hdr grpc-message"
    rules = [
        f"    maxconn {limits.connections}",
        *(f"    http-request del-header {name}" for name in NAMES),
        *(f"    http-request del-header {name} -m beg" for name in BEGINNINGS),
        "    http-request set-header X-Forwarded-For %[src]",
        f"    http-request set-header {PROXY_HEADER} {secret}",
        f"    http-request return status 200 hdr content-type application/grpc {exhausted} "
        f"{_quoted(TEXTS[413])} if {{ req.body_size gt {limits.body} }}",
    ]
    return _after_bind(lines, rules)


def _returned(status: int, limits: Limits | None = None, condition: str = "", *, message: str = "") -> str:
    """Returns the rule that answers an error."""
    headers = f" hdr Retry-After {limits.retry_after}" if limits and status in RETRIED else ""
    body = _quoted(error_body(message or text_of(status)).decode())
    rule = f"    http-request return status {status} content-type application/json{headers} string {body}"
    return f"{rule} if {condition}" if condition else rule


def _rewritten(status: int, limits: Limits) -> str:
    """Returns the rule that replaces an error of Ray Serve itself, which is a plain text, by one in our form."""
    headers = f" hdr Retry-After {limits.retry_after}" if status in RETRIED else ""
    headers += " hdr X-Request-ID %[var(txn.request_id)]"
    ours = "{ res.fhdr(content-type) -m beg application/json }"
    body = _quoted(error_body(text_of(status)).decode())
    return (
        f"    http-response return status {status} content-type application/json{headers} string {body} "
        f"if {{ status {status} }} !{ours}"
    )


def _quoted(text: str) -> str:
    """Quotes a text for a configuration."""
    return '"' + re.sub(r'([\\"$])', r"\\\1", text) + '"'
