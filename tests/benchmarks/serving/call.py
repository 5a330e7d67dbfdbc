"""A request as the benchmark of attacks changes it: method, path, headers, body. Imports the standard library only."""

from dataclasses import dataclass, replace

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Call:
    """One request; every character of method, path and headers is one byte (latin-1)."""

    method: str
    path: str
    headers: Headers = ()
    body: bytes = b""

    def header(self, name: str) -> str:
        """Returns the first value of a header, or an empty text.

        Args:
            name: in any case.
        """
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def with_header(self, name: str, value: str) -> "Call":
        """Returns the request with one more header.

        Args:
            name: of the header.
            value: of it.
        """
        return replace(self, headers=(*self.headers, (name, value)))

    def without(self, name: str) -> "Call":
        """Returns the request without a header.

        Args:
            name: in any case.
        """
        return replace(self, headers=tuple(one for one in self.headers if one[0].lower() != name.lower()))

    def raw(self, *, host: str, token: str = "") -> bytes:
        """Returns the bytes that are sent. A header that the request has itself is not added again.

        Args:
            host: value of the header Host.
            token: that proves who calls; none by default.
        """
        own = {name.lower() for name, _ in self.headers}
        headers = [*self.headers]
        if "host" not in own:
            headers.insert(0, ("Host", host))
        if token and "authorization" not in own:
            headers.append(("Authorization", f"Bearer {token}"))
        if (self.body or self.method == "POST") and not own & {"content-length", "transfer-encoding"}:
            headers.append(("Content-Length", str(len(self.body))))
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        return "\r\n".join(lines).encode("latin-1", "replace") + self.body
