"""Errors are short, in one form, and repeat nothing."""

import json
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from serve.limits.refusals import MOST_BYTES, TEXTS, describe_faults, error_body, error_headers


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    shape: list[int]
    outputs: list["Named"] = []


class Named(BaseModel):
    name: str


def faults(given: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate(given)
    return describe_faults(caught.value.errors(), {"shape", "outputs", "name"})


@pytest.mark.parametrize("character", ["a", "é", "𝔸", '"', "\\", "\x00"])
def test_a_body_is_never_longer_than_allowed(character: str) -> None:
    for length in (0, 1, 300, 4000, 4100, 100_000):
        body = error_body(character * length)
        assert len(body) <= MOST_BYTES
        message = json.loads(body)["error"]
        assert message == character * length or message.endswith(" …")
    assert len(error_body(character * 100_000)) > MOST_BYTES // 2


def test_thousands_of_faults_give_a_short_answer() -> None:
    """Case 1."""
    told = faults({"shape": [""] * 5000})
    assert told.startswith("shape.0: Input should be a valid integer; shape.1: ")
    assert told.endswith("; and 4990 more")
    assert len(error_body(told)) <= 1000
    assert len(error_body(faults({"shape": [1], "outputs": [{}] * 3000}))) <= 1000


def test_faults_repeat_nothing_that_was_sent() -> None:
    told = faults({"shape": ["Ada"], "Lovelace": 1, "outputs": [{"name": 1815}]})
    assert "Ada" not in told and "Lovelace" not in told and "1815" not in told
    assert "the body holds a key that is not allowed" in told


def test_every_status_has_a_text_without_quotes() -> None:
    """A quote would end a string in the configuration of HAProxy in older versions."""
    assert all(text and "'" not in text and '"' not in text and "%" not in text for text in TEXTS.values())


def test_callers_learn_when_to_come_back() -> None:
    assert (b"retry-after", b"7") in error_headers(503, 1, retry_after=7)
    assert (b"retry-after", b"7") in error_headers(429, 1, retry_after=7)
    assert not any(name == b"retry-after" for name, _ in error_headers(500, 1))
    assert (b"www-authenticate", b"Bearer") in error_headers(401, 1)
