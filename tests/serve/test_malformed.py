"""Malformed requests to every route are refused in our form, shortly, and without what was sent; none fails the server.

The requests are those of the benchmark ``serve-attacks``, which sends far more of them to the running service.
"""

import asyncio
import json
import random
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from assay.data.images.chest_xray import CHILDREN
from assay.study.finished import Finished
from serve.api import create_api
from serve.auth.settings import VARIABLE, AuthSettings
from serve.auth.tokens import add_token
from serve.inputs.png import checked_png
from serve.limits.refusals import MOST_BYTES
from serve.refusals import RefusedError
from serve.repository.loaded import Loaded
from serve.repository.online import bring_online
from tests.benchmarks.serving.attacked import answered_calls, made, mutations_of
from tests.benchmarks.serving.call import Call
from tests.benchmarks.serving.mutated_files import chunks_of, mutated_dicom, mutated_png, png_of
from tests.benchmarks.serving.mutations import Mutations
from tests.serve.asgi import Reply, answer_to

NAME_IN_DICOM = b"Lovelace"
"""Of the patient in each DICOM file that is sent."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    found = made(tmp_path_factory.mktemp("attacked"))
    film = found["film"]
    # With an intended use, what a file says of its patient is read too.
    return {**found, "film": replace(film, dataset=replace(film.dataset, intended_use=CHILDREN))}


@pytest.fixture(scope="module")
def loaded(models: dict[str, Finished]) -> Loaded:
    return Loaded([bring_online(one, name=name) for name, one in models.items()])


@pytest.fixture(scope="module")
def mutations(models: dict[str, Finished], loaded: Loaded) -> Mutations:
    return mutations_of(models, create_api(loaded, public=False))


def faults(app: ASGIApp, calls: Iterator[tuple[str, Call]]) -> list[str]:
    """What is wrong with the answers to malformed requests."""

    async def found() -> list[str]:
        return [
            f"{kind}, {call.method} {call.path[:80]}: {why}"
            for kind, call in calls
            for why in wrong_with(await answer_to(app, call))
        ]

    return asyncio.run(found())


def wrong_with(reply: Reply) -> list[str]:
    """What is wrong with an answer."""
    why = [f"status {reply.status}"] if reply.status >= 500 else []
    if reply.status < 400:
        return why
    if len(reply.body) > MOST_BYTES:
        why.append(f"an error of {len(reply.body)} bytes")
    if NAME_IN_DICOM in reply.body:
        why.append("an error repeats what was sent")
    if reply.headers["content-type"] != "application/json" or not {"error"} <= set(json.loads(reply.body)):
        why.append("an error in another form")
    return why


def sent(mutations: Mutations, numbers: range) -> Iterator[tuple[str, Call]]:
    return ((one.kind, one.call) for one in map(mutations.of, numbers))


def test_what_is_mutated_was_answered(loaded: Loaded, models: dict[str, Finished]) -> None:
    app = create_api(loaded, public=False)

    async def statuses() -> dict[str, int]:
        return {f"{one.method} {one.path}": (await answer_to(app, one)).status for one in answered_calls(models)}

    assert set(asyncio.run(statuses()).values()) == {200}


def test_malformed_requests_are_refused_in_our_form(loaded: Loaded, mutations: Mutations) -> None:
    assert faults(create_api(loaded, public=False), sent(mutations, range(1500))) == []


@pytest.mark.slow  # the first 1,500 are fast
def test_many_malformed_requests_are_refused_in_our_form(loaded: Loaded, mutations: Mutations) -> None:
    assert faults(create_api(loaded, public=False), sent(mutations, range(1500, 20_000))) == []


def test_malformed_requests_with_a_token_are_refused_in_our_form(
    loaded: Loaded, mutations: Mutations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = add_token(tmp_path / "tokens.json", "owner", scopes=["admin"], days=None)
    settings = AuthSettings(tokens=str(tmp_path / "tokens.json"), per_second=10**6, burst=10**6)
    monkeypatch.setenv(VARIABLE, settings.to_json())

    def with_token() -> Iterator[tuple[str, Call]]:
        for kind, call in sent(mutations, range(30_000, 30_500)):
            own = call.header("authorization")
            yield kind, call if own else call.with_header("Authorization", f"Bearer {token}")

    assert faults(create_api(loaded, public=False), with_token()) == []


def test_a_fault_would_be_seen(mutations: Mutations) -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": NAME_IN_DICOM * 1000})

    assert len(faults(fails, sent(mutations, range(1)))) == 4


def test_a_number_gives_the_same_request_everywhere(mutations: Mutations) -> None:
    read = Mutations.from_json(mutations.to_json())
    numbers = range(100)
    assert [read.of(number) for number in numbers] == [mutations.of(number) for number in numbers]
    assert all(mutations.of(number).call not in mutations.answered for number in range(0, 100, 2))


def test_mutations_reach_what_lies_behind_the_first_check(mutations: Mutations) -> None:
    """Some mutations of each kind of file are still read, and others are not."""
    files = {one.header("Content-Type"): one.body for one in mutations.answered if one.body}
    draw = random.Random(0)
    assert len({name for name, _ in (mutated_png(files["image/png"], draw) for _ in range(200))}) == 9
    assert len({name for name, _ in (mutated_dicom(files["application/dicom"], draw) for _ in range(200))}) == 10


DAMAGED = (b"MM\0*" + bytes(60), b"II*\0" + b"\xff" * 60, b"MM\0*\0\0\0\x08\0\x09" + b"\1\x12\0\3\0\0\0\x09" * 4)


@pytest.mark.parametrize("metadata", DAMAGED)
def test_damaged_metadata_of_a_camera_are_refused_and_not_logged(metadata: bytes, mutations: Mutations) -> None:
    raw = next(one.body for one in mutations.answered if one.header("Content-Type") == "image/png")
    chunks = chunks_of(raw)
    chunks.insert(1, (b"eXIf", metadata))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(RefusedError):
            checked_png(png_of(chunks), most_pixels=10**6)
    assert told == []
