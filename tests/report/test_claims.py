"""A claim is judged by its whole interval, and by nothing where nothing was measured."""

from typing import Any

import pandas as pd
import pytest

from assay.report.claims import Claim, claimed_text, judge, read_claims, shown

TERMS = ({"recipe": "standard", "name": "accuracy"}, {"recipe": "pgd", "name": "accuracy"})


def frame(**values: list[float]) -> pd.DataFrame:
    rows = [
        {"recipe": recipe, "name": "accuracy", "repeat": 0, "fold": fold, "value": value}
        for recipe, row in values.items()
        for fold, value in enumerate(row)
    ]
    about = {"status": "measured", "conditions": [{} for _ in rows], "warnings": [[] for _ in rows]}
    return pd.DataFrame(rows).assign(**about)


def verdict(claimed: tuple[float | None, float | None], stronger: str = "higher", **values: list[float]) -> Any:
    claim = Claim(id="x", says="x", quantity="difference", terms=TERMS, claimed=claimed, stronger=stronger)
    return judge(claim, frame(**values), reference_epsilon=0.1, share=0.25)


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
    found = judge(claim, shifted, reference_epsilon=0.1, share=0.25).measured
    assert found is not None and (found.count, found.mean) == (4, pytest.approx(0.1))


def test_a_ratio_is_a_geometric_mean() -> None:
    claim = Claim(id="x", says="x", quantity="ratio", unit="times", terms=TERMS, claimed=(1, 3))
    values = frame(standard=[1.0, 4.0], pgd=[1.0, 1.0])
    found = judge(claim, values, reference_epsilon=0.1, share=0.25).measured
    assert found is not None and found.mean == pytest.approx(2.0)


def test_what_was_not_measured_is_not_tested_and_says_why() -> None:
    found = verdict((0, 1), standard=STANDARD)
    assert (found.verdict, found.why, found.measured) == ("not tested here", "no recipe pgd in this cohort", None)
    experts = next(claim for claim in read_claims() if claim.not_tested)
    assert "ratings of experts" in judge(experts, frame(standard=STANDARD), reference_epsilon=0.1, share=0.25).why


def test_every_claim_of_the_study_is_there_and_has_a_range() -> None:
    claims = read_claims()
    assert len({claim.id for claim in claims}) == len(claims) == 15
    for claim in claims:
        assert claim.not_tested or claimed_text(claim)
    assert shown(0.1234, claims[0]) == "12.3%"
