"""Models and maps that are made to deceive are caught by the evaluation of explanations; honest models are not accused.

The whole is ``python -m jobs.benchmark explain-truth`` and ``explain-honest``.
"""

import pytest

from tests.benchmarks.conformance.row import answer
from tests.benchmarks.explain_honest import checks_of
from tests.benchmarks.known_answers import deceivers, fooling
from tests.benchmarks.known_answers.honest import honest_model
from tests.benchmarks.known_answers.row import Row, right_by


@pytest.mark.parametrize("row", (*deceivers.ROWS, *fooling.ROWS), ids=lambda row: row.name)
def test_a_deceiver_is_caught(row: Row) -> None:
    assert row.assay is not None
    given = answer(row.assay)
    assert right_by(row.accepts, given), f"{row.input}: {given}, right is {row.right}"


@pytest.mark.parametrize("number", [1, 3, 5, 9, 25, 77])
def test_an_honest_model_is_accused_of_nothing(number: int) -> None:
    one = honest_model(number)
    assert [check.message for check in checks_of(one) if check.verdict != "pass"] == [], one.name
