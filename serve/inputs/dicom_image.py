"""Check of the tags of a DICOM image that say how its pixels are stored, before they are decoded."""

import struct
from typing import Any

from serve.inputs.dicom_structure import JPEG_BASELINE, RLE, Structure
from serve.refusals import RefusedError

_LARGEST_TABLE = 65_536
_RLE_HEADER = 64


def checked_header(header: Any, structure: Structure, raw: bytes, *, most_pixels: int) -> tuple[int, int]:
    """Checks the tags that say how pixels are stored.

    Args:
        header: pydicom's data set, without pixels.
        structure: of the file.
        raw: the file.
        most_pixels: greatest number of pixels.

    Returns:
        Height and width.

    Raises:
        RefusedError: names the tag at fault.
    """
    rows, columns = (_whole(header, tag, 1, 65_535) for tag in ("Rows", "Columns"))
    if rows * columns > most_pixels:
        raise _refusal("Rows", f"times Columns must be at most {most_pixels}")
    if header.get("NumberOfFrames") is not None:
        _whole(header, "NumberOfFrames", 1, 1)
    samples = _whole(header, "SamplesPerPixel", 1, 3)
    kinds = ("MONOCHROME1", "MONOCHROME2") if samples == 1 else _colours(structure.syntax)
    if samples == 2 or header.get("PhotometricInterpretation") not in kinds:
        raise _refusal("PhotometricInterpretation", f"must be one of {', '.join(kinds)} for its SamplesPerPixel")
    allocated = _whole(header, "BitsAllocated", 8, 16 if samples == 1 else 8)
    if allocated not in (8, 16):
        raise _refusal("BitsAllocated", "must be 8 or 16")
    stored = _whole(header, "BitsStored", 1, allocated)
    _whole(header, "HighBit", stored - 1, stored - 1)
    _whole(header, "PixelRepresentation", 0, 1)
    if samples == 3:
        _whole(header, "PlanarConfiguration", 0, 1)
    for name in ("ModalityLUTSequence", "VOILUTSequence"):
        _check_table(header, name)
    frame = rows * columns * samples * allocated // 8
    if structure.syntax == RLE:
        _check_rle(structure, raw, segments=samples * allocated // 8, length=rows * columns)
    elif structure.syntax == JPEG_BASELINE:
        _check_jpeg(structure, raw, rows=rows, columns=columns, samples=samples)
    elif structure.pixels[1] not in (frame, frame + frame % 2):
        raise _refusal("PixelData", "must be as long as Rows, Columns, SamplesPerPixel and BitsAllocated say")
    return rows, columns


def _colours(syntax: str) -> tuple[str, ...]:
    return ("RGB", "YBR_FULL", "YBR_FULL_422") if syntax == JPEG_BASELINE else ("RGB", "YBR_FULL")


def _whole(header: Any, tag: str, least: int, most: int) -> int:
    value = header.get(tag)
    allowed = f"must be {least}" if least == most else f"must be a whole number from {least} to {most}"
    if value is None or isinstance(value, bool | float) or not isinstance(value, int) or not least <= value <= most:
        raise _refusal(tag, allowed)
    return int(value)


def _check_table(header: Any, name: str) -> None:
    """Raises for a lookup table that the standard does not allow."""
    sequence = header.get(name)
    if sequence is None or not len(sequence):
        return
    descriptor, data = (sequence[0].get(tag) for tag in ("LUTDescriptor", "LUTData"))
    numbers = list(descriptor) if descriptor is not None and not isinstance(descriptor, int | str | bytes) else []
    if len(numbers) != 3 or not all(isinstance(number, int) for number in numbers):
        raise _refusal(name, "must hold a LUTDescriptor of three numbers")
    entries = (numbers[0] % _LARGEST_TABLE) or _LARGEST_TABLE
    if not 8 <= numbers[2] <= 16 or data is None:
        raise _refusal(name, "must hold LUTData with entries of 8 to 16 bits")
    length = len(data) // (2 if isinstance(data, bytes) else 1)
    if length not in (entries, (entries + 1) // 2):
        raise _refusal(name, "must hold as many entries as its LUTDescriptor says")


def _check_rle(structure: Structure, raw: bytes, *, segments: int, length: int) -> None:
    """Raises unless each segment of run lengths decodes to exactly one byte a pixel (PS3.5, annex G)."""
    tag = "PixelData"
    if len(structure.fragments) != 1 or structure.fragments[0][1] < _RLE_HEADER:
        raise _refusal(tag, "must hold one fragment of run lengths")
    start, size = structure.fragments[0]
    numbers = struct.unpack_from("<16I", raw, start)
    ends = [*numbers[2 : 1 + segments], size]
    if numbers[0] != segments or list(numbers[1 : 1 + segments]) != sorted(numbers[1 : 1 + segments]):
        raise _refusal(tag, "must hold as many segments as its samples have bytes")
    for first, last in zip(numbers[1 : 1 + segments], ends, strict=True):
        if not _RLE_HEADER <= first <= last <= size or _run_lengths(raw[start + first : start + last], length) < length:
            raise _refusal(tag, "must hold one run-length byte stream a segment, as long as Rows and Columns say")


def _run_lengths(segment: bytes, most: int) -> int:
    """Returns the decoded length of a segment; 0 if it is longer than ``most``."""
    place = decoded = 0
    while place < len(segment) and decoded < most:
        control = segment[place]
        if control == 128:
            place += 1
        elif control < 128:
            place, decoded = place + control + 2, decoded + control + 1
        else:
            place, decoded = place + 2, decoded + 257 - control
    # One byte may pad a segment to an even length.
    return 0 if decoded > most or len(segment) - place > 1 else decoded


def _check_jpeg(structure: Structure, raw: bytes, *, rows: int, columns: int, samples: int) -> None:
    """Raises unless a JPEG is baseline, of 8 bits, and has the size and the channels that the tags state."""
    jpeg = b"".join(raw[start : start + length] for start, length in structure.fragments)
    place = 2
    while jpeg[:2] == b"\xff\xd8" and place + 10 <= len(jpeg) and jpeg[place] == 0xFF:
        marker = jpeg[place + 1]
        length = int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if marker == 0xC0:
            bits, height, width, channels = struct.unpack_from(">BHHB", jpeg, place + 4)
            if (bits, height, width, channels) == (8, rows, columns, samples):
                return
            break
        if 0xC0 < marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            break
        place += 2 + length if marker != 0xFF else 1
    raise _refusal("PixelData", "must be a baseline JPEG of 8 bits, of the size that Rows and Columns say")


def _refusal(tag: str, allowed: str) -> RefusedError:
    return RefusedError(f"the DICOM tag {tag} {allowed}", reason="dicom")
