"""Reads a DICOM file as an image.

Grey values go through the transformations of the standard (PS3.3, C.11), which pydicom applies: from stored values to
modality values by the rescale slope and intercept or the modality LUT, then to the range from black to white by the VOI
LUT, the file's first window, or a window that the user gives. Without any of these, the least and the greatest value
that the stored bits can represent are black and white. For computed tomography this would leave no contrast, so a
window must be set. MONOCHROME1 is inverted, so that greater values are always brighter, and padding becomes black.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from assay.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

DICOM_SUFFIXES = (".dcm", ".dicom")
Window = tuple[float, float] | Literal["file", "full"]
"""Centre and width in units of the modality (Hounsfield units for CT), the file's own, or the range of the bits."""
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


class UnreadableImageError(DataError):
    """A file cannot be decoded as an image. The message gives the reason; the caller adds the file.

    Where a tag of DICOM is at fault, ``setting`` is its keyword and ``allowed`` what it may be.
    """


def is_dicom(path: Path) -> bool:
    """Returns whether a file is DICOM by its name, or by the mark after its preamble: archives often omit extensions.

    Args:
        path: of the file.

    Returns:
        True if it is.
    """
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            file.seek(128)
            return file.read(4) == b"DICM"
    except OSError:
        return False


def read_dicom(path: Path | BinaryIO, window: Window = "file") -> "Image":
    """Reads the image of a DICOM file, upright as stored.

    Args:
        path: of the file, or the opened file.
        window: for grey images.

    Returns:
        A grey image of mode F from 0 (black) to 1 (white), or an RGB image.

    Raises:
        UnreadableImageError: it cannot be decoded.
    """
    try:
        return _image(path, window)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged tag, which pydicom decodes on access
        raise UnreadableImageError(f"a tag of it cannot be read ({type(error).__name__})") from None


