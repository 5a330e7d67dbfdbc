"""The check of answers near the baseline says why it has no answer, and warns where it must."""

from typing import Any

import pytest
import torch
from torch import nn

from assay.evaluations.explanation_baselines import rests_on_data
from assay.explain.base import Explainer
from assay.explain.measures.base import MeasuredRecords
from assay.explain.methods.expected_gradients import ExpectedGradients
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.references import Reference
from assay.results import Check, Finding, Measurement
from tests.benchmarks.known_answers.near_baseline import Bump

IG = IntegratedGradients()


def records(*, pool: int = 60, modality: str = "tabular", height: float = 0.0) -> MeasuredRecords:
    """Records of a linear network with a bump at the baseline, which lies among them."""
    generator = torch.Generator().manual_seed(0)
    x, known = torch.randn(40, 6, generator=generator), torch.randn(pool, 6, generator=generator)
    middle = known.mean(0, keepdim=True)
    torch.manual_seed(0)
    model = Bump(nn.Linear(6, 2), middle, radius=0.8, shape="round", height=height).eval()
    about = Reference(modality=modality, background=known, source="")  # type: ignore[arg-type]
    return MeasuredRecords(
        model=model, x=x, target=torch.ones(40, dtype=torch.long), reference=about, pool=known, seed=0
    )


def findings(given: MeasuredRecords, explainer: Explainer = IG, values: Any = None) -> list[Finding]:
    if values is None:
        values = IG.explain(given.model, given.x, given.target, given.reference).values
    return rests_on_data(explainer, values, given, None, {"method": explainer.name})


@pytest.mark.parametrize(
    ("explainer", "settings", "reason", "told"),
    [
        (ExpectedGradients(), {}, "no_method", "Expected gradients follows no line from one baseline"),
        (IG, {"modality": "text"}, "other_kind_of_records", "has no spread"),
        (IG, {"pool": 19}, "too_few_records", "19 other records"),
    ],
)
def test_a_question_without_an_answer_has_its_reason(
    explainer: Explainer, settings: dict[str, Any], reason: str, told: str
) -> None:
    given = records(**settings)
    (row,) = findings(given, explainer, torch.zeros_like(given.x))
    assert isinstance(row, Measurement)
    assert (row.name, row.status, row.reason) == ("baseline_agreement", "not_applicable", reason)
    assert told in row.warnings[0]


@pytest.mark.parametrize(("height", "verdict"), [(0.0, "pass"), (400.0, "warn")])
def test_a_change_near_the_baseline_alone_is_marked(height: float, verdict: str) -> None:
    row, check = findings(records(height=height))
    assert isinstance(row, Measurement) and isinstance(check, Check)
    assert (row.n, row.unit) == (20, "cosine")
    assert check.verdict == verdict and check.figure == row.value
    assert ("rests on answers near its baseline" in check.message) == (verdict == "warn")


def test_of_signals_another_map_is_inconclusive() -> None:
    given = records(height=400.0)
    about = Reference(modality="signal", background=given.pool, source="")
    signal = MeasuredRecords(
        model=given.model, x=given.x, target=given.target, reference=about, pool=given.pool, seed=0
    )
    _, check = findings(signal)
    assert isinstance(check, Check)
    assert check.verdict == "inconclusive" and check.message.startswith("inconclusive")


def test_maps_that_differ_as_much_as_those_of_all_lines_are_not_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    # With this limit every likeness lies below it, so that only the likeness of the lines to each other decides.
    monkeypatch.setattr("assay.evaluations.explanation_baselines._LEAST_OF_TABLES", 1.01)
    given = records()
    torch.manual_seed(1)
    rough = nn.Sequential(nn.Linear(6, 500), nn.Tanh(), nn.Linear(500, 2)).eval()
    with torch.no_grad():
        rough[0].weight.mul_(40)
    given = MeasuredRecords(
        model=rough, x=given.x, target=given.target, reference=given.reference, pool=given.pool, seed=0
    )
    row, check = findings(given)
    assert isinstance(row, Measurement) and isinstance(check, Check)
    assert row.value < 0.75 and check.verdict == "pass"


def test_maps_of_zeros_are_not_judged() -> None:
    given = records()
    with torch.no_grad():
        given.model.network.weight.zero_()  # type: ignore[union-attr, operator]
    (row,) = findings(given)
    assert isinstance(row, Measurement) and row.reason == "inconclusive"
