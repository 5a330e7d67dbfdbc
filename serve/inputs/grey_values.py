"""Doubts about the grey values of one image: fewer bits than its file has, or hardly any contrast.

The rules are those by which a folder of images is loaded (``assay.data.images``): what is refused there is so here.
"""

from assay.data.images.contrast import LOW_CONTRAST, span
from assay.data.images.depth import likely_depth
from assay.data.images.files import Decoder, Seen
from serve.refusals import RefusedError


def grey_warnings(decoder: Decoder, seen: Seen) -> tuple[str, ...]:
    """Returns warnings about the grey values of an image.

    Args:
        decoder: of the data set, with its setting of bits.
        seen: the decoded image.

    Returns:
        The warnings, with the value that is in doubt and what to send instead.

    Raises:
        RefusedError: a folder of such images would be refused: they have 16 bits, nothing says how many of them the
            detector used, and all values lie in the darkest quarter. Its reason is ``bits``.
    """
    return (*_depth(decoder, seen), *_contrast(seen))


def _depth(decoder: Decoder, seen: Seen) -> tuple[str, ...]:
    if seen.greatest is None or seen.bits is None:
        return ()
    stated = decoder.bits if seen.bits == 16 else None
    bits = stated or seen.bits
    likely = likely_depth(seen.greatest, bits)
    if likely is None:
        return ()
    share = seen.greatest / (2**bits - 1)
    problem = f"no value of the image exceeds {seen.greatest}, {share:.2f} of the white of {bits} bits"
    remedy = f"if its detector has {likely} bits, send DICOM with BitsStored {likely}, or values scaled to {bits} bits"
    if seen.bits == 16 and stated is None:
        raise RefusedError(f"{problem}; {remedy}; if it is so dark, send DICOM with BitsStored 16", reason="bits")
    return (f"{problem}: it may be answered too dark; {remedy}",)


def _contrast(seen: Seen) -> tuple[str, ...]:
    share = float(span(seen.record[None])[0])
    if share >= LOW_CONTRAST:
        return ()
    return (
        f"the image spans {share:.1%} of the range from black to white, less than {LOW_CONTRAST:.0%}: it may be blank, "
        "or wrongly scaled; send DICOM with its window and BitsStored, or values scaled to all bits of the file",
    )
