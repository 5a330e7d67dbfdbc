"""Copies count patients and copied records as one, and learnt scales are marked as figures of training records."""

from collections.abc import Callable

import numpy as np
import pytest
from torch import nn

from assay.data.copies import copies_of
from assay.data.features import Feature
from assay.evaluations.copies import CopiedRecords
from assay.evaluations.scales import FeatureScales
from assay.evaluations.subject import Subject
from assay.results import TELLS_OF, Measurement

Make = Callable[..., Subject]


def test_the_interval_of_copies_takes_equal_test_records_as_one(make: Make) -> None:
    train = np.random.default_rng(0).normal(size=(40, 3))
    others = np.random.default_rng(1).normal(size=(30, 3))
    tested = np.concatenate([train[:10], others])

    def width(times: int) -> float:
        x = np.concatenate([train, np.tile(tested, (times, 1))])
        made = make(nn.Linear(3, 2), x, np.arange(len(x)) % 2, train=range(40))
        (row,) = [
            one
            for one in CopiedRecords().measure(made)
            if isinstance(one, Measurement) and one.conditions.get("kind") == "exact"
        ]
        return row.high - row.low

    assert width(20) > 0.8 * width(1)


def test_records_that_cannot_be_compared_say_so_in_a_field(make: Make) -> None:
    made = make(nn.Linear(3, 2), np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2)
    rows = np.arange(10)
    assert copies_of(made.dataset, rows, rows + 10).looked

    class Late:
        shape, dtype, ndim = (20, 3), np.dtype("float32"), 2

        def __len__(self) -> int:
            return 20

        def __getitem__(self, rows: object) -> np.ndarray:
            raise AssertionError("nothing is to be decoded")

        def fingerprint(self) -> str:
            return "late"

    object.__setattr__(made.dataset, "x", Late())
    assert not copies_of(made.dataset, rows, rows + 10).looked


@pytest.mark.parametrize(("source", "marked"), [("stated", False), ("training records", True), ("", True)])
def test_a_learnt_scale_tells_of_training_records(make: Make, source: str, marked: bool) -> None:
    x = np.random.default_rng(0).normal(size=(20, 1))
    features = (Feature(name="age", column="age", kind="number", scale=9.0, source=source),)
    made = make(nn.Linear(1, 2), x, np.arange(20) % 2, about={"features": features})
    (row,) = [one for one in FeatureScales().measure(made) if isinstance(one, Measurement)]
    assert (TELLS_OF in row.conditions) == marked
