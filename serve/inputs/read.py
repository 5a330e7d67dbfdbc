"""One entry for all that a caller may send: records of any kind become the input of the model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch

from assay.data.base import Dataset
from serve.inputs.grey_values import GreyValues
from serve.inputs.images import ImageReader, ReadImage
from serve.inputs.intended_use import check_use, checked_about, site_of
from serve.inputs.numbers import array_of, refuse_count
from serve.inputs.ranges import AbstentionRule, Ranges
from serve.inputs.records import Records
from serve.inputs.signals import SignalReader
from serve.inputs.tables import NamedColumns
from serve.inputs.texts import read_texts
from serve.refusals import RefusedError

MOST_RECORDS = 256
"""Greatest number of records in one call."""
_Warnings = Sequence[Sequence[str]]
_Facts = Sequence[Mapping[str, Any]]


class Reader:
    """Reads the records of one model. Make it once: it prepares conversions and ranges. Safe in several threads.

    Args:
        dataset: as the model takes it.
        train: positions of the training records; None for a private model (see ``Ranges``).
        rule: when an answer abstains.
    """

    def __init__(
        self, dataset: Dataset, *, train: np.ndarray | None = None, rule: AbstentionRule | None = None
    ) -> None:
        self.dataset = dataset
        self._text = dataset.modality == "text"
        self.ranges = None if self._text else Ranges(dataset, train=train, rule=rule)
        """Ranges of the inputs; None for texts."""
        self.images = ImageReader(dataset) if dataset.modality == "image" else None
        """Reader of PNG and DICOM; None where records are no images."""
        self._greys = GreyValues(dataset.x, train) if self.images is not None else None
        self._signals = SignalReader(dataset) if dataset.modality == "signal" else None
        named = dataset.modality == "tabular" and bool(dataset.feature_names)
        self.columns = NamedColumns(dataset) if named else None
        """Columns by which records may be named; None where records are no table, or its features have no names."""
        self._unchecked = check_use(dataset.intended_use, record=0)
        """Warnings about a record of which nothing is stated."""

    def read(self, given: Any, *, most: int = MOST_RECORDS, about: Any = None) -> Records:
        """Reads records of parsed JSON.

        Args:
            given: a list of records: lists of inputs of the model, objects of values by the name of their column,
                images (``{"png": …}``, ``{"dicom": …}``), signals (``{"signal": …, "rate": …}``) or texts.
            most: greatest number of records.
            about: facts about the records, see ``intended_use.checked_about``.

        Returns:
            The records.

        Raises:
            RefusedError: they are none that the model takes. Repeats nothing of the request.
        """
        refuse_count(given, most=most)
        facts = None if about is None else checked_about(about, records=len(given))
        if self.images is not None and type(given[0]) is dict:
            return self._of_images(self._decoded(given, self.images), facts)
        use = self._use(len(given), facts)
        return replace(self._of_values(given, use, most=most), sites=_sites(len(given), facts))

    def _of_values(self, given: Sequence[Any], use: _Warnings, *, most: int) -> Records:
        """Reads records that are no files."""
        if self._text:
            return _with(read_texts(given, self.dataset), use)
        if type(given[0]) is not dict:
            return self._judged(array_of(given, self.dataset.shape, most=most), use)
        if self.columns is not None:
            x, warnings = self.columns.inputs(given)
            return self._judged(x, use, warnings)
        if self._signals is not None:
            x = np.stack([self._signals.read(item, number) for number, item in enumerate(given)])
            return self._judged(x, use, [self._signals.warnings(item) for item in given])
        raise RefusedError("the features of this model have no names: send records as lists of numbers")

    def take(self, x: np.ndarray, *, most: int = MOST_RECORDS) -> Records:
        """Reads records of a binary tensor.

        Args:
            x: (n, ...) float32 or float64.
            most: greatest number of records.

        Returns:
            The records.

        Raises:
            RefusedError: they are none that the model takes.
        """
        if self._text or x.shape[1:] != self.dataset.shape or not 1 <= len(x) <= most:
            raise RefusedError(
                "this model reads texts: send them as JSON"
                if self._text
                else f"a tensor must hold 1 to {most} records of shape {list(self.dataset.shape)}",
                reason="shape",
            )
        return self._judged(x, self._use(len(x)))

    def _decoded(self, given: Sequence[Any], reader: ImageReader) -> list[ReadImage]:
        """Decodes images until the pixels that a call may have are used up."""
        images: list[ReadImage] = []
        left = reader.most_pixels
        for number, item in enumerate(given):
            image = reader.from_json(item, number, most_pixels=left)
            left -= image.placement.source[0] * image.placement.source[1]
            images.append(image)
        return images

    def _of_images(self, images: Sequence[ReadImage], facts: _Facts | None) -> Records:
        sources = facts, [image.about for image in images]
        use = self._use(len(images), *sources)
        records = self._judged(np.stack([image.record for image in images]), use, [image.warnings for image in images])
        placements = tuple(image.placement for image in images)
        return replace(records, placements=placements, sites=_sites(len(images), *sources))

    def _use(self, count: int, *stated: _Facts | None) -> _Warnings:
        """Returns warnings about the intended use of each record; raises for a record that is outside of it."""
        sources = [facts for facts in stated if facts is not None]
        if not sources:
            return [self._unchecked] * count if self._unchecked else ()
        use = self.dataset.intended_use
        return [check_use(use, *(facts[number] for facts in sources), record=number) for number in range(count)]

    def _judged(self, x: np.ndarray, *warnings: _Warnings) -> Records:
        """Returns arrays as records, with warnings about values outside the ranges."""
        assert self.ranges is not None
        with np.errstate(over="ignore"):
            inputs = np.ascontiguousarray(x, np.float32)
        if not inputs.flags.writeable:  # a view of a body, which a tensor may not share
            inputs = inputs.copy()
        judged = self.ranges.judge(inputs)
        doubts = () if self._greys is None else self._greys.warnings(inputs)
        doubtful = tuple(map(bool, doubts)) if any(doubts) else ()
        records = Records(x=torch.from_numpy(inputs), outside=judged.outside, doubtful=doubtful, abstain=judged.abstain)
        return _with(records, *warnings, judged.warnings, doubts)


def _sites(count: int, *stated: _Facts | None) -> tuple[str, ...]:
    """Returns the hospital of each record; nothing where none is named."""
    sources = [facts for facts in stated if facts is not None]
    sites = tuple(site_of(*(facts[number] for facts in sources)) for number in range(count)) if sources else ()
    return sites if any(sites) else ()


def _with(records: Records, *warnings: _Warnings) -> Records:
    """Returns records with warnings of several kinds, each empty or with the warnings of each record."""
    given = [one for one in warnings if any(one)]
    if not given:
        return records
    return replace(records, warnings=tuple(tuple(chain.from_iterable(kinds)) for kinds in zip(*given, strict=True)))
