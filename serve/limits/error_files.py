"""Answers that HAProxy gives by itself, as files that its configuration names.

Imports nothing but the standard library.
"""

from serve.limits.refusals import RETRIED, TEXTS, error_body
from serve.limits.settings import Limits

ERROR_FILES = (400, 401, 403, 404, 405, 408, 413, 422, 429, 500, 501, 502, 503, 504)
"""Statuses for which HAProxy takes a file."""
_PHRASES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def error_files(limits: Limits) -> dict[str, bytes]:
    """Returns the answers that HAProxy gives by itself.

    Args:
        limits: settings.

    Returns:
        Contents by name of the file, one for each status of ``ERROR_FILES``.
    """
    files = {}
    for status in ERROR_FILES:
        body = error_body(TEXTS[status])
        lines = [f"HTTP/1.1 {status} {_PHRASES[status]}", "Content-Type: application/json", "Cache-Control: no-store"]
        lines += [f"Content-Length: {len(body)}"]
        lines += [f"Retry-After: {limits.retry_after}"] if status in RETRIED else []
        lines += ["WWW-Authenticate: Bearer"] if status == 401 else []
        files[f"{status}.http"] = "\r\n".join([*lines, "", ""]).encode() + body
    return files
