"""Where records have patients, claims and attacks are of patients."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from assay.evaluations.membership import Membership
from assay.evaluations.privacy import PrivacySpent
from assay.privacy.accounting import Mechanism
from assay.recipes import Privacy, Recipe
from assay.results import Check


def test_the_claim_is_of_patients_and_too_few_of_them_are_told(make: Any, log: Any, one: Any) -> None:
    groups = np.arange(250) % 25
    x, y = np.arange(250.0)[:, None], np.arange(250) % 2
    network = nn.Linear(1, 2)
    about = {"noise_multiplier": 2.0, "sample_rate": 0.25, "steps": 20, "delta": 1e-5}

    def findings(unit: str | None, **settings: Any) -> list[Any]:
        mechanism = asdict(Mechanism(**{**about, "unit": unit or "patient", **settings}))
        return list(
            PrivacySpent().measure(
                make(
                    network,
                    x,
                    y,
                    train=np.flatnonzero(groups < 20),
                    groups=groups,
                    recipe=Recipe(privacy=Privacy(epsilon=8, unit=unit)),
                    log=log(mechanisms={"central": mechanism}),
                )
            )
        )

    claim = one(findings(None), "epsilon")
    assert (claim.conditions["unit"], claim.conditions["protected"], claim.n) == ("patient", 20, 20)
    assert "patient" in claim.conditions["neighbours"]
    assert not any("one record" in warning for warning in claim.warnings)
    by_record = one(findings("record"), "epsilon")
    assert (by_record.conditions["unit"], by_record.conditions["protected"]) == ("record", 200)
    assert any("a patient with 10 records" in warning for warning in by_record.warnings)
    # δ is below 1/200 and not below 1/20.
    assert one(findings("record", delta=0.01 / 2.1), "epsilon").status == "measured"
    assert one(findings(None, delta=0.06), "epsilon").status == "failed"
    (check,) = [found for found in findings(None) if isinstance(found, Check)]
    expected = 2.0 * np.sqrt(4 / 20) / (0.25 * 20)
    assert (check.rule, check.verdict) == ("noise_and_signal", "pass")
    assert check.figure == pytest.approx(expected)
    (check,) = [found for found in findings(None, noise_multiplier=30.0) if isinstance(found, Check)]
    assert (check.verdict, check.figure) == ("warn", pytest.approx(15 * expected))
    assert "20 patients" in check.message


def test_membership_is_of_patients_by_the_mean_over_their_records(make: Any, log: Any, one: Any) -> None:
    """Each record tells next to nothing, and a patient's forty together tell."""
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(240), 40)
    member = groups < 120
    margin = draw.normal(0.15 * member, 1.0)
    y = draw.integers(2, size=len(groups))
    x = np.where(y == 1, margin, -margin)[:, None]
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0], [1.0]]))
        model.bias.zero_()

    def area(unit: str | None) -> Any:
        recipe = Recipe(privacy=Privacy(epsilon=8, unit=unit))
        subject = make(model, x, y, train=np.flatnonzero(member), groups=groups, recipe=recipe, log=log())
        return one(Membership(draws=50).measure(subject), "membership_auc")

    by_patient, by_record = area(None), area("record")
    joined = np.bincount(groups, margin) / 40
    assert by_patient.value == pytest.approx(roc_auc_score(np.arange(240) < 120, joined), abs=1e-6)
    assert (by_patient.n, by_patient.conditions["members"]) == (240, 120)
    assert by_patient.conditions["unit_of_members"] == "patient"
    assert by_record.value < 0.6 < by_patient.value
    assert (by_record.n, by_record.conditions["unit_of_members"]) == (9600, "record")
