"""Check of bit depth: images whose values need fewer bits than their files have."""

from assay.data.images.files import Decoder
from assay.errors import DataError

_DEPTHS = {8: (1, 2, 4, 6), 16: (8, 10, 12, 14)}
"""Usual depths of values in files of 8 and of up to 16 bits."""


def likely_depth(greatest: int, bits: int) -> int | None:
    """Returns the number of bits that values probably have, if all lie in the darkest quarter of the range.

    Args:
        greatest: greatest stored value.
        bits: number of bits whose greatest value is white.

    Returns:
        The least usual depth that holds the value; None if a value lies above the darkest quarter.
    """
    if greatest >= 2 ** (bits - 2):
        return None
    depths = _DEPTHS[8 if bits <= 8 else 16]
    return next((depth for depth in depths if greatest < 2**depth), depths[-1])


def refuse_few_bits(name: str, decoder: Decoder, greatest: int | None) -> None:
    """Raises if all values of 16-bit images are in the darkest quarter of the range.

    Probably the detector has fewer bits.

    Args:
        name: of the data set, for errors.
        decoder: with its setting of bits.
        greatest: greatest stored value of all images, None if there are none.

    Raises:
        DataError: names the setting that gives the number of bits.
    """
    likely = None if greatest is None or decoder.bits is not None else likely_depth(greatest, 16)
    if greatest is None or likely is None:
        return
    raise DataError(
        f"{name}: no value of its grey images of 16 bits exceeds {greatest}, so they would lie between 0 and "
        f"{greatest / 65535:.2f} of white; set bits: {likely} if that is what the detector has, or bits: 16 if they "
        "are so dark",
        setting="bits",
        given=greatest,
        allowed=[likely, 16],
    )
