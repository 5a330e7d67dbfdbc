"""Errors of maps: what is unknown is said and never left out, and one record without a number hides no other."""

from typing import Any

import numpy as np
import pytest
import torch

from assay.evaluations.explanation_checks import errors
from assay.explain.base import Attribution, Explainer
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.methods.occlusion import Occlusion
from assay.results import Check, Measurement

N = 40
ABOUT: dict[str, Any] = {"method": "m"}


def attribution(error: list[float], value_error: list[float], *, second: bool = True) -> Attribution:
    values = torch.zeros(N, 3)
    return Attribution(
        values=values,
        change=torch.ones(N),
        error=torch.tensor(error),
        value_error=torch.tensor(value_error),
        seconds=0.0,
        second=values if second else None,
        scale=torch.ones(N),
    )


def found(explainer: Explainer, given: Attribution, clusters: np.ndarray | None = None) -> dict[str, Any]:
    rows = errors(explainer, given, clusters, ABOUT)
    return {row.rule if isinstance(row, Check) else row.name: row for row in rows}


def test_one_record_without_a_number_drops_no_other_and_is_counted() -> None:
    known = np.linspace(0.01, 0.05, N - 1)
    for clusters in (None, np.arange(N) // 2):
        rows = found(IntegratedGradients(), attribution([torch.nan, *known], [0.01] * N), clusters)
        row, check = rows["completeness_error"], rows["completeness"]
        assert (row.n, row.value) == (N - 1, pytest.approx(known.mean(), rel=1e-2))
        assert np.isfinite([row.low, row.high]).all()
        assert check.figure == pytest.approx(np.quantile(known, 0.99), rel=1e-5)
        # One of forty is more than one in a hundred.
        assert check.verdict == "warn" and f"1 of {N} records" in check.message
        assert rows["values_agree"].verdict == "pass" and "records it is no number" not in rows["values_agree"].message


def test_errors_of_which_none_is_a_number_are_told() -> None:
    rows = found(IntegratedGradients(), attribution([torch.nan] * N, [torch.nan] * N))
    for name in ("completeness_error", "value_error"):
        assert (rows[name].status, rows[name].reason) == ("not_applicable", "no_finite_answers")
    assert not {"completeness", "values_agree"} & set(rows)


def test_the_error_of_a_value_by_one_rule_alone_is_told_with_what_helps() -> None:
    alone = attribution([0.01] * N, [torch.nan] * N, second=False)
    rows = found(IntegratedGradients(points=5, most=10), alone)
    row = rows["value_error"]
    assert isinstance(row, Measurement) and (row.status, row.reason) == ("not_applicable", "not_asked")
    assert "5 points are followed by 11, and at most 10" in row.warnings[0] and "to 11 or more" in row.warnings[0]
    assert "values_agree" not in rows and rows["completeness"].verdict == "pass"


def test_a_method_that_has_neither_has_no_rows() -> None:
    assert not found(Occlusion(), attribution([torch.nan] * N, [torch.nan] * N, second=False))
