"""Mutations of JSON: of its tree, and of its text."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

_RAW = "\x01raw\x01"
"""Stands in a tree for a fragment that is no JSON, or none that Python would write."""
NUMBERS: tuple[Any, ...] = (
    0, -1, 1, -0.0, 0.1, 255, 256, 257, 65536, 2**31, -(2**31) - 1, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 1e308,
    -1e308, 1e-320, 5e-324, 3.5e38, -3.5e38,
)  # fmt: skip
FRAGMENTS = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "0x10", "01", "1.", ".5", "+1", "1e", "1" * 400,
    "0." + "1" * 400,
    "true", "null", "undefined", "'a'", "{}", "[]", "[[[[]]]]", "[" * 20 + "]" * 20, "[" * 900 + "]" * 900,
    '{"a":1,"a":2}',
    r'"\ud800"', r'"\udc00\ud800"', r'"\u0000"', r'"\u202e"', r'"\x"', '"\x01"', "[1,]", "[,]", '{"a"}', "{,}", '"',
    "[0" + ",0" * 3000 + "]", "[{}" + ",{}" * 2000 + "]", "[" + "[0]," * 500 + "[0]]", '{"a":' * 14 + "1" + "}" * 14,
    "/**/1", "-", "--1", "1e400", "1e-400",
)  # fmt: skip
TEXTS = (
    "", " ", "a", "A" * 300, "é" * 70, "\u202eabc", "\x00", "\x7f", "𝔘" * 40, "NaN", "1", "true", "null", "None",
    "../../etc/passwd",
    "FP32", "FP64", "BYTES", "INT8", "records", "probabilities", "class_index", "default", "shap",
    "integrated_gradients",
    "{}", "%s%n", "${jndi:x}", "<script>", "'; --", "AAAA", "AAA=", "iVBORw0KGgo=", "mg/dL", "mm[Hg]", "003Y", "AP",
    "CR",
)  # fmt: skip
KEYS = (
    "instances", "inputs", "outputs", "about", "id", "parameters", "shape", "datatype", "data", "name", "png", "dicom",
    "signal", "rate", "unit", "value", "method", "overlay", "epsilons", "explain", "certify", "binary_data_size",
    "binary_data", "binary_data_output", "model_name", "model_version", "ready", "age", "view", "modality", "sex",
    "site",
    "", "__proto__", "__class__", "a" * 200, "\u0000", "é", "mean radius",
)  # fmt: skip


def mutated_json(text: bytes, draw: random.Random, others: Sequence[bytes] = ()) -> tuple[str, bytes]:
    """Changes JSON in one to three places, as a tree, or once as a text.

    Args:
        text: valid JSON.
        draw: where chance comes from.
        others: further valid JSON, of which parts may be put in.

    Returns:
        Name of the mutation, and the bytes.
    """
    if draw.random() < 0.25:
        of_text, changed = draw.choice(_OF_TEXT)
        return f"json text: {of_text}", changed(text, draw)
    fragments: list[str] = []
    holder = [json.loads(text)]
    names = []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        name, change = draw.choice(_OF_TREE)
        names.append(name)
        change(holder, draw, fragments, others)
    return f"json: {names[0]}", _written(holder[0], fragments)


def odd_value(draw: random.Random, fragments: list[str]) -> Any:
    """Returns a value that is seldom right.

    Args:
        draw: where chance comes from.
        fragments: of text; what it adds stands in the tree for itself.
    """
    kind = draw.randrange(8)
    if kind < 2:
        return draw.choice(NUMBERS)
    if kind < 4:
        return draw.choice(TEXTS)
    if kind < 6:
        fragments.append(draw.choice(FRAGMENTS))
        return _RAW
    if kind == 6:
        return {key: draw.choice(NUMBERS) for key in draw.sample(KEYS, draw.randrange(4))}
    return [draw.choice((None, True, False, 0, "a", [], {})) for _ in range(draw.randrange(6))]


def generated_json(draw: random.Random, depth: int = 0) -> bytes:
    """Returns JSON that follows no request.

    Args:
        draw: where chance comes from.
        depth: of the value.
    """
    fragments: list[str] = []
    return _written(_tree(draw, fragments, depth), fragments)


def _tree(draw: random.Random, fragments: list[str], depth: int) -> Any:
    if depth > 3 or draw.random() < 0.3:
        return odd_value(draw, fragments)
    if draw.random() < 0.6:
        return {key: _tree(draw, fragments, depth + 1) for key in draw.sample(KEYS, draw.randrange(5))}
    return [_tree(draw, fragments, depth + 1) for _ in range(draw.randrange(4))]


def _written(tree: Any, fragments: Sequence[str]) -> bytes:
    text = json.dumps(tree, ensure_ascii=False).encode("utf-8", "surrogatepass")
    for fragment in fragments:
        text = text.replace(b'"\\u0001raw\\u0001"', fragment.encode(), 1)
    return text


def _place(holder: list[Any], draw: random.Random) -> tuple[Any, Any]:
    """Returns an object or array, and the key of one of its members."""
    at: Any = holder
    key: Any = 0
    while True:
        inner = at[key]
        if not isinstance(inner, dict | list) or not inner or draw.random() < 0.25:
            return at, key
        at, key = inner, draw.choice([*inner]) if isinstance(inner, dict) else draw.randrange(len(inner))


def _replace(holder: list[Any], draw: random.Random, fragments: list[str], _: Sequence[bytes]) -> None:
    at, key = _place(holder, draw)
    at[key] = odd_value(draw, fragments)


def _remove(holder: list[Any], draw: random.Random, *_: Any) -> None:
    at, key = _place(holder, draw)
    if at is not holder:
        del at[key]


def _rename(holder: list[Any], draw: random.Random, *_: Any) -> None:
    at, key = _place(holder, draw)
    if isinstance(at, dict):
        at[draw.choice(KEYS)] = at.pop(key)


def _add(holder: list[Any], draw: random.Random, fragments: list[str], _: Sequence[bytes]) -> None:
    at, key = _place(holder, draw)
    inner = at[key]
    if isinstance(inner, dict):
        inner[draw.choice(KEYS)] = odd_value(draw, fragments)
    elif isinstance(inner, list):
        inner.insert(draw.randint(0, len(inner)), odd_value(draw, fragments))


def _repeat(holder: list[Any], draw: random.Random, *_: Any) -> None:
    at, key = _place(holder, draw)
    if isinstance(at[key], list):
        at[key] = (at[key] * draw.choice((2, 3, 33, 257)))[:3000]
    elif isinstance(at, list):
        at[key:key] = [at[key]] * draw.choice((1, 2, 33, 257))


def _wrap(holder: list[Any], draw: random.Random, *_: Any) -> None:
    at, key = _place(holder, draw)
    for _depth in range(draw.choice((1, 1, 2, 15, 17, 70))):
        at[key] = [at[key]]


def _unwrap(holder: list[Any], draw: random.Random, *_: Any) -> None:
    at, key = _place(holder, draw)
    inner = at[key]
    if isinstance(inner, dict | list) and inner:
        at[key] = next(iter(inner.values() if isinstance(inner, dict) else inner))


def _as_other_type(holder: list[Any], draw: random.Random, *_: Any) -> None:
    at, key = _place(holder, draw)
    change: Callable[[Any], Any] = draw.choice((str, bool, repr, lambda one: [one], lambda one: {"value": one}))
    at[key] = change(at[key]) if len(str(at[key])) < 5000 else str(at[key])[:5000]


def _splice(holder: list[Any], draw: random.Random, _: list[str], others: Sequence[bytes]) -> None:
    """Puts a part of another request in."""
    if others:
        other_at, other_key = _place([json.loads(draw.choice(others))], draw)
        at, key = _place(holder, draw)
        at[key] = other_at[other_key]


def _twice(text: bytes, draw: random.Random) -> bytes:
    """Names a key twice."""
    places = [at for at in range(len(text)) if text[at : at + 1] == b"{"]
    if not places:
        return text + text
    at = draw.choice(places) + 1
    end = text.find(b":", at)
    return text[:at] + text[at : end + 1] + b"0, " + text[at:]


def _with_bytes(text: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(text))
    put = draw.choice(
        (b"\xff", b"\x00", b"\xed\xa0\x80", b"\xc0\x80", b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"e")
    )
    return text[:at] + put + text[at + draw.randrange(2) :]


def _in_other_encoding(text: bytes, draw: random.Random) -> bytes:
    encoding = draw.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"))
    return text.decode("utf-8", "replace").encode(encoding, "replace")


def _with_digits(text: bytes, draw: random.Random) -> bytes:
    """Makes a number long."""
    places = [at for at in range(len(text)) if text[at : at + 1].isdigit()]
    if not places:
        return text
    at = draw.choice(places)
    return text[:at] + draw.choice((b"9" * 30, b"9" * 400, b"1e", b"-", b".", b"e99", b"_")) + text[at:]


def flipped(text: bytes, draw: random.Random) -> bytes:
    """Changes one to eight bits.

    Args:
        text: any bytes.
        draw: where chance comes from.
    """
    changed = bytearray(text)
    for _ in range(draw.randint(1, 8) if changed else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(text: bytes, draw: random.Random) -> bytes:
    """Removes the end, or a part.

    Args:
        text: any bytes.
        draw: where chance comes from.
    """
    at = draw.randrange(len(text) + 1)
    return text[:at] if draw.random() < 0.7 else text[:at] + text[at + draw.randint(1, 40) :]


def extended(text: bytes, draw: random.Random) -> bytes:
    """Adds bytes at the end.

    Args:
        text: any bytes.
        draw: where chance comes from.
    """
    return text + draw.choice(
        (b"\0", b" ", b"\n", b"x", b"}", text[:200], draw.randbytes(draw.randint(1, 300)), b"0" * 9000)
    )


_OF_TREE: tuple[tuple[str, Callable[..., None]], ...] = (
    ("replaced", _replace), ("replaced", _replace), ("removed", _remove), ("renamed", _rename), ("added", _add),
    ("repeated", _repeat), ("wrapped", _wrap), ("unwrapped", _unwrap), ("of another type", _as_other_type),
    ("part of another", _splice), ("part of another", _splice),
)  # fmt: skip
_OF_TEXT: tuple[tuple[str, Callable[[bytes, random.Random], bytes]], ...] = (
    ("cut", cut), ("extended", extended), ("bits", flipped), ("bytes", _with_bytes), ("key twice", _twice),
    ("encoding", _in_other_encoding), ("digits", _with_digits),
)  # fmt: skip
