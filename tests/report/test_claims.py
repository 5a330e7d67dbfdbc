"""A claim is judged by its whole interval, and by nothing where nothing was measured."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

import assay.explain.methods  # noqa: F401
from assay.design import Design
from assay.outcomes import Outcomes
from assay.registry import methods
from assay.report.claims import Claim, claim_figure, claimed_text, judge_claim, read_claims

TERMS = ({"recipe": "standard", "name": "accuracy"}, {"recipe": "pgd", "name": "accuracy"})

FOLDS = Design(folds=5, repeats=1, test_share=0.25)


def frame(**values: list[float]) -> pd.DataFrame:
    rows = [
        {"recipe": recipe, "name": "accuracy", "repeat": 0, "fold": fold, "value": value}
        for recipe, row in values.items()
        for fold, value in enumerate(row)
    ]
    # No figure has an interval of its own over records.
    about = {
        "low": math.nan,
        "high": math.nan,
        "status": "measured",
        "conditions": [{} for _ in rows],
        "warnings": [[] for _ in rows],
        "flags": [() for _ in rows],
    }
    return pd.DataFrame(rows).assign(**about)


def verdict(claimed: tuple[float | None, float | None], stronger: str = "higher", **values: list[float]) -> Any:
    claim = Claim(id="x", says="x", quantity="difference", terms=TERMS, claimed=claimed, stronger=stronger)
    return judge_claim(claim, frame(**values), reference_epsilon=0.1, design=FOLDS)


STANDARD = [0.90, 0.91, 0.89, 0.90, 0.90]
TEN_LOWER = [0.80, 0.81, 0.79, 0.80, 0.80]
NOISY = [0.80, 0.90, 0.70, 0.85, 0.75]


@pytest.mark.parametrize(
    ("claimed", "stronger", "pgd", "said"),
    [
        ((0.08, 0.12), "higher", TEN_LOWER, "holds"),
        ((0.02, 0.05), "higher", TEN_LOWER, "stronger"),
        ((0.02, 0.05), "lower", TEN_LOWER, "weaker"),
        ((0.15, 0.20), "higher", TEN_LOWER, "weaker"),
        ((0.15, 0.20), "lower", TEN_LOWER, "stronger"),
        ((0.08, 0.12), "higher", NOISY, "inconclusive"),
        ((None, 0.12), "higher", TEN_LOWER, "holds"),
        ((0.08, None), "higher", TEN_LOWER, "holds"),
        ((0.08, 0.12), "higher", TEN_LOWER[:1], "inconclusive"),
    ],
)
def test_a_verdict_needs_the_whole_interval(claimed: Any, stronger: str, pgd: list[float], said: str) -> None:
    found = verdict(claimed, stronger, standard=STANDARD, pgd=pgd)
    assert found.verdict == said
    assert found.measured is not None
    if len(pgd) > 1:
        assert found.measured.mean == pytest.approx(sum(STANDARD) / 5 - sum(pgd) / 5)


def test_folds_are_paired() -> None:
    shifted = frame(standard=STANDARD, pgd=TEN_LOWER)
    shifted = shifted[~((shifted["recipe"] == "pgd") & (shifted["fold"] == 0))]
    claim = Claim(id="x", says="x", quantity="difference", terms=TERMS, claimed=(0.08, 0.12))
    found = judge_claim(claim, shifted, reference_epsilon=0.1, design=FOLDS).measured
    assert found is not None and (found.count, found.mean) == (4, pytest.approx(0.1))


def test_a_ratio_is_a_geometric_mean() -> None:
    claim = Claim(id="x", says="x", quantity="ratio", unit="times", terms=TERMS, claimed=(1, 3))
    values = frame(standard=[1.0, 4.0], pgd=[1.0, 1.0])
    found = judge_claim(claim, values, reference_epsilon=0.1, design=FOLDS).measured
    assert found is not None and found.mean == pytest.approx(2.0)


def test_what_was_not_measured_is_not_tested_and_says_why() -> None:
    found = verdict((0, 1), standard=STANDARD)
    assert (found.verdict, found.why, found.measured) == ("not tested here", "no recipe pgd in this cohort", None)
    experts = next(claim for claim in read_claims() if claim.not_tested)
    assert (
        "ratings of experts" in judge_claim(experts, frame(standard=STANDARD), reference_epsilon=0.1, design=FOLDS).why
    )


def test_every_claim_of_the_study_is_there_and_has_a_range() -> None:
    claims = read_claims()
    assert len({claim.id for claim in claims}) == len(claims) == 35
    for claim in claims:
        assert claim.not_tested or claimed_text(claim)
    assert claim_figure(0.1234, claims[0]) == "12.3%"


def test_a_recipe_is_found_under_the_name_that_its_study_gives_it() -> None:
    terms = ({"recipe": "standard", "name": "accuracy"}, {"recipe": ["pgd", "pgd_4"], "name": "accuracy"})
    claim = Claim(id="x", says="x", quantity="difference", terms=terms, claimed=(0.08, 0.12))
    named = judge_claim(claim, frame(standard=STANDARD, pgd_4=TEN_LOWER), reference_epsilon=0.1, design=FOLDS)
    assert named.verdict == "holds"
    # The first name that the cohort has is meant, and no mixture of both.
    both = judge_claim(
        claim, frame(standard=STANDARD, pgd=STANDARD, pgd_4=TEN_LOWER), reference_epsilon=0.1, design=FOLDS
    )
    assert both.measured is not None and both.measured.mean == pytest.approx(0.0)
    neither = judge_claim(claim, frame(standard=STANDARD), reference_epsilon=0.1, design=FOLDS)
    assert neither.why == "no recipe pgd in this cohort"


def test_a_claim_that_is_not_the_studys_names_its_source() -> None:
    for claim in read_claims():
        assert claim.source == "the reproduced study" or any(
            year in claim.source for year in ("2017", "2018", "2019", "2020", "2022")
        )


SEEDS = Design(folds=1, repeats=5, official=True)


def of_seeds(reach: float, **values: list[float]) -> pd.DataFrame:
    """The same over seeds, each figure with an interval over records that reaches so far."""
    made = frame(**values)
    return made.assign(repeat=made["fold"], fold=0, low=made["value"] - reach, high=made["value"] + reach)


@pytest.mark.parametrize(("reach", "said"), [(0.0, "holds"), (0.012, "holds"), (0.05, "inconclusive")])
def test_on_an_official_split_the_records_must_agree_too(reach: float, said: str) -> None:
    claim = Claim(id="x", says="x", quantity="difference", terms=TERMS, claimed=(0.08, 0.12))
    found = judge_claim(claim, of_seeds(reach, standard=STANDARD, pgd=TEN_LOWER), reference_epsilon=0.1, design=SEEDS)
    assert found.verdict == said
    assert found.measured is not None
    # Seeds are paired and all differ by a tenth; the reach of two figures joins.
    assert found.measured.high - 0.1 == pytest.approx(2**0.5 * reach, abs=1e-9)


def test_on_an_official_split_a_difference_is_paired_by_record() -> None:
    alike = Outcomes.of(np.arange(1000) % 10 > 0, np.arange(1000))
    values = of_seeds(0.05, standard=[0.9] * 5, pgd=[0.9] * 5).assign(outcomes=[alike] * 10)
    claim = Claim(id="x", says="x", quantity="difference", terms=TERMS, claimed=(-0.02, 0.02))
    found = judge_claim(claim, values, reference_epsilon=0.1, design=SEEDS)
    assert (found.verdict, found.by_record) == ("holds", True)
    apart = judge_claim(claim, values.drop(columns="outcomes"), reference_epsilon=0.1, design=SEEDS)
    assert (apart.verdict, apart.by_record) == ("inconclusive", False)


def test_one_seed_judges_nothing() -> None:
    claim = Claim(id="x", says="x", quantity="difference", terms=TERMS, claimed=(0.08, 0.12))
    found = judge_claim(claim, of_seeds(0.001, standard=[0.9], pgd=[0.8]), reference_epsilon=0.1, design=SEEDS)
    assert (found.verdict, found.why) == ("inconclusive", "one seed shows no spread")


def test_a_ratio_of_fractions_has_the_records_in_it() -> None:
    claim = Claim(id="x", says="x", quantity="ratio", unit="times", terms=TERMS, claimed=(1, 3))
    values = of_seeds(0.0, standard=[0.8] * 3, pgd=[0.4] * 3)
    values["high"] = values["value"] * 1.1
    values["low"] = values["value"] / 1.1
    found = judge_claim(claim, values, reference_epsilon=0.1, design=SEEDS).measured
    assert found is not None
    assert (found.mean, found.high / 2) == pytest.approx((2.0, 1.1 ** (2**0.5)))


def test_where_the_source_tested_the_same_records_the_interval_is_over_seeds_alone() -> None:
    about: dict[str, Any] = {"id": "x", "says": "x", "terms": ({"recipe": "pgd", "name": "accuracy"},)}
    seeds = of_seeds(0.05, standard=STANDARD, pgd=TEN_LOWER)
    same, other = (
        judge_claim(
            Claim(claimed=(0.78, 0.82), same_records=same, **about), seeds, reference_epsilon=0.1, design=SEEDS
        ).measured
        for same in (True, False)
    )
    assert same is not None and other is not None and same.mean == other.mean
    spread = np.std(TEN_LOWER, ddof=1) / 5**0.5
    assert same.high - same.mean == pytest.approx(2.776445 * spread)
    assert other.high - other.mean == pytest.approx(float(np.hypot(2.776445 * spread, 0.05)))


def test_a_claim_about_one_data_set_is_tested_on_no_other() -> None:
    claim = Claim(id="x", says="x", quantity="difference", terms=TERMS, claimed=(0.08, 0.12), dataset="heart")
    values = frame(standard=STANDARD, pgd=TEN_LOWER)
    verdicts = [
        judge_claim(claim, values.assign(dataset=name), reference_epsilon=0.1, design=FOLDS).verdict
        for name in ("heart", "wdbc")
    ]
    assert verdicts == ["holds", "not tested here"]


def test_claims_about_explanations_name_methods_that_exist() -> None:
    named = {
        term.where["method"]
        for claim in read_claims()
        for term in claim.terms
        if term.name.startswith(("explanation", "insertion", "deletion")) and "method" in term.where
    }
    assert named
    assert named <= set(methods("explainer"))


def checked(verdicts: list[str]) -> pd.DataFrame:
    """Accuracies of two recipes, and a check of one of them in each fold."""
    values = frame(standard=STANDARD, pgd=TEN_LOWER)
    own = values[(values["recipe"] == "pgd").to_numpy()]
    about = pd.Series([{"method": "x"} for _ in verdicts], index=own.index)
    checks = own.assign(name="check.values_agree", verdict=verdicts, conditions=about)
    return pd.concat([values.assign(verdict=None), checks], ignore_index=True)


def test_terms_are_compared_only_where_the_provided_checks_pass() -> None:
    claim = Claim(
        id="x",
        says="x",
        quantity="difference",
        terms=TERMS,
        claimed=(0.08, 0.12),
        provided=({"recipe": "pgd", "name": "check.values_agree", "where": {"method": "x"}},),
    )
    good, bad = (
        judge_claim(claim, checked(["pass"] * 4 + [last]), reference_epsilon=0.1, design=FOLDS)
        for last in ("pass", "warn")
    )
    assert good.verdict == "holds"
    assert (bad.verdict, bad.measured) == ("not tested here", None)
    assert bad.why == "the check values agree of x did not pass in 1 of 5 runs"
    never = judge_claim(claim, frame(standard=STANDARD, pgd=TEN_LOWER), reference_epsilon=0.1, design=FOLDS)
    assert (never.verdict, never.why) == ("not tested here", "no check.values_agree of pgd")


def test_the_time_of_maps_is_compared_where_both_are_accurate() -> None:
    claim = next(one for one in read_claims() if one.id == "gradients_cost_more_than_shap")
    assert {(term.name, term.where["method"]) for term in claim.provided} == {
        ("check.completeness", "integrated_gradients"),
        ("check.values_agree", "integrated_gradients"),
        ("check.additivity", "deep_shap"),
    }
