"""The orientation that the metadata of a PNG state: as EXIF, as text in the form of ImageMagick, or as XMP."""

import re
import zlib

from serve.inputs.exif import orientation_of

ORIENTED = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
"""Chunks that may state it."""
_PROFILES = (b"Raw profile type exif", b"Raw profile type APP1")
_XMP = b"XML:com.adobe.xmp"
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([0-9]+)")
_LONGEST = 1 << 20
"""Greatest length of an inflated text, in bytes."""


def stated_orientation(name: bytes, content: bytes) -> int | None:
    """Returns the orientation that a chunk states.

    Args:
        name: of the chunk, of ``ORIENTED``.
        content: of the chunk.

    Returns:
        1 for an image that is stored upright, or where none is stated, 2 to 8 for a turned or mirrored one; None where
        it is stated and cannot be read.
    """
    if name == b"eXIf":
        return orientation_of(content)
    keyword, _, rest = content.partition(b"\0")
    if keyword not in (*_PROFILES, _XMP):
        return 1
    text = _text(name, rest)
    if text is None:
        return None
    return _of_xmp(text) if keyword == _XMP else _of_profile(text)


def _text(name: bytes, rest: bytes) -> bytes | None:
    """Returns the text of a chunk after its keyword; None where it cannot be inflated."""
    if name == b"tEXt":
        return rest
    packed = True
    if name == b"zTXt":
        rest = rest[1:]
    else:
        packed, fields = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
        rest = fields[2] if len(fields) == 3 else b""
    if not packed:
        return rest
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(rest, _LONGEST)
    except zlib.error:
        return None
    return None if inflater.unconsumed_tail else text


def _of_xmp(text: bytes) -> int | None:
    stated = {int(found) for found in _XMP_ORIENTATION.findall(text)}
    if len(stated) > 1 or not stated <= set(range(1, 9)):
        return None
    return next(iter(stated), 1)


def _of_profile(text: bytes) -> int | None:
    """Reads a profile as ImageMagick writes it: its name, its length, and its bytes as hexadecimal digits, in lines."""
    lines = text.strip().split(b"\n", 2)
    try:
        return orientation_of(bytes.fromhex(lines[2].decode("ascii"))) if len(lines) == 3 else None
    except ValueError:
        return None
