"""A body has one meaning, or is refused with status 400; no refusal repeats it."""

import gc
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.inputs.strict_json import LONGEST_ID, LONGEST_STRING, MOST_DEPTH, check_id, parse_json
from serve.refusals import RefusedError

SECRET = "Ada Lovelace"

BODIES: list[tuple[bytes, str]] = [
    (b"", "not_json"),
    (b'{"instances": [[1]], "instances": [[2]]}', "duplicate_key"),
    (b'{"a": {"b": 1, "b": 1}}', "duplicate_key"),
    (b'[[{"b": 1}, {"b": 1, "\\u0062": 2}]]', "duplicate_key"),
    (b'{"a": {"b": {}}, "a": 1}', "duplicate_key"),
    (b'\xef\xbb\xbf{"a": 1}', "not_json"),
    ('{"a": 1}'.encode("utf-16"), "not_json"),
    ('{"a": 1}'.encode("utf-16-le"), "not_json"),
    ('{"a": 1}'.encode("utf-32"), "not_json"),
    (b'{"instances": ["gut \\ud800"]}', "not_json"),
    (b'{"instances": ["gut \\udc00\\ud800"]}', "not_json"),
    (b'{"instances": ["gut \xed\xa0\x80"]}', "not_json"),
    (b'{"a": "\xff"}', "not_json"),
    (b"[NaN]", "not_json"),
    (b"[Infinity]", "not_json"),
    (b"[-Infinity]", "not_json"),
    (b"[1e400]", "not_json"),
    (b"[" + b"1" * 5000 + b"]", "not_json"),
    (b"[1, ]", "not_json"),
    (b"[01]", "not_json"),
    (b"{'a': 1}", "not_json"),
    (b"[1] [2]", "not_json"),
    (b"[1]\x00", "not_json"),
    (b'["\x01"]', "not_json"),
    (b"[" * 500_000, "not_json"),
    (b"[" * 900 + b"]" * 900, "nested_too_deeply"),
    (b"[" * 70 + b"]" * 70, "nested_too_deeply"),
    (b'{"a":' * 17 + b"1" + b"}" * 17, "nested_too_deeply"),
    (b'[{"a":' * 9 + b"1" + b"}]" * 9, "nested_too_deeply"),
    (b'["' + b"a" * (LONGEST_STRING + 1) + b'"]', "string_too_long"),
    (b'["' + b'\\"' * LONGEST_STRING + b'"]', "string_too_long"),
]


@pytest.mark.parametrize(("body", "reason"), BODIES)
def test_what_could_be_read_in_two_ways_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(RefusedError) as refused:
        parse_json(body)
    assert (refused.value.status, refused.value.reason) == (400, reason)


@pytest.mark.parametrize(("body", "_"), BODIES)
def test_a_refusal_repeats_nothing_and_is_short(body: bytes, _: str) -> None:
    secret = f'{{"{SECRET}": "{SECRET}", '.encode() + (body[1:] if body.startswith(b"{") else b'"a": ' + body + b"}")
    with pytest.raises(RefusedError) as refused:
        parse_json(secret)
    assert SECRET not in str(refused.value) and len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "body",
    [
        b"[" * MOST_DEPTH + b"]" * MOST_DEPTH,
        b'{"a": "[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}',
        b'{"a": "\\"a\\": {", "b": "\\\\", "c": "::\\\\\\"::"}',
        b'{"a": [{"a": 1}, {"a": 2}], "b": {"a": 3}}',
        b'"a"',
        b"1",
        b"null",
        b"{}",
        b"[]",
        b'{"a": "\\ud83d\\ude00"}',
        b'["' + b"a" * LONGEST_STRING + b'"]',
    ],
)
def test_other_bodies_mean_what_they_mean_to_the_standard_library(body: bytes) -> None:
    assert parse_json(body) == json.loads(body)


def test_limits_are_those_of_the_caller() -> None:
    assert parse_json(b"[[[1]]]", most_depth=3) == [[[1]]]
    with pytest.raises(RefusedError):
        parse_json(b"[[[1]]]", most_depth=2)
    assert parse_json(b'["abc"]', longest_string=3) == ["abc"]
    with pytest.raises(RefusedError):
        parse_json(b'["abcd"]', longest_string=3)


class _TwiceError(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise _TwiceError
    return dict(pairs)


_TEXT = st.text(alphabet='ab":\\{}[],\n é😀', max_size=4)
_TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: ("list", items))
        | st.lists(st.tuples(_TEXT, inner), max_size=4).map(lambda pairs: ("dict", pairs))
    ),
    max_leaves=12,
)


def _written(tree: Any, *, ascii_only: bool) -> str:
    """JSON of a tree whose objects may name a key twice."""
    if isinstance(tree, tuple) and tree[0] == "list":
        return "[" + ", ".join(_written(one, ascii_only=ascii_only) for one in tree[1]) + "]"
    if isinstance(tree, tuple):
        members = (
            f"{json.dumps(key, ensure_ascii=ascii_only)}: {_written(one, ascii_only=ascii_only)}"
            for key, one in tree[1]
        )
        return "{" + ", ".join(members) + "}"
    return json.dumps(tree, ensure_ascii=ascii_only)


@settings(max_examples=300, deadline=None)
@given(_TREES, st.booleans())
def test_a_body_is_refused_if_and_only_if_a_key_is_named_twice(tree: Any, ascii_only: bool) -> None:
    body = _written(tree, ascii_only=ascii_only).encode()
    try:
        expected = json.loads(body, object_pairs_hook=_once)
    except _TwiceError:
        with pytest.raises(RefusedError, match="twice"):
            parse_json(body)
    else:
        assert parse_json(body) == expected


def test_numbers_are_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    from serve.inputs import strict_json

    looked_at = 0
    real = strict_json.chain.from_iterable

    def counted(items: Any) -> Any:
        nonlocal looked_at
        for one in real(items):
            looked_at += 1
            yield one

    class Counting:
        from_iterable = staticmethod(counted)

        def __new__(cls, *parts: Any) -> Any:  # type: ignore[misc]
            return (one for part in parts for one in part)

    monkeypatch.setattr(strict_json, "chain", Counting)
    body = json.dumps({"inputs": [{"shape": [1000, 30], "data": [0.5] * 30_000}], "id": "a"}).encode()
    parse_json(body)
    assert 0 < looked_at < 20


def test_many_lists_do_not_start_searches_for_garbage() -> None:
    searches: list[int] = []

    def noted(phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            searches.append(about["generation"])

    gc.callbacks.append(noted)
    try:
        parse_json(b"[" + b"[0]," * 200_000 + b"0]")
    finally:
        gc.callbacks.remove(noted)
    assert gc.isenabled() and len(searches) < 5


@pytest.mark.parametrize(
    "sent",
    ["", "a" * (LONGEST_ID + 1), "a\x00", "\u202ea", "a\u2066", "a\nb", "\ud800", "a\u200b", 7, None, True, ["a"]],
)
def test_an_identifier_that_would_change_a_log_is_refused(sent: Any) -> None:
    with pytest.raises(RefusedError) as refused:
        check_id(sent)
    assert refused.value.status == 400


@pytest.mark.parametrize("sent", ["call 7", "é", "a" * LONGEST_ID])
def test_other_identifiers_are_kept(sent: str) -> None:
    assert check_id(sent) == sent
