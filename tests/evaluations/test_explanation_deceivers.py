"""Models and maps that are made to deceive are caught by the evaluation of explanations; honest models are not accused.

The whole is ``python -m jobs.benchmark explain-truth`` and ``explain-honest``.
"""

import pytest

from assay.evaluations.explanations import Explanations
from assay.results import RAISED, Measurement
from tests.benchmarks.conformance.row import answer
from tests.benchmarks.explain_honest import checks_of
from tests.benchmarks.known_answers import (
    arbitrary_maps,
    deceivers,
    fooling,
    model_free,
    near_baseline,
    one_rule,
)
from tests.benchmarks.known_answers.honest import honest_model
from tests.benchmarks.known_answers.row import Row, right_by

KINDS = (deceivers, fooling, arbitrary_maps, model_free, near_baseline, one_rule)


@pytest.mark.parametrize("row", [row for kind in KINDS for row in kind.ROWS], ids=lambda row: row.name)
def test_a_deceiver_is_caught(row: Row) -> None:
    assert row.assay is not None
    given = answer(row.assay)
    assert right_by(row.accepts, given), f"{row.input}: {given}, right is {row.right}"


@pytest.mark.parametrize("number", [1, 3, 5, 9, 25, 77])
def test_an_honest_model_is_accused_of_nothing(number: int) -> None:
    one = honest_model(number)
    assert [check.message for check in checks_of(one) if check.verdict in RAISED] == [], one.name


def test_a_method_that_is_refused_near_a_record_leaves_the_others_measured() -> None:
    # Deep SHAP explains the scaffold on real records, and is refused on changed ones, where another rule decides.
    settings = fooling.QUICK | {"records": 20, "measured": 20}
    found = Explanations(measures=({"name": "stability", "radius": 0.2},), **settings).measure(fooling.scaffold())
    rows = {row.conditions["method"]: row for row in found if isinstance(row, Measurement) and row.name == "stability"}
    assert rows["integrated_gradients"].status == "measured"
    assert (rows["deep_shap"].status, rows["deep_shap"].reason) == ("not_applicable", "no_method")
