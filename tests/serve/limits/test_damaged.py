"""What breaks the rules of HTTP is refused by the real HAProxy, and costs no other caller its answer."""

import asyncio
from pathlib import Path

from serve.limits.settings import Limits
from tests.benchmarks.serving.attack import run
from tests.benchmarks.serving.call import Call
from tests.benchmarks.serving.mutations import Mutations
from tests.serve.limits.upstream import Replica, call, proxy, request

ROUTES = [("GET", "/v2"), ("POST", "/v1/models/{name}:predict")]


def test_damaged_requests_are_refused_or_closed(tmp_path: Path) -> None:
    json = (("Content-Type", "application/json"),)
    answered = [Call("POST", "/v1/models/m:predict", json, b'{"instances": [[0, 1]]}'), Call("GET", "/v2")]
    mutations = Mutations(answered, ROUTES, {"name": ["m"]})
    (tmp_path / "mutations.json").write_text(mutations.to_json())
    with proxy(tmp_path, {"/": [Replica().start().port]}, Limits(ongoing={"": 64})) as running:
        task = {"port": running.port, "host": "localhost", "token": "", "mutations": str(tmp_path / "mutations.json")}
        task |= {"valid": False, "damaged": 1.0, "clients": 16, "first": 0, "count": 400, "seconds": 60, "rate": 0}
        before = running.memory
        found = asyncio.run(run(task))
        assert found["sent"] == 400 and found["wrong"] == [], found
        assert found["statuses"]["400"] > 50 and found["greatest_error"] <= 4096
        assert running.memory - before < 50 << 20
        assert call(running.port, request("/v1/models/m:predict", b"{}")).status == 200
