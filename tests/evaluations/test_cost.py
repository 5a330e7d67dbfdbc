"""What a recipe costs, as the training log tells it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from assay.evaluations.base import Subject
from assay.evaluations.cost import Cost
from assay.results import Measurement

Make = Callable[..., Subject]
One = Callable[..., Measurement]
RECORDS = np.zeros((5, 4)), [0, 1, 0, 1, 0]


def test_times_come_from_the_log_and_parameters_from_the_model(make: Make, log: Callable[..., Any], one: One) -> None:
    found = Cost().measure(make(nn.Linear(4, 2), *RECORDS, train=[0, 1, 2], log=log()))
    assert one(found, "parameters").value == 4 * 2 + 2
    seconds, summed = one(found, "training_seconds"), one(found, "training_worker_seconds")
    assert (seconds.value, summed.value, seconds.unit, summed.unit) == (2.0, 6.0, "seconds", "seconds")
    assert seconds.conditions == summed.conditions == {"workers": 3, "records": 3}


def test_a_model_trained_elsewhere_has_parameters_and_no_times(make: Make, one: One) -> None:
    found = Cost().measure(make(nn.Linear(4, 2), *RECORDS))
    assert one(found, "parameters").value == 10
    for name in ("training_seconds", "training_worker_seconds"):
        assert one(found, name).status == "not_applicable"
        assert one(found, name).warnings == ("Assay did not train this model",)
