"""DICOM files in memory, right ones and damaged ones."""

import io
import struct
from typing import Any

import numpy as np

CHILD = {
    "Modality": "DX",
    "BodyPartExamined": "CHEST",
    "ViewPosition": "AP",
    "PatientAge": "003Y",
    "PatientName": "Lovelace^Ada",
}
"""Tags of a chest X-ray of a child, as the X-ray sets are of."""


def dicom_bytes(
    pixels: np.ndarray,
    *,
    syntax: str = "1.2.840.10008.1.2.1",
    preamble: bytes = b"",
    without: tuple[str, ...] = (),
    **tags: Any,
) -> bytes:
    """A DICOM file of grey or RGB pixels with further tags, without some."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = Dataset()
    file.file_meta = meta
    file.SOPClassUID, file.SOPInstanceUID = SecondaryCaptureImageStorage, meta.MediaStorageSOPInstanceUID
    file.Rows, file.Columns = pixels.shape[:2]
    grey = pixels.ndim == 2
    file.SamplesPerPixel, file.PhotometricInterpretation = (1, "MONOCHROME2") if grey else (3, "RGB")
    if not grey:
        file.PlanarConfiguration = 0
    file.BitsAllocated = file.BitsStored = 8 * pixels.itemsize
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(pixels.dtype.kind == "i")
    file.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    file["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    for tag, value in {**CHILD, **tags}.items():
        if value is None:
            continue
        setattr(file, tag, value)
    for tag in without:
        delattr(file, tag)
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    raw = buffer.getvalue()
    return preamble.ljust(128, b"\0") + raw[128:] if preamble else raw


def element(group: int, number: int, vr: bytes, value: bytes, *, length: int | None = None) -> bytes:
    """One explicit element of little endian, with a length that may be a lie."""
    told = len(value) if length is None else length
    head = struct.pack("<HH2s", group, number, vr)
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return head + struct.pack("<HI", 0, told) + value
    return head + struct.pack("<H", told) + value


def by_hand(*elements: bytes, syntax: bytes = b"1.2.840.10008.1.2.1\0") -> bytes:
    """A file of these elements behind a preamble and its meta information."""
    return b"\0" * 128 + b"DICM" + element(2, 0x10, b"UI", syntax) + b"".join(elements)


def size_by_hand(
    rows: int,
    columns: int,
    pixels: bytes,
    *,
    syntax: bytes = b"1.2.840.10008.1.2.1\0",
    frames: bytes = b"",
    **numbers: int,
) -> bytes:
    """A grey file of 16 bits whose tags say what they like."""
    told = {"allocated": 16, "stored": 16, "high": 15, "sign": 0, **numbers}
    us = lambda number, value: element(0x28, number, b"US", struct.pack("<H", value))
    return by_hand(
        us(2, 1),
        element(0x28, 4, b"CS", b"MONOCHROME2 "),
        element(0x28, 8, b"IS", frames) if frames else b"",
        us(0x10, rows),
        us(0x11, columns),
        us(0x100, told["allocated"]),
        us(0x101, told["stored"]),
        us(0x102, told["high"]),
        us(0x103, told["sign"]) if told["sign"] >= 0 else b"",
        pixels,
        syntax=syntax,
    )


def pixel_data(value: bytes) -> bytes:
    """Uncompressed pixel data."""
    return element(0x7FE0, 0x10, b"OW", value)


def fragments(*values: bytes) -> bytes:
    """Compressed pixel data with an empty table of offsets."""
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value for value in (b"", *values))
    return element(0x7FE0, 0x10, b"OB", b"", length=0xFFFFFFFF) + items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
