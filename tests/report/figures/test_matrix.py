"""Every recipe of a family is a line at its training ε, with the figures of the rows."""

import math

import numpy as np
import pandas as pd
import pytest

from assay.report.figures.matrix import families, train_against_test
from assay.report.scorecard import Scorecard, scorecard
from assay.store.folder import Store
from assay.study.spec import Study
from tests.report.views import view_of

PGD = {"name": "pgd", "epsilon": 0.1}


def test_a_family_is_drawn_with_the_plain_recipe_at_zero(
    card_of_arsenal: Scorecard, armed: Study, arsenal: Store
) -> None:
    figure = train_against_test(view_of(card_of_arsenal, arsenal.frame(), armed))
    (heat,) = figure.data
    assert list(heat.y) == ["0", "0.1", "0.3"]
    assert list(heat.x) == ["0", "0.1", "0.3", "0.5"]
    assert heat.z[0].tolist() == pytest.approx([0.9, 0.75, 0.45, 0.15])
    # In two of its three folds an adaptive attack halved what the weakly trained recipe keeps.
    assert heat.z[1].tolist() == pytest.approx([0.88, *(x * 2 / 3 for x in (0.73, 0.43, 0.13))])
    assert heat.z[2].tolist() == pytest.approx([0.86, 0.71, 0.41, 0.11])


def test_recipes_that_differ_in_more_than_their_epsilon_stand_in_no_common_family(study: object) -> None:
    recipes = (
        study(  # type: ignore[operator]
            {
                "standard": {},
                "plain_private": {"privacy": {"epsilon": 8}},
                "weak": {"objective": PGD},
                "strong": {"objective": {**PGD, "epsilon": 0.3}},
                "euclidean": {"objective": {**PGD, "norm": "l2"}},
                "private": {"objective": PGD, "privacy": {"epsilon": 8}},
                "private_strong": {"objective": {**PGD, "epsilon": 0.3}, "privacy": {"epsilon": 8}},
                "fast": {"objective": {"name": "fast", "epsilon": 0.3}},
            }
        )
        .cohorts["made"]
        .recipes
    )
    found = families(recipes, "standard")
    assert list(found.values()) == [
        {"standard": 0.0, "weak": 0.1, "strong": 0.3},
        {"plain_private": 0.0, "private": 0.1, "private_strong": 0.3},
    ]
    assert list(found) == ["pgd in L∞", "pgd in L∞, private, ε = 8"]


def test_two_recipes_of_one_radius_stay_apart_and_keep_their_names(study: object, trial: object, frame: object) -> None:
    longer = {"objective": {**PGD, "steps": 20}}
    asked = study({"a": {"objective": PGD}, "b": longer, "c": {"objective": {**PGD, "epsilon": 0.3}}}, baseline="a")  # type: ignore[operator]
    rows = frame(asked, [trial(name, 0, base=base) for name, base in (("a", 0.9), ("b", 0.8), ("c", 0.7))])  # type: ignore[operator]
    (heat,) = train_against_test(view_of(scorecard(asked, "made", rows), rows, asked)).data
    assert list(heat.y) == ["0.1 (a)", "0.1 (b)", "0.3"]
    assert heat.z[:, 0].tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_what_was_not_measured_is_no_figure(study: object, trial: object, frame: object) -> None:
    asked = study({"standard": {}, "weak": {"objective": PGD}, "strong": {"objective": {**PGD, "epsilon": 0.3}}})  # type: ignore[operator]
    few = trial("weak", 0)  # type: ignore[operator]
    rows: pd.DataFrame = frame(asked, [trial("standard", 0), few])  # type: ignore[operator]
    largest = np.array([c.get("epsilon") == 0.5 for c in rows["conditions"]])
    rows = rows[~(largest & (rows["recipe"] == "weak").to_numpy())]
    (heat,) = train_against_test(view_of(scorecard(asked, "made", rows), rows, asked)).data
    assert list(heat.y) == ["0", "0.1"]
    assert math.isnan(heat.z[1][3])


def test_one_training_radius_is_no_matrix(card: Scorecard, study: object, whole: Store) -> None:
    assert train_against_test(view_of(card, whole.frame(), study())) is None  # type: ignore[operator]
