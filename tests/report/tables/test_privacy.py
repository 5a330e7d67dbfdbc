"""What a budget costs is told against the best plain training of any model, on the same folds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from assay.report.scorecard import scorecard
from assay.report.tables.privacy import Costs, costs, uncorrected
from assay.results import Measurement, TrialRecord
from assay.study.reading import build_study
from assay.study.spec import Study

Frame = Callable[..., pd.DataFrame]
Trial = Callable[..., TrialRecord]

BUDGETS: dict[str, Any] = {
    "standard": {},
    "eps_8": {"privacy": {"epsilon": 8}},
    "eps_1": {"privacy": {"epsilon": 1}},
    "adversarial": {"objective": {"name": "pgd", "epsilon": 0.1}},
}
ACCURACY = {
    ("small", "standard"): 0.90,
    ("small", "eps_8"): 0.89,
    ("small", "eps_1"): 0.80,
    ("small", "adversarial"): 0.97,
    ("large", "standard"): 0.94,
    ("other", "standard"): 0.99,
}


@pytest.fixture
def told(data: Path, frame: Frame, trial: Trial) -> Callable[..., Costs | None]:
    """Of the cohort of the small model, with those of the given others beside it."""

    def build(*others: str, recipes: dict[str, Any] = BUDGETS) -> Costs | None:
        source = {"name": "arrays", "path": str(data), "low": 0, "high": 1}
        cohorts: dict[str, Any] = {
            "small": {"dataset": source, "recipes": recipes, "model": {"name": "mlp", "hidden": [4]}}
        }
        for name in others:
            own = source if name == "large" else {**source, "high": 2}
            cohorts[name] = {"dataset": own, "recipes": {"standard": {}}, "model": {"name": "mlp", "hidden": [64, 32]}}
        asked = build_study({"name": "made", "split": {"folds": 3}, "cohorts": cohorts}, "made.yaml")
        return _costs(asked, frame, trial)

    return build


def _costs(asked: Study, frame: Frame, trial: Trial) -> Costs | None:
    records = [
        trial(
            recipe,
            fold,
            trial=f"{cohort}-{recipe}-{fold}".encode().hex(),
            provenance={"asked": {"cohort": cohort, "official": False}},
            measurements=(
                Measurement(name="accuracy", value=ACCURACY[cohort, recipe] + fold * (0.01 + len(recipe) / 1e4), n=20),
            ),
        )
        for cohort, own in asked.cohorts.items()
        for recipe in own.recipes
        for fold in range(3)
    ]
    rows = frame(asked, records)
    return costs(scorecard(asked, "small", rows[rows["cohort"] == "small"]), asked, rows)


def test_the_best_plain_training_is_looked_for_in_every_cohort_on_the_same_records(
    told: Callable[..., Costs | None],
) -> None:
    found = told("large", "other")
    assert found is not None and found.elsewhere
    assert found.plain == "standard (mlp 64 32, large)"
    losses = {cost.recipe: cost.comparison.difference for cost in found.costs if cost.comparison is not None}
    assert list(losses) == ["eps_1", "eps_8"]
    assert losses["eps_1"] == pytest.approx(-0.14, abs=0.001)
    assert losses["eps_8"] == pytest.approx(-0.05, abs=0.001)


def test_alone_the_cohort_is_compared_with_its_own_and_never_with_adversarial_training(
    told: Callable[..., Costs | None],
) -> None:
    found = told()
    assert found is not None and not found.elsewhere
    assert found.plain == "standard (mlp 4)"
    assert found.accuracy.mean == pytest.approx(0.91, abs=0.001)
    assert [cost.comparison.count for cost in found.costs if cost.comparison is not None] == [3, 3]


def test_a_single_budget_is_no_curve_and_without_plain_training_nothing_is_compared(
    told: Callable[..., Costs | None],
) -> None:
    assert told(recipes={"standard": {}, "eps_1": {"privacy": {"epsilon": 1}}}) is None
    assert told(recipes={name: BUDGETS[name] for name in ("eps_1", "eps_8")}) is None


@pytest.mark.parametrize(
    ("counted", "said"),
    [({"small": 3, "large": 3}, False), ({"small": 2, "large": 3}, True), ({"small": 3, "large": 2}, False)],
)
def test_audits_that_count_on_fewer_than_were_measured_do_not_hold_together(
    data: Path, frame: Frame, trial: Trial, counted: dict[str, int], said: bool
) -> None:
    made = {"dataset": {"name": "arrays", "path": str(data), "low": 0, "high": 1}, "recipes": BUDGETS}
    asked = build_study({"name": "made", "cohorts": {"small": made, "large": made}}, "made.yaml")
    records = [
        trial(
            recipe,
            0,
            trial=f"{cohort}-{recipe}".encode().hex(),
            provenance={"asked": {"cohort": cohort, "official": False}},
            measurements=(
                Measurement(name="epsilon_audited", value=0.5, conditions={"audits": counted[cohort]})
                if recipe != "standard"
                else Measurement(name="epsilon_audited", status="not_applicable", warnings=("not private",)),
            ),
        )
        for cohort, recipe in (("small", "eps_1"), ("small", "eps_8"), ("large", "eps_1"), ("large", "standard"))
    ]
    rows = frame(asked, records)
    found = uncorrected(scorecard(asked, "small", rows), rows)
    assert ("3 audits were measured" in found, "corrected for 2" in found) == (said, said)
    assert bool(found) == said
