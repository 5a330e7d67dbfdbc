"""One DICOM file as an image.

Grey values are those of the modality: stored value × rescale slope + intercept. Where the file carries a window, its
first one maps them to black … white (PS3.3, C.11.2, with its function, linear by default); otherwise the least and the
greatest value that the stored bits can hold do. MONOCHROME1 is inverted, so that more is always brighter.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assay.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".dcm", ".dicom")
_WINDOWS: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "LINEAR": lambda x, centre, width: (x - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5,
    "LINEAR_EXACT": lambda x, centre, width: (x - centre) / max(width, 1e-6) + 0.5,
    "SIGMOID": lambda x, centre, width: 1 / (1 + np.exp(-4 * (x - centre) / max(width, 1e-6))),
}


class UnreadableImageError(DataError):
    """A file cannot be decoded as an image; the message says why, its reader says which."""


def channels(path: Path) -> int:
    """1 for grey, 3 for colour, from the header; what is not compressed must also be there to the last byte.

    Raises:
        UnreadableImageError: the header is none or does not say what grey values mean, or pixels are missing.
    """
    header = _read(path, stop_before_pixels=True)
    _refuse_unknown(header)
    if header.SamplesPerPixel == 1:
        _scale(header)
    if not header.file_meta.TransferSyntaxUID.is_compressed:
        needed = header.Rows * header.Columns * header.SamplesPerPixel * header.BitsAllocated // 8
        if path.stat().st_size < needed:
            raise UnreadableImageError(f"truncated: {path.stat().st_size} bytes, its pixels alone take {needed}")
    return int(header.SamplesPerPixel)


def read(path: Path) -> "Image":
    """The image, upright as stored: mode F from 0 (black) to 1 (white), or RGB.

    Raises:
        UnreadableImageError: it cannot be decoded.
    """
    from PIL import Image

    file = _read(path)
    _refuse_unknown(file)
    try:
        pixels = file.pixel_array
    except Exception as error:  # whatever a decoder raises
        raise UnreadableImageError(f"its pixels cannot be decoded: {error}") from None
    return Image.fromarray(pixels) if file.SamplesPerPixel == 3 else Image.fromarray(_grey(file, pixels))


def _read(path: Path, **how: Any) -> Any:
    import pydicom

    try:
        file = pydicom.dcmread(path, **how)
        for tag in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PhotometricInterpretation"):
            if file.get(tag) in (None, ""):
                raise UnreadableImageError(f"no {tag}: it holds no image")
        if "TransferSyntaxUID" not in file.file_meta:
            raise UnreadableImageError("no TransferSyntaxUID")
    except DataError:
        raise
    except Exception as error:  # whatever pydicom raises on what is no DICOM
        raise UnreadableImageError(f"no DICOM file ({type(error).__name__})") from None
    return file


def _refuse_unknown(file: Any) -> None:
    frames, kind = _number(file, "NumberOfFrames"), file.PhotometricInterpretation
    if frames not in (None, 0, 1):
        raise UnreadableImageError(f"{frames:g} frames: give each as an image of its own")
    grey = file.SamplesPerPixel == 1 and kind in ("MONOCHROME1", "MONOCHROME2")
    colour = file.SamplesPerPixel == 3 and file.BitsAllocated == 8 and (kind == "RGB" or kind.startswith("YBR"))
    if not (grey or colour):
        raise UnreadableImageError(f"{kind} of {file.SamplesPerPixel} × {file.BitsAllocated} bits is not read")


def _grey(file: Any, pixels: np.ndarray) -> np.ndarray:
    """(height, width) float32 in [0, 1]."""
    scale = _scale(file)
    slope, intercept = scale.slope, scale.intercept
    values = pixels.astype(np.float64) * slope + intercept
    if scale.window is not None:
        shown = _WINDOWS[scale.function](values, *scale.window)
    else:
        bits, signed = int(file.BitsStored), int(file.get("PixelRepresentation", 0)) == 1
        least = -(2 ** (bits - 1)) if signed else 0
        ends = sorted(end * slope + intercept for end in (least, least + 2**bits - 1))
        shown = (values - ends[0]) / max(ends[1] - ends[0], 1e-12)
    shown = np.clip(shown, 0, 1)
    return (1 - shown if file.PhotometricInterpretation == "MONOCHROME1" else shown).astype(np.float32)


class _Scale(NamedTuple):
    """What a header says of its grey values."""

    slope: float
    intercept: float
    window: tuple[float, float] | None
    """Centre and width."""
    function: str


def _scale(file: Any) -> _Scale:
    slope, intercept, centre, width = (
        _number(file, tag) for tag in ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth")
    )
    function = str(file.get("VOILUTFunction") or "LINEAR")
    window = None if centre is None or width is None else (centre, width)
    if window is not None and function not in _WINDOWS:
        raise UnreadableImageError(f"window function {function!r} is unknown; known: {', '.join(_WINDOWS)}")
    return _Scale(
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        window=window,
        function=function,
    )


def _number(file: Any, tag: str) -> float | None:
    """The first value of a tag; None where it is absent or empty."""
    try:
        value = file.get(tag)  # decoded only now
        if value is None or value == "":
            return None
        return float(value if isinstance(value, int | float | str) else value[0])
    except (TypeError, ValueError, OverflowError) as error:
        raise UnreadableImageError(f"its {tag} is no number: {error}") from None
