"""A card says which artefact it speaks of, and shows its figures beside those of its recipe."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from assay.data.splits import Split
from assay.report.card import Card, card_of
from assay.report.scorecard import Scorecard
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