def tags(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Reads some tags of a file without decoding its pixels.

    Args:
        path: of the file.
        names: keywords of the standard, such as ``PatientID``.

    Returns:
        The values by keyword; empty where the file lacks a tag or cannot be read.
    """
    import pydicom

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(names))
        return {name: str(header.get(name) or "") for name in names}
    except Exception:  # pydicom may raise anything on a file that is not DICOM
        return dict.fromkeys(names, "")


def _image(path: Path | BinaryIO, window: Window) -> "Image":
    from PIL import Image

    file = _read(path)
    _refuse_unknown(file)
    pixels = _decoded(file)
    return Image.fromarray(pixels) if file.SamplesPerPixel == 3 else Image.fromarray(_grey(file, pixels, window))


def _decoded(file: Any) -> np.ndarray:
    """Decodes the pixels, (height, width) or (height, width, 3), with all the bits that are allocated."""
    from pydicom.pixels import pixel_array

    try:
        return np.asarray(pixel_array(file, correct_unused_bits=False))
    except Exception as error:  # a decoder may raise anything
        raise UnreadableImageError(f"its pixels cannot be decoded: {error}") from None


def _stored(file: Any, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the stored values without unused bits, and which are padding, both (height, width).

    Raises:
        UnreadableImageError: a value does not fit into BitsStored, or may be either of two, or either image or padding.
    """
    stored, unused = int(file.BitsStored), int(file.BitsAllocated) - int(file.BitsStored)
    cut = (pixels << unused) >> unused if unused > 0 else pixels
    ends = _padding_ends(file)
    written = _between(pixels, ends)
    padding = written | _padding_of_stored(file, cut, ends, written)
    if unused <= 0 or _has_overlay_in_pixels(file):
        return cut, padding
    # Negative values may have zeros in the unused bits, and padding may use all bits that are allocated.
    beyond = (cut != pixels) & (pixels >> stored != 0) & ~written
    if beyond.any():
        raise UnreadableImageError(
            f"a stored value of {int(pixels[beyond][0])}, which its BitsStored of {stored} bits cannot hold: set "
            "BitsStored and HighBit to what the detector has",
            setting="BitsStored",
            given=stored,
            allowed="as many bits as the stored values have",
        )
    _refuse_two_readings(file, pixels, cut, padding)
    return cut, padding


def _refuse_two_readings(file: Any, pixels: np.ndarray, cut: np.ndarray, padding: np.ndarray) -> None:
    """Raises for signed values that are positive with all allocated bits and negative with the stored ones.

    Unused bits may be zeros (PS3.5, 8.1.1), but then a file of values that are never negative, wrongly marked as
    signed, has the same pixels. A negative SmallestImagePixelValue decides, where no negative value has its sign in the
    unused bits.
    """
    either = (cut < 0) & (pixels >= 0) & ~padding
    extended = ((pixels < 0) & ~padding).any()
    if not either.any() or ((_number(file, "SmallestImagePixelValue") or 0) < 0 and not extended):
        return
    most = 2 ** (int(file.BitsStored) - 1) - 1
    raise UnreadableImageError(
        f"a pixel of {int(pixels[either][0])}, or {int(cut[either][0])} if its unused bits are empty: with "
        f"PixelRepresentation 1 and BitsStored {file.BitsStored} the most is {most}; set PixelRepresentation to 0 if "
        "no value is negative, else write the sign of negative values into the unused bits",
        setting="PixelRepresentation",
        given=1,
        allowed="0 if no value is negative; else the unused bits of negative values must hold the sign",
    )


def _has_overlay_in_pixels(file: Any) -> bool:
    """Returns whether unused bits of pixels hold a graphic, as files of before 2004 may (PS3.3, C.9.2)."""
    positions = (file.get((group, 0x0102)) for group in range(0x6000, 0x6020, 2))
    return any(one is not None and one.value not in (None, "", 0) for one in positions)


def _read(path: Path | BinaryIO) -> Any:
    import pydicom

    try:
        file = pydicom.dcmread(path)
        for tag in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PhotometricInterpretation"):
            if file.get(tag) in (None, ""):
                raise UnreadableImageError(f"no {tag}: it holds no image", setting=tag, allowed="a value")
        if "TransferSyntaxUID" not in file.file_meta:
            raise UnreadableImageError("no TransferSyntaxUID", setting="TransferSyntaxUID", allowed="a value")
    except DataError:
        raise
    except Exception as error:  # pydicom may raise anything on a file that is not DICOM
        raise UnreadableImageError(f"no DICOM file ({type(error).__name__})") from None
    return file


def _refuse_unknown(file: Any) -> None:
    frames, kind = _number(file, "NumberOfFrames"), file.PhotometricInterpretation
    if frames not in (None, 0, 1):
        raise UnreadableImageError(
            f"{frames:g} frames: give each as an image of its own", setting="NumberOfFrames", given=frames, allowed=1
        )
    highest = _number(file, "HighBit")
    if highest is not None and highest != int(file.BitsStored) - 1:
        raise UnreadableImageError(
            f"its HighBit is {highest:g} and its BitsStored {file.BitsStored}: the values would be shifted; the "
            f"standard wants HighBit {int(file.BitsStored) - 1}, write it anew",
            setting="HighBit",
            given=highest,
            allowed="BitsStored - 1",
        )
    grey = file.SamplesPerPixel == 1 and kind in ("MONOCHROME1", "MONOCHROME2")
    colour = file.SamplesPerPixel == 3 and file.BitsAllocated == 8 and (kind == "RGB" or kind.startswith("YBR"))
    if not (grey or colour):
        raise UnreadableImageError(
            f"{kind} of {file.SamplesPerPixel} × {file.BitsAllocated} bits is not read",
            setting="PhotometricInterpretation",
            given=kind,
            allowed="MONOCHROME1, MONOCHROME2, or RGB and YBR of 8 bits",
        )


def _grey(file: Any, pixels: np.ndarray, window: Window) -> np.ndarray:
    """Returns the grey image, (height, width) float32 in [0, 1]."""
    scale = _grey_scale(file, window)
    pixels, padding = _stored(file, pixels)
    try:
        shown = _shown(scale, pixels)
    except Exception as error:  # pydicom may raise anything on a damaged table
        raise UnreadableImageError(f"its grey values cannot be mapped: {error}") from None
    shown = np.clip(shown, 0, 1)
    shown = 1 - shown if file.PhotometricInterpretation == "MONOCHROME1" else shown
    return np.where(padding, 0, shown).astype(np.float32)


def _shown(scale: Any, pixels: np.ndarray) -> np.ndarray:
    """Applies the transformations of modality and VOI to stored values, (height, width); black is 0 and white 1."""
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

    least, most = _ends(scale)
    values = apply_modality_lut(pixels, scale)
    if "VOILUTSequence" in scale:
        entries, first, bits = scale.VOILUTSequence[0].LUTDescriptor
        # Values outside the table get its end values; pydicom would wrap around at 16 bits.
        rounded = np.rint(values).astype(np.int64).clip(first, first + (entries or 2**16) - 1)
        return np.asarray(apply_voi(rounded, scale), np.float64) / (2**bits - 1)
    if "WindowWidth" in scale:
        with np.errstate(over="ignore"):
            values = apply_windowing(values, scale)
    return (np.asarray(values, np.float64) - least) / (most - least)


def _ends(scale: Any) -> tuple[float, float]:
    """Returns the modality values of black and white where nothing else defines them; descending with a negative slope.

    pydicom's windows lead to the same two values.
    """
    if "ModalityLUTSequence" in scale:
        return 0.0, float(2 ** scale.ModalityLUTSequence[0].LUTDescriptor[2] - 1)
    half = 2 ** (scale.BitsStored - 1)
    least, most = (-half, half - 1) if scale.PixelRepresentation else (0, 2 * half - 1)
    slope, intercept = float(scale.get("RescaleSlope", 1)), float(scale.get("RescaleIntercept", 0))
    ends = least * slope + intercept, most * slope + intercept
    # With a window the order follows the slope: pydicom maps its lower end to the value of the least bits.
    return ends if "WindowWidth" in scale else (min(ends), max(ends))


def _grey_scale(file: Any, window: Window) -> Any:
    """Returns the tags that define grey values, as a DICOM data set of their own.

    Raises:
        UnreadableImageError: they define no transformation that can be applied.
    """
    import pydicom

    scale = pydicom.Dataset()
    scale.file_meta = file.file_meta
    scale.PhotometricInterpretation = file.PhotometricInterpretation
    scale.BitsStored, scale.PixelRepresentation = int(file.BitsStored), int(file.get("PixelRepresentation") or 0)
    if file.get("ModalityLUTSequence"):
        scale.ModalityLUTSequence = file.ModalityLUTSequence
    else:
        slope, intercept = (_number(file, tag) for tag in ("RescaleSlope", "RescaleIntercept"))
        if slope == 0:
            raise UnreadableImageError(
                "its RescaleSlope is 0, which makes every pixel the same",
                setting="RescaleSlope",
                given=0,
                allowed="another number",
            )
        if slope is not None or intercept is not None:
            scale.RescaleSlope, scale.RescaleIntercept = _decimal(slope, 1.0), _decimal(intercept, 0.0)
    for tag, value in _voi(file, window).items():
        setattr(scale, tag, value)
    return scale


def _voi(file: Any, window: Window) -> Mapping[str, Any]:
    """Returns the tags of the transformation to the range from black to white; none for the full range of the bits."""
    if window == "full":
        return {}
    table = file.get("VOILUTSequence")
    if window == "file" and table:
        if any(table[0].get(tag) is None for tag in ("LUTDescriptor", "LUTData")):
            raise UnreadableImageError(
                "its VOILUTSequence holds no table", setting="VOILUTSequence", allowed="LUTDescriptor and LUTData"
            )
        return {"VOILUTSequence": table}
    if window == "file":
        centre, width = (_number(file, tag) for tag in ("WindowCenter", "WindowWidth"))
        function = str(file.get("VOILUTFunction") or "LINEAR").upper()
    else:
        (centre, width), function = window, "LINEAR_EXACT"
    if centre is None or width is None:
        if file.get("Modality") == "CT" or file.get("RescaleType") == "HU":
            raise UnreadableImageError(
                "computed tomography without a window: set window: [centre, width] in Hounsfield units, such as "
                "[40, 400] of soft tissue, or window: full for all that its bits can hold",
                setting="WindowCenter",
                allowed="a number, with a WindowWidth",
            )
        return {}
    if function not in _FUNCTIONS:
        raise UnreadableImageError(
            f"window function {function!r} is unknown; known: {', '.join(_FUNCTIONS)}",
            setting="VOILUTFunction",
            given=function,
            allowed=", ".join(_FUNCTIONS),
        )
    least = 1 if function == "LINEAR" else 0
    if width < least or width == 0:
        raise UnreadableImageError(
            f"its WindowWidth is {width:g}; the standard wants {'at least 1' if least else 'more than 0'}: correct it, "
            "or set window: [centre, width]",
            setting="WindowWidth",
            given=width,
            allowed="at least 1" if least else "more than 0",
        )
    return {"WindowCenter": _decimal(centre), "WindowWidth": _decimal(width), "VOILUTFunction": function}


def _padding_ends(file: Any) -> tuple[int, int] | None:
    """Returns the least and the greatest value of padding, in the sign of the pixels; None where none is stated.

    Files write the padding of signed pixels without a sign too.
    """
    first, last = (_number(file, tag) for tag in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    if first is None:
        return None
    values = 2 ** max(16, int(file.BitsAllocated))
    least = -values // 2 if file.get("PixelRepresentation") else 0
    ends = sorted((int(end) - least) % values + least for end in (first, first if last is None else last))
    return ends[0], ends[1]


def _between(values: np.ndarray, ends: tuple[int, int] | None) -> np.ndarray:
    return np.zeros(values.shape, bool) if ends is None else np.asarray((values >= ends[0]) & (values <= ends[1]))


def _padding_of_stored(file: Any, cut: np.ndarray, ends: tuple[int, int] | None, written: np.ndarray) -> np.ndarray:
    """Returns (height, width) bool: values of BitsStored bits that are not part of the image (PS3.3, C.7.5.1.1.2).

    Args:
        file: of the pixels.
        cut: stored values.
        ends: of padding.
        written: the pixels that are padding with all allocated bits.

    Raises:
        UnreadableImageError: the padding value does not fit into the stored bits, no pixel has it with all allocated
            bits, and some may be what was left of it.
    """
    values, signed = 2 ** int(file.BitsStored), bool(file.get("PixelRepresentation"))
    if ends and signed and values // 2 <= ends[0] <= ends[1] < values:
        ends = ends[0] - values, ends[1] - values
    if ends and not signed and ends[0] >= values and not written.any() and np.isin(cut, np.mod(ends, values)).any():
        raise UnreadableImageError(
            f"its PixelPaddingValue is {ends[0]}, which {file.BitsStored} bits cannot hold: a pixel of "
            f"{ends[0] % values} may be padding or image; correct it, or delete the tag if the image has no padding",
            setting="PixelPaddingValue",
            given=ends[0],
            allowed="a value of BitsStored bits",
        )
    return _between(cut, ends)


def _decimal(value: float | None, otherwise: float = 0.0) -> Any:
    """Returns a number as a decimal string of DICOM: at most 16 characters."""
    from pydicom.valuerep import DSfloat

    return DSfloat(otherwise if value is None else value, auto_format=True)


def _number(file: Any, tag: str) -> float | None:
    """Returns the first value of a tag; None where it is absent or empty.

    Raises:
        UnreadableImageError: it is not a finite number.
    """
    try:
        value = file.get(tag)  # pydicom decodes it at this access
        if value is None or value == "":
            return None
        number = float(value if isinstance(value, int | float | str) else value[0])
    except (TypeError, ValueError, OverflowError, IndexError) as error:
        raise UnreadableImageError(f"its {tag} is no number: {error}", setting=tag, allowed="a number") from None
    if not math.isfinite(number):
        raise UnreadableImageError(
            f"its {tag} is {number}, no finite number", setting=tag, given=number, allowed="a finite number"
        )
    return number
