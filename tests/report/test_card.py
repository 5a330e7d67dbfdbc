"""A card says which artefact it speaks of, and shows its figures beside those of its recipe."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from assay.data.splits import Split
from assay.report.card import Card, card_of
from assay.report.scorecard import Scorecard, scorecard
from assay.store.folder import Store
from assay.study.finished import Finished
from assay.study.spec import Study


def finished(study: Study, store: Store, *, trial: str, fold: int, repeat: int) -> Finished:
    nobody = np.arange(0)
    return Finished(
        trial=trial.encode().hex(),
        study=study,
        cohort="made",
        recipe_name="private",
        fold=fold,
        repeat=repeat,
        recipe=study.cohorts["made"].recipes["private"],
        model=nn.Identity(),
        dataset=study.cohorts["made"].dataset.load(),
        split=Split(train=np.arange(40), validation=nobody, calibration=nobody, test=np.arange(40, 60)),
        frame=store.frame(),
    )


@pytest.fixture
def of_seed(official: Study, seeds: Store) -> Card:
    return card_of(finished(official, seeds, trial="private-seed-2", fold=0, repeat=2), "served")


def test_an_artefact_of_an_official_split_is_named_by_its_seed(of_seed: Card) -> None:
    assert "cohort made, official split, seed 3 of 4; trained on 40 records" in of_seed.artefact
    assert "fold" not in of_seed.artefact
    assert "fold" not in of_seed.to_html()


def test_an_artefact_of_a_fold_is_named_by_it(study: Study, whole: Store) -> None:
    card = card_of(finished(study(), whole, trial="private-1", fold=1, repeat=0), "served")  # type: ignore[operator]
    assert "cohort made, fold 2 of 3, repeat 1 of 1; trained on 40 records" in card.artefact


def test_the_figures_of_a_model_stand_beside_its_recipes(of_seed: Card, card_of_seeds: Scorecard) -> None:
    accuracy = next(figure for figure in of_seed.evidence if figure.title == "Accuracy")
    assert (accuracy.value, accuracy.low, accuracy.high) == pytest.approx((0.82, 0.72, 0.92))
    recipe = card_of_seeds.cells["private", "accuracy"].summary
    assert recipe is not None
    assert (accuracy.recipe_mean, accuracy.recipe_low) == (recipe.mean, recipe.low)
    assert "Abstains (risk ≤ 5 %)" in [figure.title for figure in of_seed.evidence]


def test_no_interval_of_a_card_leaves_the_possible_values(study: Study, whole: Store) -> None:
    served = finished(study(), whole, trial="private-1", fold=1, repeat=0)  # type: ignore[operator]
    frame = served.frame.copy()
    # As far apart as can be: the interval of the mean, by t on two degrees of freedom, would reach from -99 % to 232 %.
    for key in ("value", "low", "high"):
        wide = frame["fold"].map({0: 0.0, 1: 1.0, 2: 1.0}) + {"value": 0.0, "low": -0.5, "high": 0.5}[key]
        frame[key] = wide.where(frame["status"] == "measured", frame[key])
    card = card_of(replace(served, frame=frame), "served")
    limits = {column.title: (column.least, column.most) for column in scorecard(served.study, "made", frame).evidence}
    ends = [(figure.title, end) for figure in card.evidence for end in (figure.low, figure.high)]
    of_recipe = [(figure.title, end) for figure in card.evidence for end in (figure.recipe_low, figure.recipe_high)]
    known = [(title, end) for title, end in (*ends, *of_recipe) if end is not None]
    assert len(known) > 20
    assert [(title, end) for title, end in known if not limits[title][0] <= end <= limits[title][1]] == []
    shares = {end for title, end in of_recipe if title == "Accuracy"}
    assert shares == {0.0, 1.0}


def test_a_card_says_what_answers_tell(study: Study, whole: Store) -> None:
    served = finished(study(), whole, trial="private-1", fold=1, repeat=0)  # type: ignore[operator]
    explained, calibrated = card_of(served, "served").answers_tell
    assert "public reference" in explained
    assert "no training record" in explained
    assert calibrated.startswith("no record calibrates")
    held = replace(served, split=replace(served.split, calibration=np.arange(60, 90)))
    card = card_of(held, "served")
    assert "30 records of the calibration split" in card.answers_tell[1]
    assert "no ε is paid for these records" in card.answers_tell[1]
    assert "no ε is paid for these records" in card.to_html()
    recipe = served.study.cohorts["made"].recipes["standard"]
    public = card_of(replace(held, recipe=recipe, recipe_name="standard"), "served").answers_tell
    assert "compares a record with training records" in public[0]
    assert "no ε is paid" not in public[1]


def test_a_model_that_stands_alone_passes_no_figure_off_as_its_recipes(official: Study, seeds: Store) -> None:
    served = finished(official, seeds, trial="private-seed-2", fold=0, repeat=2)
    alone = card_of(replace(served, frame=served.own), "served")
    assert all(figure.recipe_mean is None for figure in alone.evidence)
    assert "its recipe" not in alone.to_html()
    assert "its recipe" in card_of(served, "served").to_html()


def test_what_stands_beside_a_figure_stands_on_the_card_and_what_stands_beside_another_models_does_not(
    official: Study, seeds: Store
) -> None:
    served = finished(official, seeds, trial="private-seed-2", fold=0, repeat=2)

    def warned(trial: str, status: str) -> tuple[str, ...]:
        frame = served.frame.copy()
        where = frame.index[(frame["trial"] == trial) & (frame["name"] == "accuracy")]
        frame.loc[where, "status"] = status
        frame.loc[where, "warnings"] = frame.loc[where, "warnings"].map(lambda _: ["overfitting was undone"])
        return card_of(replace(served, frame=frame), "served").warnings

    assert "overfitting was undone" in warned(served.trial, "measured")
    assert "overfitting was undone" not in warned(served.trial, "not_applicable"), "it says why, in the figure's place"
    assert "overfitting was undone" not in warned(b"private-seed-1".hex(), "measured")


def test_what_a_check_could_not_decide_stands_on_the_card_with_a_mark_of_its_own(official: Study, seeds: Store) -> None:
    served = finished(official, seeds, trial="private-seed-2", fold=0, repeat=2)
    frame = served.frame.copy()
    row = frame[(frame["kind"] == "check") & (frame["trial"] == served.trial)].index[0]
    frame.loc[row, "verdict"] = "inconclusive"
    frame.at[row, "warnings"] = ["neither better nor worse"]
    card = card_of(replace(served, frame=frame), "served")
    assert card.inconclusive == card.to_json()["inconclusive"] == ("neither better nor worse",)
    assert all("neither better" not in told for told in (*card.warnings, *(flag.message for flag in card.flags)))
    assert '<span class="tag inconclusive">inconclusive</span> neither better nor worse' in card.to_html()
