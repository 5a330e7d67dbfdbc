"""Doubts about the grey values of images: fewer bits than a file has, hardly any contrast, all dark or all bright.

The rules are those by which a folder of images is loaded (``assay.data.images``): what is refused there is so here.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from assay.data.base import Lazy
from assay.data.images.contrast import LOW_CONTRAST, span
from assay.data.images.depth import likely_depth
from assay.data.images.files import Decoder, Seen
from serve.refusals import RefusedError

_DARK = 0.25
"""Fraction of the range from black to white in which the values of an image lie that is probably scaled wrongly."""
_MOST_OF = 0.995
"""Share of the values that must lie there: a mark that was burnt into a film is as bright as it can be."""
_USUAL = 0.05
"""Share of the training records from which on what they are like is no doubt about another record."""
_LOOKED_AT = 64
"""Training records that are looked at."""
_REMEDY = "send DICOM with its window and BitsStored, or values scaled to all bits of the file"


_Rule = Callable[[np.ndarray], list[str]]
"""From records to the doubt about each; an empty text where there is none."""


def depth_warnings(decoder: Decoder, seen: Seen) -> tuple[str, ...]:
    """Returns warnings about the bits of an image file.

    Args:
        decoder: of the data set, with its setting of bits.
        seen: the decoded image.

    Returns:
        The warnings, with the value that is in doubt and what to send instead.

    Raises:
        RefusedError: a folder of such images would be refused: they have 16 bits, nothing says how many of them the
            detector used, and all values lie in the darkest quarter. Its reason is ``bits``.
    """
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


class GreyValues:
    """Judges what a model sees of images, in whatever form they were sent.

    What many training records are like is no doubt about another record.

    Args:
        x: (n, ...) records of the data set.
        train: positions of the training records; None for a private model, of whose records nothing may be told.
    """

    def __init__(self, x: np.ndarray | Lazy, train: np.ndarray | None) -> None:
        rows = np.zeros(0, int) if train is None else train[:: max(1, len(train) // _LOOKED_AT)]
        records = np.asarray(x[rows]) if len(rows) else None
        rules: list[_Rule] = [_contrast, partial(_darkness, dark=True), partial(_darkness, dark=False)]
        self._rules = [
            rule for rule in rules if records is None or np.mean([bool(words) for words in rule(records)]) <= _USUAL
        ]

    def warnings(self, x: np.ndarray) -> list[tuple[str, ...]]:
        """Returns the first doubt about each record.

        Args:
            x: (n, channels, height, width) from 0 to 1.
        """
        judged: list[list[str]] = [rule(x) for rule in self._rules]
        return [tuple(filter(None, words))[:1] for words in zip(*judged, strict=True)] if judged else [()] * len(x)


def _contrast(x: np.ndarray) -> list[str]:
    return [
        f"the image spans {share:.1%} of the range from black to white, less than {LOW_CONTRAST:.0%}: it may be blank, "
        f"or wrongly scaled; {_REMEDY}"
        if share < LOW_CONTRAST
        else ""
        for share in span(x).tolist()
    ]


def _darkness(x: np.ndarray, *, dark: bool) -> list[str]:
    flat = x.reshape(len(x), -1)
    place = round((_MOST_OF if dark else 1 - _MOST_OF) * (flat.shape[1] - 1))
    ends = np.partition(flat, place, axis=1)[:, place].tolist()
    side, word = ("at most", "dark") if dark else ("at least", "bright")
    return [
        f"{_MOST_OF:.1%} of the values of the image are {side} {end:.2f} of white: it may be answered too {word}; "
        f"{_REMEDY}"
        if (end <= _DARK if dark else end >= 1 - _DARK)
        else ""
        for end in ends
    ]
