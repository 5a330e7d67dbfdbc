"""Shares of test records keep what became of each record; nothing that was asked of training records does."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.evaluations.accuracy import Accuracy
from assay.evaluations.base import Evaluation
from assay.evaluations.certificates import Certificates
from assay.evaluations.membership import Membership
from assay.evaluations.robustness import Robustness
from assay.evaluations.subject import Subject
from assay.outcomes import Outcomes
from assay.results import Finding, Measurement

Make = Callable[..., Subject]
KEPT = {
    "accuracy": {"accuracy", "sensitivity", "specificity", "class_recall"},
    "certificates": {"certified_accuracy", "certified_sensitivity", "certified_specificity", "certified_recall"},
    "robustness": {
        *("worst_case_accuracy", "worst_case_sensitivity", "worst_case_specificity", "worst_case_recall"),
        "robust_accuracy",
    },
}


def asked(make: Make, evaluation: Evaluation, **settings: Any) -> list[Measurement]:
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(3, 2)
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator))
    x: Tensor = torch.rand((80, 3), generator=generator)
    found: list[Finding] = list(
        evaluation.measure(
            make(model.eval(), x.numpy(), np.arange(80) % 2, train=range(20), validation=range(20, 40), **settings)
        )
    )
    return [one for one in found if isinstance(one, Measurement) and one.status == "measured"]


QUICK: list[Evaluation] = [
    Accuracy(draws=50),
    Certificates(epsilons=(0.05,)),
    Robustness(epsilons=(0.05,), steps=2, adaptive=False),
]


@pytest.mark.parametrize("evaluation", QUICK, ids=lambda one: one.name)
@pytest.mark.parametrize("groups", [None, np.arange(80) // 4])
def test_shares_of_test_records_keep_what_became_of_each(make: Make, evaluation: Evaluation, groups: Any) -> None:
    found = [one for one in asked(make, evaluation, groups=groups) if one.outcomes is not None]
    assert {one.name for one in found} == KEPT[evaluation.name]
    for one in found:
        assert one.outcomes is not None
        assert one.outcomes.sizes.sum() == one.n
        assert one.outcomes.hits.sum() / one.n == pytest.approx(one.value)
        assert (one.outcomes.sizes.max() > 1) == (groups is not None)


@pytest.mark.parametrize("evaluation", QUICK[1:], ids=lambda one: one.name)
def test_figures_of_all_test_records_are_of_the_same(make: Make, evaluation: Evaluation) -> None:
    of_all = [one.outcomes for one in asked(make, evaluation) if one.outcomes is not None and one.n == 40]
    assert len(of_all) > 0
    assert {one.records for one in of_all} == {Outcomes.of(np.ones(40, bool), np.arange(40, 80)).records}


def test_a_figure_of_one_class_names_the_records_of_this_class(make: Make) -> None:
    found = {one.name: one.outcomes for one in asked(make, Accuracy(draws=50)) if one.outcomes is not None}
    for k, name in enumerate(("specificity", "sensitivity")):
        rows = np.arange(40, 80)[np.arange(40, 80) % 2 == k]
        assert found[name].records == Outcomes.of(np.ones(20, bool), rows).records


def test_nothing_is_kept_of_training_records(make: Make) -> None:
    found = asked(make, Membership())
    assert all(one.outcomes is None for one in found)
