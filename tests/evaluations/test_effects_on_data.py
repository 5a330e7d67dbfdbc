"""The check of effects on the data says why it has no answer, and accuses no honest contrast."""

from typing import Any

import pytest
import torch
from torch import nn

from assay.evaluations.explanation_checks import along_the_data
from assay.explain.base import Explainer
from assay.explain.measures.base import MeasuredRecords
from assay.explain.methods.expected_gradients import ExpectedGradients
from assay.explain.methods.saliency import InputTimesGradient
from assay.explain.references import Reference
from assay.results import Check, Finding, Measurement
from tests.benchmarks.known_answers import contrasts
from tests.benchmarks.known_answers.arbitrary_maps import RULE, checks_of


def records(slopes: tuple[float, ...], *, pool: int = 60, modality: str = "tabular", apart: float = 0.3) -> Any:
    """Records of a linear model whose second column is the first with a small difference."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 2, generator=generator)
    x[:, 1] = x[:, 0] + apart * x[:, 1]
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.0], slopes]))
    about = Reference(modality=modality, background=x[:10], source="")  # type: ignore[arg-type]
    target = torch.ones(20, dtype=torch.int64)
    return MeasuredRecords(model=model, x=x[10:30], target=target, reference=about, pool=x[30 : 30 + pool], seed=0)


def findings(explainer: Explainer, given: Any) -> list[Finding]:
    values = InputTimesGradient().explain(given.model, given.x, given.target, given.reference).values
    return along_the_data(explainer, values, given, None, {"method": explainer.name})


@pytest.mark.parametrize(
    ("explainer", "settings", "reason", "told"),
    [
        (ExpectedGradients(), {}, "no_method", "Expected gradients names no slope"),
        (InputTimesGradient(), {"modality": "text"}, "other_kind_of_records", "words have no slopes"),
        (InputTimesGradient(), {"pool": 19}, "too_few_records", "19 other records"),
    ],
)
def test_a_question_without_an_answer_has_its_reason(
    explainer: Explainer, settings: dict[str, Any], reason: str, told: str
) -> None:
    (row,) = findings(explainer, records((1.0, 1.0), **settings))
    assert isinstance(row, Measurement)
    assert (row.name, row.status, row.reason) == ("left_on_the_data", "not_applicable", reason)
    assert told in row.warnings[0]


@pytest.mark.parametrize(
    ("slopes", "apart", "verdict", "told"),
    [
        ((1.0, 1.0), 0.3, "pass", "on records of the data"),
        ((1.0, -1.0), 0.3, "pass", "as in a contrast"),
        ((11.0, -9.0), 0.01, "warn", "most of the map does not matter"),
    ],
)
def test_effects_that_cancel_warn_only_where_they_are_not_needed(
    slopes: tuple[float, float], apart: float, verdict: str, told: str
) -> None:
    row, check = findings(InputTimesGradient(), records(slopes, apart=apart))
    assert isinstance(row, Measurement) and isinstance(check, Check)
    assert check.figure == row.value
    assert (check.verdict, check.message.startswith(told) or told in check.message) == (verdict, True)


@pytest.mark.parametrize("method", ["integrated_gradients", "saliency"])
def test_an_edge_of_images_is_needed_where_they_have_details_and_only_there(method: str) -> None:
    # Of images without details a coarse difference has the same effects: no figure tells it from a map that was given.
    for detail, verdict in ((0.2, "pass"), (0.0, "warn")):
        (check,) = (one for one in checks_of(contrasts.filtered(detail), method) if one.rule == RULE)  # type: ignore[arg-type]
        assert check.verdict == verdict, check.message
