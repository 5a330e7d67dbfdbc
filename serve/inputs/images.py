"""Images as PNG or DICOM: limits from the file's own header first, then the preprocessing of the data set."""

import binascii
import io
import logging
import warnings
from typing import Any, Literal, NamedTuple

import numpy as np

from assay.data.base import Dataset
from assay.data.images.dicom import UnreadableImageError
from assay.data.images.files import Decoder, Seen, WrongChannelsError
from assay.errors import DataError
from serve.inputs.dicom_facts import header_warnings, stated_facts
from serve.inputs.dicom_image import checked_header
from serve.inputs.dicom_structure import structure_of
from serve.inputs.grey_values import depth_warnings
from serve.inputs.intended_use import check_use
from serve.inputs.placement import Placement
from serve.inputs.png import checked_png
from serve.refusals import RefusedError

Kind = Literal["png", "dicom"]
KINDS: dict[str, Kind] = {"image/png": "png", "application/dicom": "dicom"}
"""Kind of a raw body by its Content-Type."""
MOST_PIXELS = 1 << 24
"""Greatest number of pixels of all images of one call: one of 4096 × 4096, or five chest X-rays of full size."""


class ReadImage(NamedTuple):
    """An image as a record of the model."""

    record: np.ndarray
    """(channels, height, width) float32 from 0 to 1."""
    placement: Placement
    about: dict[str, Any]
    """What its header states about patient and image; empty for a PNG."""
    warnings: tuple[str, ...]


class ImageReader:
    """Reads images as those of a data set were read.

    Args:
        dataset: of images.
        most_pixels: greatest number of pixels of all images of one call.
    """

    def __init__(self, dataset: Dataset, *, most_pixels: int = MOST_PIXELS) -> None:
        self._decoder, self._use = dataset.decoder, dataset.intended_use
        self.most_pixels = most_pixels

    def from_json(self, item: Any, number: int, *, most_pixels: int) -> ReadImage:
        """Reads an image of a JSON body: ``{"png": BASE64}`` or ``{"dicom": BASE64}``; of a body that is a file, bytes.

        Args:
            item: the object.
            number: of the record, for errors.
            most_pixels: greatest number of pixels.

        Returns:
            The image.

        Raises:
            RefusedError: it is none.
        """
        kind: Kind = "dicom" if type(item) is dict and "dicom" in item else "png"
        if type(item) is dict and item.keys() == {kind} and type(item[kind]) is bytes:
            return self.from_file(item[kind], kind, record=number, most_pixels=most_pixels)
        if type(item) is not dict or item.keys() != {kind} or type(item[kind]) is not str:
            raise RefusedError(
                f'record {number} must be an image {{"png": BASE64}} or {{"dicom": BASE64}}, or a list of numbers'
            )
        try:
            raw = binascii.a2b_base64(item[kind], strict_mode=True)
        except ValueError:
            raise RefusedError(f"record {number} is not in base64 (RFC 4648, section 4, without line breaks)") from None
        try:
            return self.from_file(raw, kind, record=number, most_pixels=most_pixels)
        except RefusedError as error:
            if error.reason.endswith("_outside"):
                raise
            raise RefusedError(f"record {number}: {error}", status=error.status, reason=error.reason) from None

    def from_file(self, raw: bytes, kind: Kind, *, record: int = 0, most_pixels: int | None = None) -> ReadImage:
        """Reads an image file.

        Args:
            raw: its content.
            kind: of it.
            record: its number, for errors.
            most_pixels: greatest number of pixels; that of the reader by default.

        Returns:
            The image.

        Raises:
            RefusedError: it is too large, damaged, of a form that is not read, or of those that the model was not made
                for. Says what is allowed, and names the tag of DICOM that is at fault.
        """
        decoder = self._decoder
        if decoder is None:
            raise RefusedError(
                "this model's data set does not say how files become records: send lists of numbers", reason="no_files"
            )
        most = self.most_pixels if most_pixels is None else most_pixels
        about: dict[str, Any] = {}
        doubts: tuple[str, ...] = ()
        if kind == "png":
            image, height, width = checked_png(raw, most_pixels=most)
        else:
            image = raw
            header, height, width = _checked_dicom(raw, most)
            about, doubts = _read_header(header)
            check_use(self._use, about, record=record)
        seen = _decoded(decoder, image, kind)
        return ReadImage(
            record=seen.record,
            placement=Placement(
                source=(height, width), box=decoder.box(width, height), record=(decoder.height, decoder.width)
            ),
            about=about,
            warnings=(*_scaled(decoder, height, width), *doubts, *depth_warnings(decoder, seen)),
        )


def _checked_dicom(raw: bytes, most_pixels: int) -> tuple[Any, int, int]:
    """Returns the header of a DICOM file that is safe to decode, its height and its width."""
    structure = structure_of(raw)
    try:
        _silence()
        import pydicom

        header = pydicom.dcmread(io.BytesIO(raw), stop_before_pixels=True)
        return header, *checked_header(header, structure, raw, most_pixels=most_pixels)
    except RefusedError:
        raise
    except Exception:  # pydicom may raise anything on a damaged tag
        raise _unreadable_tag() from None


def _read_header(header: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns what a DICOM file states about patient and image, and the warnings of its header."""
    try:
        return stated_facts(header), header_warnings(header)
    except RefusedError:
        raise
    except Exception:  # likewise
        raise _unreadable_tag() from None


def _unreadable_tag() -> RefusedError:
    return RefusedError("the DICOM file has a tag that cannot be read", reason="dicom")


def _decoded(decoder: Decoder, image: bytes, kind: Kind) -> Seen:
    """Decodes a checked file as the data set does. Errors of libraries may repeat the file, so theirs are replaced."""
    try:
        _silence()
        return decoder.decode(io.BytesIO(image), as_dicom=kind == "dicom", formats=("PNG",))
    except WrongChannelsError as error:
        raise RefusedError(
            f"the image must have {error.allowed} channel{'s' * (error.allowed > 1)}", reason="channels"
        ) from None
    except UnreadableImageError as error:
        problem = f"tag {error.setting} must be {error.allowed}" if error.setting else "image cannot be decoded"
        raise RefusedError(f"the {'PNG' if kind == 'png' else 'DICOM'} {problem}", reason=kind) from None
    except (DataError, MemoryError, RecursionError):
        raise RefusedError("the image cannot be decoded", reason=kind) from None


def _scaled(decoder: Decoder, height: int, width: int) -> tuple[str, ...]:
    size = decoder.height, decoder.width
    if not decoder.scaled_by_publisher or (height, width) == size:
        return ()
    return (
        f"the image was scaled to {size[0]} × {size[1]} pixels here; those of the data set were scaled by its "
        "publisher, perhaps by another rule",
    )


_SILENT = r"(pydicom|PIL|assay\.data\.images)(\.|$)"
"""Modules whose warnings may hold values of tags."""


def _silence() -> None:
    """Keeps pydicom and Pillow from warnings and log lines in this process: they hold values of tags, of a patient.

    For the whole process, because the filters of warnings are: ``warnings.catch_warnings`` would restore them for other
    threads too.
    """
    import pydicom

    logging.getLogger("pydicom").disabled = True
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    if not any(one[0] == "ignore" and one[3] is not None and one[3].pattern == _SILENT for one in warnings.filters[:1]):
        warnings.filterwarnings("ignore", module=_SILENT)
