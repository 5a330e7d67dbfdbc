"""Check of a PNG before anything of it is inflated.

Size, kind and length of every chunk are read, and a PNG is made anew of those that hold the image. Comments, profiles,
previews and frames of animations never reach a decoder.
"""

import struct
import zlib
from collections.abc import Iterator

from serve.inputs.png_orientation import ORIENTED, stated_orientation
from serve.refusals import RefusedError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_CHUNKS = 20_000
_MOST_BESIDE = 1 << 20
"""Greatest length of all chunks that hold no pixels, in bytes."""
_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Allowed bits of a sample by colour type."""
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_ANIMATED = (b"acTL", b"fcTL", b"fdAT")
_DEFLATE = 1032
"""Greatest ratio by which deflate can compress."""


def checked_png(raw: bytes, *, most_pixels: int) -> tuple[bytes, int, int]:
    """Checks a PNG and removes all that is no image.

    Args:
        raw: the file.
        most_pixels: greatest number of pixels.

    Returns:
        The image alone as a PNG, its height and its width.

    Raises:
        RefusedError: it is no PNG, holds too many pixels or several images, is turned by its metadata, or is damaged.
    """
    if not raw.startswith(SIGNATURE):
        raise _refusal("is no PNG: send PNG or DICOM")
    kept, seen, beside = [SIGNATURE], set[bytes](), 0
    height = width = least = 0
    for number, (name, chunk) in enumerate(_chunks(raw)):
        content = chunk[8:-4]
        if number == 0:
            height, width, least = _header(name, content, most_pixels)
        if name in _ANIMATED:
            raise _refusal("is animated: give each frame as an image of its own")
        beside += 0 if name == b"IDAT" else len(content)
        if beside > _MOST_BESIDE:
            raise _refusal(f"holds more than {_MOST_BESIDE} bytes that are no pixels")
        if name in ORIENTED:
            _refuse_turned(stated_orientation(name, bytes(content)))
        if name in _KEPT:
            if name in seen and name != b"IDAT":
                raise _refusal("holds a header twice")
            if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
                raise _refusal("is damaged: a checksum does not fit")
            seen.add(name)
            kept.append(bytes(chunk))
        elif name[:1].isupper():
            raise _refusal("holds a chunk that must be understood and is not")
    pixels = sum(len(chunk) - 12 for chunk in kept if chunk[4:8] == b"IDAT")
    if least > _DEFLATE * pixels + 64:
        raise _refusal("holds fewer pixels than its header says")
    return b"".join(kept), height, width


def _chunks(raw: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yields name and bytes of each chunk, with its length, name and checksum, to the end mark."""
    place = len(SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        if place + 12 > len(raw):
            raise _refusal("ends before its end mark")
        length, name = struct.unpack_from(">I4s", raw, place)
        end = place + 12 + length
        if end > len(raw):
            raise _refusal("has a chunk that is longer than the file")
        yield name, memoryview(raw)[place:end]
        if name == b"IEND":
            return
        place = end
    raise _refusal(f"has more than {_MOST_CHUNKS} chunks")


def _header(name: bytes, content: memoryview, most_pixels: int) -> tuple[int, int, int]:
    """Returns height, width, and the least number of bytes of the inflated pixels."""
    if name != b"IHDR" or len(content) != 13:
        raise _refusal("has no header")
    width, height, bits, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", content)
    if bits not in _BITS.get(colour, ()) or compression or filtering or interlace > 1:
        raise _refusal("has a header that the standard does not know")
    if bits == 16 and colour:
        raise _refusal("has 16 bits a channel and colours or transparency: store it as grey of 16 bits, or with 8 bits")
    if not width or not height or width * height > most_pixels:
        raise _refusal(f"must have 1 to {most_pixels} pixels by its header")
    return height, width, height * (width * bits * _SAMPLES[colour] // 8)


def _refuse_turned(orientation: int | None) -> None:
    if orientation is None:
        raise _refusal("has metadata of a camera that cannot be read: send it without them")
    if orientation != 1:
        raise _refusal("is turned by its metadata: store its pixels upright")


def _refusal(problem: str) -> RefusedError:
    return RefusedError(f"the PNG {problem}", reason="png")
