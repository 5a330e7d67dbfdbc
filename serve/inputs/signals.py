"""Signals as arrays with their sampling rate, of the length and the rate of the data set.

Signals are not resampled: no data set of signals does so either, and where a record begins (at the R peak of a beat,
say) is part of what the model has learnt. Resample a recording, find its events, and send records of the right length.
"""

from typing import Any

import numpy as np

from assay.data.base import Dataset
from serve.inputs.numbers import array_of, number_of
from serve.inputs.units import LONGEST, Conversion, canonical_unit, conversions
from serve.refusals import RefusedError

_FIELDS = {"signal", "rate", "unit"}
_NEAR = 1e-6
"""Greatest relative difference of two sampling rates that are the same."""


class SignalReader:
    """Reads signals as those of a data set.

    Args:
        dataset: of signals.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._shape, self._rate, self._unit = dataset.shape, dataset.rate, dataset.units
        self._units = conversions(dataset.units)

    def read(self, item: Any, number: int) -> np.ndarray:
        """Reads a signal: ``{"signal": [...], "rate": 360, "unit": "mV"}``; one channel may be a flat list.

        Args:
            item: the object.
            number: of the record, for errors.

        Returns:
            (channels, samples) float64.

        Raises:
            RefusedError: it is none, or has another rate, length or kind of unit than the data set.
        """
        if type(item) is not dict or "signal" not in item or not item.keys() <= _FIELDS:
            raise RefusedError(
                f'record {number} must be a list of numbers, or {{"signal": list, "rate": number, "unit": text}}'
            )
        self._check_rate(item.get("rate"), number)
        conversion = self._conversion(item.get("unit"), number)
        signal = item["signal"]
        channels = self._shape[0]
        flat = channels == 1 and type(signal) is list and not (signal and type(signal[0]) is list)
        try:
            array = array_of([[signal] if flat else signal], self._shape, most=1)[0]
        except RefusedError as error:
            raise RefusedError(f"record {number}: {str(error).replace('record 0', 'it')}") from None
        return conversion.factor * array + conversion.offset

    def _check_rate(self, given: Any, number: int) -> None:
        if given is None:
            return
        rate = number_of(given)
        if self._rate is None:
            raise RefusedError(
                f"record {number}: this model's data set states no sampling rate: leave rate out, and send signals "
                f"of {self._shape[-1]} samples as in the data set",
                reason="rate",
            )
        if rate is None or abs(rate - self._rate) > _NEAR * self._rate:
            raise RefusedError(
                f"record {number}: rate must be {self._rate:g} samples a second, with {self._shape[-1]} samples; "
                "resample the recording before events are found in it",
                reason="rate",
            )

    def warnings(self, item: Any) -> tuple[str, ...]:
        """Returns a warning where the rate of a signal is not given, and so was not checked.

        Args:
            item: a record that was read.
        """
        if self._rate is None or (type(item) is dict and item.get("rate") is not None):
            return ()
        return (f"the sampling rate is not given: {self._rate:g} samples a second were assumed",)

    def _conversion(self, unit: Any, number: int) -> Conversion:
        if unit is None:
            return Conversion()
        if type(unit) is str and len(unit) <= LONGEST:
            conversion = self._units.get(canonical_unit(unit))
            if conversion is not None:
                return conversion
        raise RefusedError(
            f"record {number}: unit must be {self._unit}, or another of that kind in UCUM", reason="unit"
        )
