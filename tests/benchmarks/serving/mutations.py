"""Malformed requests: mutations of requests that were answered, and requests that follow no rule. Each has a number.

The same seed and number give the same request, so that what a service answered wrongly can be sent to it again.
"""

import base64
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.benchmarks.serving.call import Call
from tests.benchmarks.serving.generated import generated_body
from tests.benchmarks.serving.mutated_files import mutated_dicom, mutated_png
from tests.benchmarks.serving.mutated_heads import BINARY, METHODS, Names, Routes, filled, mutated_head, other_header
from tests.benchmarks.serving.mutated_json import mutated_json
from tests.benchmarks.serving.mutated_tensors import mutated_tensor

_WITH_BODY = 0.7
"""Share of requests that are made of one with a body: most routes are read only, and bodies are what goes wrong."""
_FILES: dict[str, Callable[[bytes, random.Random], tuple[str, bytes]]] = {"png": mutated_png, "dicom": mutated_dicom}
_TYPES = {"image/png": "png", "application/dicom": "dicom"}
_SENT_TYPES = ("application/json", "application/json", "image/png", "application/dicom", "application/octet-stream")


@dataclass(frozen=True)
class Sent:
    """A malformed request."""

    kind: str
    call: Call


@dataclass(frozen=True)
class Mutations:
    """Source of malformed requests.

    Args:
        answered: requests that were answered with status 200.
        routes: method and path of every route, with parameters in braces.
        names: of models, versions and files, by the parameter of the path.
        seed: of all.
    """

    answered: Sequence[Call]
    routes: Routes
    names: Names
    seed: int = 0

    def of(self, number: int) -> Sent:
        """Returns a request: of an even number a mutation of one that was answered.

        Args:
            number: of the request.
        """
        draw = random.Random(self.seed * 1_000_003 + number)
        return self._mutated(draw) if number % 2 == 0 else self._generated(draw)

    def to_json(self) -> str:
        """Returns the source as JSON."""
        answered = [[one.method, one.path, one.headers, base64.b64encode(one.body).decode()] for one in self.answered]
        return json.dumps([answered, self.routes, self.names, self.seed])

    @classmethod
    def from_json(cls, text: str) -> "Mutations":
        """Reads what ``to_json`` wrote.

        Args:
            text: JSON.
        """
        answered, routes, names, seed = json.loads(text)
        calls = [
            Call(method, path, tuple((name, value) for name, value in headers), base64.b64decode(body))
            for method, path, headers, body in answered
        ]
        return cls(calls, [(method, path) for method, path in routes], names, seed)

    def _mutated(self, draw: random.Random) -> Sent:
        with_body = [call for call in self.answered if call.body]
        call = draw.choice(with_body if draw.random() < _WITH_BODY else self.answered)
        for _ in range(20):
            kind, changed = self._changed(call, draw)
            if changed != call:
                return Sent(kind, changed)
        return Sent("method", replace(call, method="PUT"))

    def _changed(self, call: Call, draw: random.Random) -> tuple[str, Call]:
        chance = draw.random()
        if not call.body or chance < 0.15:
            return mutated_head(call, draw, self.routes, self.names)
        if file := _TYPES.get(call.header("Content-Type")):
            name, body = _FILES[file](call.body, draw)
            return name, replace(call, body=body)
        if call.header(BINARY):
            return mutated_tensor(call, draw)
        if (b'"png"' in call.body or b'"dicom"' in call.body) and chance < 0.7:
            return _file_in_json(call, draw)
        name, body = mutated_json(call.body, draw, self._bodies(draw))
        return name, replace(call, body=body)

    def _bodies(self, draw: random.Random) -> list[bytes]:
        """Returns a few bodies in JSON of other requests."""
        some = draw.sample(self.answered, min(4, len(self.answered)))
        return [one.body for one in some if one.body[:1] == b"{" and not one.header(BINARY)]

    def _generated(self, draw: random.Random) -> Sent:
        posted = [route for route in self.routes if route[0] == "POST"]
        method, route = draw.choice(posted if draw.random() < _WITH_BODY else self.routes)
        if draw.random() < 0.1:
            method = draw.choice(METHODS)
        call = Call(method, filled(route, draw, self.names))
        if method in ("GET", "HEAD") and draw.random() < 0.95:
            return Sent("generated: no body", other_header(call, draw))
        kind, body = generated_body(draw)
        call = replace(call, body=body)
        if draw.random() < 0.9:
            call = call.with_header("Content-Type", draw.choice(_SENT_TYPES))
        if draw.random() < 0.1:
            lengths = (str(draw.randrange(len(body) + 2)), "0", "-1", str(len(body)))
            call = call.with_header(BINARY, draw.choice(lengths))
        return Sent(f"generated: {kind}", other_header(call, draw) if draw.random() < 0.15 else call)


def _file_in_json(call: Call, draw: random.Random) -> tuple[str, Call]:
    """Changes an image in a JSON body, or its base64."""
    asked = json.loads(call.body)
    item = draw.choice(asked["instances"])
    kind = next(name for name in ("png", "dicom") if name in item)
    if draw.random() < 0.15:
        text = item[kind]
        wrong = (text[:-1], text + "=", text + "\n", text.replace("A", "-"), " " + text, text[::-1], "", "é" + text)
        item[kind] = draw.choice(wrong)
        return "base64", replace(call, body=json.dumps(asked).encode())
    name, raw = _FILES[kind](base64.b64decode(item[kind]), draw)
    item[kind] = base64.b64encode(raw).decode()
    return f"json with {name}", replace(call, body=json.dumps(asked).encode())
