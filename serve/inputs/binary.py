"""Binary tensors of the Open Inference Protocol: a body of JSON, then raw tensors.

Every length is compared with the bytes that are there before anything is made of them.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from serve.inputs.numbers import records_in
from serve.inputs.strict_json import LONGEST_STRING
from serve.refusals import RefusedError

HEADER = "Inference-Header-Content-Length"
"""Header that gives the length of the JSON; binary tensors follow it."""
_ELEMENTS: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "FP64": np.dtype("<f8")}
_LENGTH = re.compile(r"[0-9]{1,10}")
_PREFIX = 4
"""Bytes that give the length of a text."""


def split_body(body: bytes, announced: Sequence[str]) -> tuple[bytes, memoryview | None]:
    """Splits a body into its JSON and its raw tensors.

    Args:
        body: of the request.
        announced: values of the header ``HEADER``.

    Returns:
        The JSON, and the bytes after it; None for them where there is no such header.

    Raises:
        RefusedError: status 400. The header is no length of a part of the body, or is sent twice.
    """
    if not announced:
        return body, None
    if len(announced) > 1 or not _LENGTH.fullmatch(announced[0]) or int(announced[0]) > len(body):
        raise _malformed(f"{HEADER} must be given once, as the length in bytes of the JSON with which the body begins")
    length = int(announced[0])
    return body[:length], memoryview(body)[length:]


def raw_of(rest: memoryview | None, size: int | None, *, beside_json: bool) -> memoryview | None:
    """Returns the bytes of the only tensor of a request.

    Args:
        rest: what follows the JSON; None where the body is JSON alone.
        size: ``binary_data_size`` of the tensor.
        beside_json: whether the tensor has data in the JSON.

    Returns:
        Its bytes; None where it has data in the JSON.

    Raises:
        RefusedError: status 400. The size is not that of the bytes, or there is one of the two only.
    """
    if size is None:
        if rest:
            raise _malformed("bytes follow the JSON, and no tensor has the parameter binary_data_size")
        return None
    if rest is None:
        raise _malformed(f"binary_data_size needs the header {HEADER}, with the length of the JSON")
    if beside_json:
        raise _malformed("a tensor has data or binary_data_size, not both")
    if size != len(rest):
        raise _malformed(f"binary_data_size is not the number of bytes after the JSON, {len(rest)}")
    return rest


def array_from(
    raw: bytes | memoryview, datatype: str, shape: Sequence[int], form: Sequence[int], *, most: int
) -> np.ndarray:
    """Reads a raw tensor of records.

    Args:
        raw: numbers in row-major order, little-endian.
        datatype: ``FP32`` or ``FP64``.
        shape: as it was sent: number of records, then the shape of a record.
        form: shape of a record of the model.
        most: greatest number of records.

    Returns:
        (n, *form) float32 or float64.

    Raises:
        RefusedError: the shape is not that of records of the model (422), the bytes are not as many as it says, or
            are not finite numbers in little-endian order (400).
    """
    count, element = records_in(list(shape), form, most=most), _ELEMENTS[datatype]
    needed = count * math.prod(form) * element.itemsize
    if len(raw) != needed:
        raise _malformed(f"the tensor must have {needed} bytes, as its shape and datatype say")
    array = np.frombuffer(raw, element).reshape(shape)
    if not np.isfinite(array).all():
        raise _malformed("the tensor holds NaN or infinity")
    least = np.abs(array[array != 0]).max(initial=0)
    if 0 < least < np.finfo(array.dtype).tiny:
        # So read small whole numbers and powers of two in the other order.
        raise _malformed("no number of the tensor is above the least normal one: send them in little-endian order")
    # A copy in the order of this machine: what is not copied cannot be written to, which PyTorch warns about.
    return array.astype(element.newbyteorder("="))


def texts_from(raw: bytes | memoryview, shape: Sequence[int], *, most: int) -> list[str]:
    """Reads a raw tensor of texts: each with its length before it, in four bytes, little-endian.

    Args:
        raw: the tensor.
        shape: as it was sent: the number of texts.
        most: greatest number of texts.

    Returns:
        The texts.

    Raises:
        RefusedError: the shape is not one of texts (422), a length reaches beyond the tensor, a text is too long or
            not in UTF-8, or they are not as many as the shape says (400).
    """
    count = records_in(list(shape), (), most=most)
    raw, texts, place = memoryview(raw), list[str](), 0
    while place < len(raw):
        if len(texts) == count:
            raise _malformed("the tensor holds more texts than its shape says")
        begin = place + _PREFIX
        length = int.from_bytes(raw[place:begin], "little")
        if begin > len(raw) or length > min(len(raw) - begin, LONGEST_STRING):
            raise _malformed(f"text {len(texts)} is longer than {LONGEST_STRING} bytes, or than the rest of the tensor")
        place = begin + length
        try:
            texts.append(str(raw[begin:place], "utf-8"))
        except UnicodeDecodeError:
            raise _malformed(f"text {len(texts)} is not in UTF-8") from None
    if len(texts) != count:
        raise _malformed("the tensor holds fewer texts than its shape says")
    return texts


def _malformed(why: str) -> RefusedError:
    return RefusedError(why, status=400, reason="malformed_tensor")
