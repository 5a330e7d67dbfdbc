"""The orientation that metadata of a camera state (EXIF 2.32, section 4.6); nothing else of them is read."""

import struct

_ORIENTATION, _SHORT = 0x0112, 3
_ENTRY = 12
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_PREFIX = b"Exif\0\0"


def orientation_of(metadata: bytes) -> int | None:
    """Returns the orientation of an image.

    Args:
        metadata: a TIFF structure, perhaps after the prefix that JPEG needs.

    Returns:
        1 for an image that is stored upright, or where none is stated, 2 to 8 for a turned or mirrored one; None for
        metadata that cannot be read.
    """
    raw = metadata.removeprefix(_PREFIX)
    order = _ORDERS.get(raw[:4])
    if order is None or len(raw) < 8:
        return None
    (place,) = struct.unpack_from(f"{order}I", raw, 4)
    if not 8 <= place <= len(raw) - 2:
        return None
    (count,) = struct.unpack_from(f"{order}H", raw, place)
    if place + 2 + count * _ENTRY > len(raw):
        return None
    stated = set[int]()
    for start in range(place + 2, place + 2 + count * _ENTRY, _ENTRY):
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", raw, start)
        if tag == _ORIENTATION:
            if (kind, values) != (_SHORT, 1) or not 1 <= value <= 8:
                return None
            stated.add(value)
    return next(iter(stated), 1) if len(stated) < 2 else None
