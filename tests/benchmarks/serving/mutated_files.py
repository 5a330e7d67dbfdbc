"""Mutations of image files: chunks of PNG, elements of DICOM. Most get past the first check of a format."""

import random
import struct
import zlib
from collections.abc import Callable, Sequence

from tests.benchmarks.serving.mutated_json import cut, extended, flipped

_PNG = b"\x89PNG\r\n\x1a\n"
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_SIZES = (0, 1, 2, 7, 0x7FFF, 0xFFFF, 50_000, 2**31 - 1, 2**31, 2**32 - 1)
SYNTAXES = (
    b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.2",
    b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.51", b"1.2.840.10008.1.2.4.57", b"1.2.840.10008.1.2.4.70",
    b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.91", b"1.2.840.10008.1.2.5", b"1.2.3",
    b"",
)  # fmt: skip
Chunk = tuple[bytes, bytes]
Element = tuple[int, int, bytes, bytes]


def mutated_png(raw: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Changes a PNG.

    Args:
        raw: a valid file.
        draw: where chance comes from.

    Returns:
        Name of the mutation, and the bytes.
    """
    if draw.random() < 0.2:
        name, change = draw.choice((("cut", cut), ("extended", extended), ("bits", flipped)))
        return f"png: {name}", change(raw, draw)
    chunks = chunks_of(raw)
    name, changed = draw.choice(_OF_PNG)
    return f"png: {name}", changed(chunks, draw)


def chunks_of(raw: bytes) -> list[Chunk]:
    """Returns name and content of each chunk.

    Args:
        raw: a valid PNG.
    """
    found, at = [], len(_PNG)
    while at + 12 <= len(raw):
        (length,) = struct.unpack_from(">I", raw, at)
        found.append((raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png_of(chunks: Sequence[Chunk]) -> bytes:
    """Writes a PNG with right lengths and checksums.

    Args:
        chunks: name and content of each.
    """
    return _PNG + b"".join(_chunk(*one) for one in chunks)


def _chunk(kind: bytes, data: bytes, *, length: int | None = None, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data) if length is None else length) + kind + data + struct.pack(">I", crc)


def _header(chunks: list[Chunk], draw: random.Random) -> bytes:
    """Changes fields of the header, and keeps the checksum right."""
    fields = [*struct.unpack(">IIBBBBB", chunks[0][1])]
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(7)
        fields[at] = draw.choice(_SIZES) if at < 2 else draw.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    return png_of([(b"IHDR", struct.pack(">IIBBBBB", *fields)), *chunks[1:]])


def _lie_of_length(chunks: list[Chunk], draw: random.Random) -> bytes:
    at = draw.randrange(len(chunks))
    kind, data = chunks[at]
    lie = _chunk(kind, data, length=draw.choice((*_SIZES, len(data) + 1, max(0, len(data) - 1))))
    return png_of(chunks[:at]) + lie + b"".join(_chunk(*one) for one in chunks[at + 1 :])


def _wrong_crc(chunks: list[Chunk], draw: random.Random) -> bytes:
    at = draw.randrange(len(chunks))
    wrong = _chunk(*chunks[at], crc=draw.getrandbits(32))
    return png_of(chunks[:at]) + wrong + b"".join(_chunk(*one) for one in chunks[at + 1 :])


def _reordered(chunks: list[Chunk], draw: random.Random) -> bytes:
    kind = draw.randrange(3)
    if kind == 0:
        del chunks[draw.randrange(len(chunks))]
    elif kind == 1:
        chunks.insert(draw.randint(0, len(chunks)), draw.choice(chunks))
    else:
        draw.shuffle(chunks)
    return png_of(chunks)


def _further(chunks: list[Chunk], draw: random.Random) -> bytes:
    """Adds a chunk: texts, profiles, animation, palettes, some of which inflate a thousandfold."""
    bomb = zlib.compress(bytes(300_000), 9)
    kinds: tuple[Chunk, ...] = (
        (b"tEXt", b"a\0" + b"b" * 5000), (b"zTXt", b"a\0\0" + bomb), (b"iTXt", b"a\0\1\0\0\0" + bomb), (b"iTXt",
        b"\xff" * 99),
        (b"iCCP", b"p\0\0" + bomb), (b"acTL", struct.pack(">II", 10_000, 0)), (b"fcTL", bytes(26)), (b"fdAT",
        bytes(20)),
        (b"tRNS", bytes(draw.choice((0, 1, 2, 6, 256, 9999)))), (b"PLTE", bytes(draw.choice((0, 1, 3, 768, 769)))),
        (b"gAMA", draw.choice((b"", bytes(4), b"\xff" * 4))), (b"pHYs", b"\xff" * 9), (b"eXIf",
        b"MM\0*" + draw.randbytes(60)),
        (b"eXIf", b"II*\0" + b"\xff" * 60), (b"sRGB", b"\x09"), (b"cHRM", bytes(32)), (b"bKGD", b""), (b"IEND", b"x"),
        (b"CgBI", bytes(4)), (b"abcd", b"x"), (b"ABCD", b"x"), (b"\0\0\0\0", b""), (b"IDAT", b""), (b"IHDR", bytes(13)),
    )  # fmt: skip
    chunks.insert(draw.randint(0, len(chunks)), draw.choice(kinds))
    return png_of(chunks)


def _pixels(chunks: list[Chunk], draw: random.Random) -> bytes:
    """Changes the compressed pixels, and keeps the checksum right."""
    at = next(number for number, one in enumerate(chunks) if one[0] == b"IDAT")
    data = chunks[at][1]
    try:
        plain = zlib.decompress(data)
    except zlib.error:
        plain = b""
    choices = (
        cut(data, draw), extended(data, draw), flipped(data, draw), b"", zlib.compress(cut(plain, draw)),
        zlib.compress(plain * 3),
        zlib.compress(flipped(plain, draw)), zlib.compress(bytes(2_000_000), 9), zlib.compress(b"\xff" * len(plain)),
    )  # fmt: skip
    chunks[at] = (b"IDAT", draw.choice(choices))
    return png_of(chunks)


_OF_PNG: tuple[tuple[str, Callable[[list[Chunk], random.Random], bytes]], ...] = (
    ("header", _header), ("length of a chunk", _lie_of_length), ("checksum", _wrong_crc), ("order of chunks",
    _reordered),
    ("further chunk", _further), ("pixels", _pixels),
)  # fmt: skip


def mutated_dicom(raw: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Changes a DICOM file of Explicit VR Little Endian.

    Args:
        raw: a valid file.
        draw: where chance comes from.

    Returns:
        Name of the mutation, and the bytes.
    """
    if draw.random() < 0.2:
        name, change = draw.choice((("cut", cut), ("extended", extended), ("bits", flipped)))
        return f"dicom: {name}", change(raw, draw)
    elements = _elements(raw)
    name, changed = draw.choice(_OF_DICOM)
    return f"dicom: {name}", raw[:132] + changed(elements, draw)


def _elements(raw: bytes) -> list[Element]:
    found, at = [], 132
    while at + 8 <= len(raw):
        group, number, vr = struct.unpack_from("<HH2s", raw, at)
        length = struct.unpack_from("<I", raw, at + 8)[0] if vr in _LONG else struct.unpack_from("<H", raw, at + 6)[0]
        at += 12 if vr in _LONG else 8
        if at + length > len(raw):
            break
        found.append((group, number, vr, raw[at : at + length]))
        at += length
    return found


def element(group: int, number: int, vr: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """Writes one element.

    Args:
        group: of its tag.
        number: of its tag in the group.
        vr: its type, two bytes.
        value: of it.
        length: that is told of the value; the right one by default.
    """
    told = len(value) if length is None else length
    head = struct.pack("<HH2s", group, number, vr)
    long = vr in _LONG or len(value) > 0xFFFF
    return head + (struct.pack("<HI", 0, told & 0xFFFFFFFF) if long else struct.pack("<H", told & 0xFFFF)) + value


def _file(elements: Sequence[Element]) -> bytes:
    return b"".join(element(*one) for one in elements)


def _odd_value(draw: random.Random) -> bytes:
    return draw.choice((
        b"", b"\0", b"NaN ", b"1E400 ", b"-1", b"0 ", b"99999999999999999999", b"\\\\\\\\", b"1\\2\\3\\4",
        b"\xff\xff", b"\xff\xff\xff\xff",
        b"\0\0", b"ISO_IR 192", b"ISO 2022 IR 87", b"\\ISO 2022 IR 6", b"no such set ", b"\x1b$B\x1b(B", b"045Y",
        b"003Y", b"3", b"000D",
        b"LL", b"CT", b"HAND", b"PALETTE COLOR ", b"MONOCHROME1 ", b"RGB ", b"YBR_FULL_422", b"A" * 300,
        b"\xc3\x28" * 20,
        draw.randbytes(draw.randint(1, 40)),
    ))  # fmt: skip


def _other_value(elements: list[Element], draw: random.Random) -> bytes:
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(elements))
        group, number, vr, _value = elements[at]
        elements[at] = (group, number, vr, _odd_value(draw))
    return _file(elements)


def _numbers(elements: list[Element], draw: random.Random) -> bytes:
    """Changes the whole numbers that say how large the image is."""
    for _ in range(draw.randint(1, 3)):
        at = draw.choice([number for number, one in enumerate(elements) if one[2] == b"US"])
        group, number, vr, _value = elements[at]
        elements[at] = (
            group,
            number,
            vr,
            struct.pack("<H", draw.choice((0, 1, 2, 3, 7, 8, 9, 15, 16, 31, 32, 64, 0x7FFF, 0xFFFF))),
        )
    return _file(elements)


def _lie(elements: list[Element], draw: random.Random) -> bytes:
    at = draw.randrange(len(elements))
    lie = element(
        *elements[at], length=draw.choice((*_SIZES, 2**32 - 2, len(elements[at][3]) + 1, len(elements[at][3]) - 1))
    )
    return _file(elements[:at]) + lie + _file(elements[at + 1 :])


def _other_type(elements: list[Element], draw: random.Random) -> bytes:
    at = draw.randrange(len(elements))
    group, number, _vr, value = elements[at]
    types = (
        b"US",
        b"SS",
        b"UL",
        b"DS",
        b"IS",
        b"FD",
        b"AT",
        b"DA",
        b"TM",
        b"PN",
        b"UI",
        b"SQ",
        b"UN",
        b"OB",
        b"OW",
        b"AS",
        b"??",
        b"\0\0",
    )
    elements[at] = (group, number, draw.choice(types), value)
    return _file(elements)


def _other_order(elements: list[Element], draw: random.Random) -> bytes:
    kind = draw.randrange(4)
    if kind == 0:
        del elements[draw.randrange(len(elements))]
    elif kind == 1:
        elements.insert(draw.randint(0, len(elements)), draw.choice(elements))
    elif kind == 2:
        draw.shuffle(elements)
    else:
        at = draw.randrange(len(elements))
        group, number, vr, value = elements[at]
        elements[at] = (
            draw.choice((group, 0, 2, 8, 0x28, 0x7FE0, 0xFFFE, 0xFFFF)),
            draw.choice((number, 0, 0x10, 0xE000)),
            vr,
            value,
        )
    return _file(elements)


def _further_element(elements: list[Element], draw: random.Random) -> bytes:
    """Adds an element that changes how pixels are read, or a sequence."""
    nested = b""
    for _ in range(draw.choice((1, 5, 40))):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + nested + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        nested = element(8, 0x1140, b"SQ", item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), length=2**32 - 1)
    tags: tuple[tuple[int, int, bytes], ...] = (
        (0x28, 0x1053, b"DS"), (0x28, 0x1052, b"DS"), (0x28, 0x1050, b"DS"), (0x28, 0x1051, b"DS"), (0x28, 0x0008,
        b"IS"),
        (0x28, 0x3010, b"SQ"), (0x28, 0x1101, b"US"), (0x8, 0x5, b"CS"), (0x10, 0x1010, b"AS"), (0x28, 0x6, b"US"),
        (0x28, 0x120, b"US"), (0x9, 0x10, b"LO"), (0x28, 0x34, b"IS"), (0x8, 0x60, b"CS"), (0x2, 0x10, b"UI"), (0x54,
        0x81, b"US"),
    )  # fmt: skip
    put = nested if draw.random() < 0.3 else element(*draw.choice(tags), _odd_value(draw))
    at = draw.randint(0, len(elements))
    return _file(elements[:at]) + put + _file(elements[at:])


def _syntax(elements: list[Element], draw: random.Random) -> bytes:
    """Says another transfer syntax, with or without pixels in fragments."""
    syntax = draw.choice(SYNTAXES)
    changed = [(*one[:3], syntax + b"\0" * (len(syntax) % 2)) if one[:2] == (2, 0x10) else one for one in elements]
    if draw.random() < 0.5:
        return _file(changed)
    parts = [draw.randbytes(draw.choice((0, 2, 64, 300))) for _ in range(draw.randrange(4))]
    items = b"".join(
        struct.pack("<HHI", 0xFFFE, 0xE000, draw.choice((len(one), len(one), 2**31))) + one for one in (b"", *parts)
    )
    end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0) if draw.random() < 0.8 else b""
    return _file([one for one in changed if one[0] != 0x7FE0]) + element(
        0x7FE0, 0x10, b"OB", items + end, length=2**32 - 1
    )


_OF_DICOM: tuple[tuple[str, Callable[[list[Element], random.Random], bytes]], ...] = (
    ("value", _other_value), ("value", _other_value), ("numbers", _numbers), ("length of an element", _lie), ("type",
    _other_type),
    ("order of elements", _other_order), ("further element", _further_element), ("transfer syntax", _syntax),
)  # fmt: skip
