"""Where it is known what became of each record, recipes on an official split are paired by it, and the page says so."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.design import Design, Runs
from assay.outcomes import Outcomes
from assay.report.decisions import Decisions, decide
from assay.report.page import render
from assay.report.scorecard import Scorecard, scorecard
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.study.plan import load_datasets
from assay.study.registration import Registration
from assay.study.spec import Study
from jobs.verdicts import as_json

MakeStudy = Callable[..., Study]
RECORDS, SEEDS = 2000, 4
NONE = np.full(3, np.nan)
RECIPES: dict[str, Any] = {"standard": {}, "pgd": {"objective": {"name": "pgd", "epsilon": 0.3}}}
REQUIRED = ["loses at most 1 points against standard", "AUROC loses at most 0.1 against standard"]


def hits(recipe: str, seed: int) -> np.ndarray:
    """Both recipes fail on the same hard tenth of the records, and ``pgd`` on a few more."""
    generator = np.random.default_rng([seed, len(recipe)])
    right = np.arange(RECORDS) % 10 > 0
    return right & (generator.random(RECORDS) > (0.004 if recipe == "pgd" else 0.002))


def figures(recipe: str, seed: int, *, kept: bool) -> tuple[Measurement, ...]:
    right = hits(recipe, seed)
    outcomes = Outcomes.of(right, np.arange(RECORDS)) if kept else None
    value = float(right.mean())
    ends = {"low": value - 0.0132, "high": value + 0.0132, "n": RECORDS}
    return (
        Measurement(name="accuracy", value=value, outcomes=outcomes, **ends),
        Measurement(name="auroc", value=value, **ends),
    )


@pytest.fixture
def stored(study: MakeStudy, trial: Any, fill: Any, tmp_path: Path) -> Callable[..., tuple[Study, Store]]:
    def make(*, kept: Callable[[str, int], bool], without: tuple[str, int] | None = None) -> tuple[Study, Store]:
        about = {"requirements": REQUIRED, "candidates": ["pgd"]}
        asked = study(RECIPES, about, split={"folds": 1, "repeats": SEEDS})
        records: list[TrialRecord] = [
            replace(
                trial(recipe, 0, measurements=figures(recipe, seed, kept=kept(recipe, seed))),
                trial=f"{recipe}-{seed}".encode().hex(),
                repeat=seed,
                provenance={"asked": {"cohort": "made", "official": True}},
            )
            for recipe in RECIPES
            for seed in range(SEEDS)
            if (recipe, seed) != without
        ]
        return asked, fill(asked, tmp_path / str(len(list(tmp_path.iterdir()))), records, records)

    return make


def judged(asked: Study, store: Store) -> tuple[Scorecard, Decisions]:
    found = decide(asked, "made", store.frame(), Registration())
    assert found is not None
    return scorecard(asked, "made", store.frame()), found


def everywhere(_recipe: str, _seed: int) -> bool:
    return True


def nowhere(_recipe: str, _seed: int) -> bool:
    return False


def test_pairs_show_what_was_inconclusive(stored: Any) -> None:
    (card, paired), (before, apart) = (judged(*stored(kept=kept)) for kept in (everywhere, nowhere))
    found, known = (one.decisions[0].judgements[0] for one in (paired, apart))
    assert (found.verdict, known.verdict) == ("met", "inconclusive")
    assert (found.by_record, known.by_record) == (True, False)
    assert found.value == known.value
    comparison, other = (one.comparisons["pgd", "accuracy"] for one in (card, before))
    assert comparison.by_record and not other.by_record
    assert comparison.high - comparison.low < 0.5 * (other.high - other.low)
    # A rank statistic is no share of records.
    assert not card.comparisons["pgd", "auroc"].by_record
    assert card.comparisons["pgd", "auroc"] == before.comparisons["pgd", "auroc"]


def test_where_a_run_is_missing_the_others_are_paired_seed_by_seed(stored: Any) -> None:
    card, _ = judged(*stored(kept=everywhere, without=("pgd", 1)))
    there = (0, 2, 3)
    pairs = [
        tuple(Outcomes.of(hits(recipe, seed), np.arange(RECORDS)) for seed in there) for recipe in ("pgd", "standard")
    ]
    runs = [
        Runs(values=np.array([hits(recipe, seed).mean() for seed in there]), low=NONE, high=NONE, outcomes=own)
        for recipe, own in zip(("pgd", "standard"), pairs, strict=True)
    ]
    found, expected = card.comparisons["pgd", "accuracy"], Design(folds=1, repeats=3, official=True).compare(*runs)
    assert found.by_record and found.count == 3
    assert (found.low, found.high, found.p) == pytest.approx((expected.low, expected.high, expected.p))


def test_a_figure_of_each_recipe_alone_stays_as_it_was(stored: Any) -> None:
    cards = [judged(*stored(kept=kept))[0] for kept in (everywhere, nowhere)]
    assert cards[0].cells == cards[1].cells


def test_one_run_of_an_earlier_version_leaves_them_unpaired(stored: Any) -> None:
    card, found = judged(*stored(kept=lambda recipe, seed: (recipe, seed) != ("standard", 2)))
    assert not card.comparisons["pgd", "accuracy"].by_record
    assert found.paired == "apart"


@pytest.mark.parametrize(
    ("kept", "paired", "words"),
    [
        (everywhere, "both", "differences paired by record where what became of each is known"),
        (nowhere, "apart", "recipes counted as if each had records of its own"),
    ],
)
def test_the_page_and_the_console_say_what_was_paired(
    stored: Any, kept: Callable[[str, int], bool], paired: str, words: str
) -> None:
    asked, store = stored(kept=kept)
    _, found = judged(asked, store)
    assert found.paired == paired
    text = re.sub(r"<[^>]+>|\s+", " ", render(asked, load_datasets(asked), store))
    assert words in text
    assert ("Shares of records are paired by record" in text) == (kept is everywhere)
    assert text.count("record and seed") == (1 if kept is everywhere else 0)
    told = as_json(asked, store.location, [found])["cohorts"]["made"]["candidates"]["pgd"]["requirements"]
    assert [one["paired_by_record"] for one in told] == [kept is everywhere, False]
