"""One set of codes says what is missing, of values and of patients."""

import numpy as np
import pytest

from assay.data.identifiers import as_groups
from assay.data.missing import MISSING, NO_NAME
from assay.errors import DataError


@pytest.mark.parametrize("code", ["#N/A", ".", "-", "--", " NA ", "n/a", "None", "?", ""])
def test_a_code_of_a_missing_value_is_no_patient(code: str) -> None:
    with pytest.raises(DataError) as refused:
        as_groups(np.array(["a", "b", code]), where="file", column="patient")
    assert (refused.value.setting, refused.value.given) == ("patient", 1)


def test_every_code_of_a_value_is_one_of_a_name() -> None:
    assert MISSING < NO_NAME
