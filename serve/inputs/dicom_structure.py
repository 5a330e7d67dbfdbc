"""Check of a DICOM file before a library reads it: transfer syntax, lengths, nesting and pixel data.

pydicom inflates a deflated data set whole before any tag can be looked at, and follows declared lengths and nested
sequences as far as they go. Here the file is walked once, without recursion, and nothing is copied. What passes can be
given to pydicom.
"""

import struct
from dataclasses import dataclass, field

from serve.refusals import RefusedError

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
JPEG_BASELINE, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"
SYNTAXES = {
    IMPLICIT: "Implicit VR Little Endian",
    EXPLICIT: "Explicit VR Little Endian",
    JPEG_BASELINE: "JPEG Baseline",
    RLE: "RLE Lossless",
}
"""Transfer syntaxes that are read. A deflated data set is refused. JPEG 2000, JPEG-LS and lossless JPEG are not read:
the memory that their decoders take cannot be bounded by their headers."""
PIXEL_DATA = 0x7FE00010
_PREAMBLE = 128
_MOST_ELEMENTS = 20_000
_MOST_NESTED = 8
"""Greatest number of sequences inside each other."""
_MOST_META = 1 << 16
"""Greatest length of the file meta information, in bytes."""
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SYNTAX = 0x00020010
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_SHORT = {
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"),
    *(b"ST", b"TM", b"UI", b"UL", b"US"),
}


@dataclass(frozen=True, kw_only=True)
class Structure:
    """What the walk through a file found."""

    syntax: str
    """UID of the transfer syntax."""
    pixels: tuple[int, int]
    """Begin and length of the pixel data, in bytes; of compressed ones, of all fragments."""
    fragments: tuple[tuple[int, int], ...] = ()
    """Begin and length of each fragment of compressed pixel data, without the table of offsets."""


@dataclass
class _Element:
    tag: int
    vr: bytes
    """Value representation; empty where it is implicit."""
    start: int
    """Begin of the value."""
    length: int


@dataclass
class _Walk:
    """Position in a file, and the sequences and items that are open there."""

    raw: bytes
    explicit: bool
    place: int
    open: list[tuple[bool, int | None]] = field(default_factory=list)
    """Whether each is an item, and its end; None if an end mark follows."""
    implicit_within: int | None = None
    """Number of open ones below which elements are implicit, inside a sequence of unknown representation."""
    elements: int = 0

    @property
    def end(self) -> int:
        """End of what is open and has a known one, or of the file."""
        return min([end for _, end in self.open if end is not None], default=len(self.raw))


def structure_of(raw: bytes) -> Structure:
    """Walks through a file.

    Args:
        raw: the file.

    Returns:
        Transfer syntax and place of the pixel data.

    Raises:
        RefusedError: it is no DICOM file, has a transfer syntax that is not read, names a tag twice, declares lengths
            beyond its end, is nested too deeply or holds no pixel data. Names the tag.
    """
    if raw[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        raise _refusal("has no preamble with DICM: send a DICOM file as a PACS stores it")
    syntax, place = _meta(raw)
    walk = _Walk(raw, explicit=syntax != IMPLICIT, place=place)
    seen: set[int] = set()
    pixels: Structure | None = None
    while walk.place < len(raw):
        element = _next(walk)
        if element is None:
            continue
        if not walk.open:
            if element.tag in seen:
                raise _refusal(f"names tag {_written(element.tag)} twice")
            seen.add(element.tag)
        if element.tag == PIXEL_DATA and not walk.open:
            pixels = _pixels(walk, element, syntax)
            walk.place = sum(pixels.pixels)
        elif element.length == _UNDEFINED or element.vr == b"SQ":
            _enter(walk, element)
        else:
            walk.place = element.start + element.length
    if any(end != walk.place for _, end in walk.open):
        raise _refusal("ends inside a sequence")
    if pixels is None:
        raise _refusal("holds no PixelData")
    return pixels


def _meta(raw: bytes) -> tuple[str, int]:
    """Returns the transfer syntax, and the place after the file meta information."""
    walk = _Walk(raw[: _PREAMBLE + 4 + _MOST_META], explicit=True, place=_PREAMBLE + 4)
    syntax = ""
    while walk.place + 8 <= len(walk.raw) and raw[walk.place : walk.place + 2] == b"\x02\x00":
        element = _element(walk)
        if element.tag == _SYNTAX:
            text = raw[element.start : element.start + element.length]
            syntax = text.rstrip(b"\0 ").decode("ascii", errors="replace")
        walk.place = element.start + element.length
    if syntax not in SYNTAXES:
        raise _refusal(f"has a TransferSyntaxUID that is not read: send {', '.join(SYNTAXES.values())}")
    return syntax, walk.place


def _next(walk: _Walk) -> _Element | None:
    """Returns the next element; None after a begin or an end of an item or a sequence, which it enters or leaves."""
    while walk.open and walk.open[-1][1] is not None and walk.place >= walk.open[-1][1]:
        _leave(walk)
    walk.elements += 1
    if walk.elements > _MOST_ELEMENTS:
        raise _refusal(f"has more than {_MOST_ELEMENTS} elements")
    if walk.place + 8 > walk.end:
        raise _refusal("ends inside an element")
    tag = _tag(walk.raw, walk.place)
    if walk.open and not walk.open[-1][0]:
        _between_items(walk, tag)
        return None
    if walk.open and tag == _ITEM_END and walk.open[-1][1] is None:
        walk.place += 8
        _leave(walk)
        return None
    return _element(walk)


def _between_items(walk: _Walk, tag: int) -> None:
    """Enters the next item of the innermost sequence, or leaves it at its end mark."""
    (length,) = struct.unpack_from("<I", walk.raw, walk.place + 4)
    walk.place += 8
    if tag == _SEQUENCE_END and walk.open[-1][1] is None:
        _leave(walk)
    elif tag != _ITEM:
        raise _refusal("holds something else than items in a sequence")
    else:
        if length != _UNDEFINED and walk.place + length > walk.end:
            raise _refusal("holds an item that is longer than what is around it")
        walk.open.append((True, None if length == _UNDEFINED else walk.place + length))


def _leave(walk: _Walk) -> None:
    walk.open.pop()
    if walk.implicit_within is not None and len(walk.open) < walk.implicit_within:
        walk.implicit_within = None


def _enter(walk: _Walk, element: _Element) -> None:
    """Enters a sequence."""
    if element.vr not in (b"", b"SQ", b"UN"):
        raise _refusal(f"holds tag {_written(element.tag)} without a length")
    if len(walk.open) >= 2 * _MOST_NESTED:
        raise _refusal(f"is nested more than {_MOST_NESTED} sequences deep")
    walk.place = element.start
    walk.open.append((False, None if element.length == _UNDEFINED else element.start + element.length))
    if element.vr == b"UN" and walk.implicit_within is None:
        walk.implicit_within = len(walk.open)


def _element(walk: _Walk) -> _Element:
    """Returns the element at the present place, whose length is within what is around it."""
    raw, place = walk.raw, walk.place
    tag = _tag(raw, place)
    if not walk.explicit or walk.implicit_within is not None:
        vr, start = b"", place + 8
        (length,) = struct.unpack_from("<I", raw, place + 4)
    else:
        vr = raw[place + 4 : place + 6]
        if vr in _LONG:
            start = place + 12
            if start > walk.end:
                raise _refusal("ends inside an element")
            (length,) = struct.unpack_from("<I", raw, place + 8)
        elif vr in _SHORT:
            start = place + 8
            (length,) = struct.unpack_from("<H", raw, place + 6)
        else:
            raise _refusal(f"has an unknown value representation at tag {_written(tag)}")
    if length != _UNDEFINED and start + length > walk.end:
        raise _refusal(f"declares tag {_written(tag)} longer than the file")
    if length == _UNDEFINED and tag >> 16 == 2:
        raise _refusal(f"holds tag {_written(tag)} without a length")
    return _Element(tag, vr, start, length)


def _pixels(walk: _Walk, element: _Element, syntax: str) -> Structure:
    """Returns the place of the pixel data."""
    compressed = syntax in (JPEG_BASELINE, RLE)
    if compressed != (element.length == _UNDEFINED):
        raise _refusal("has PixelData that its TransferSyntaxUID does not fit")
    if not compressed:
        return Structure(syntax=syntax, pixels=(element.start, element.length))
    fragments: list[tuple[int, int]] = []
    place = element.start
    while True:
        if place + 8 > len(walk.raw) or len(fragments) > _MOST_ELEMENTS:
            raise _refusal("has PixelData without an end")
        tag = _tag(walk.raw, place)
        (length,) = struct.unpack_from("<I", walk.raw, place + 4)
        place += 8
        if tag == _SEQUENCE_END:
            break
        if tag != _ITEM or place + length > len(walk.raw):
            raise _refusal("has a fragment of PixelData that is longer than the file")
        fragments.append((place, length))
        place += length
    if len(fragments) < 2:
        raise _refusal("has PixelData without a fragment")
    return Structure(syntax=syntax, pixels=(element.start, place - element.start), fragments=tuple(fragments[1:]))


def _tag(raw: bytes, place: int) -> int:
    group, number = struct.unpack_from("<HH", raw, place)
    return int(group << 16 | number)


def _written(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _refusal(problem: str) -> RefusedError:
    return RefusedError(f"the DICOM file {problem}", reason="dicom")
