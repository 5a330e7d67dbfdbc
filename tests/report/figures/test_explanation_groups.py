"""Named groups are drawn by name, and their values in example records are told where these may be published."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from assay.report.explained import map_methods
from assay.report.figures.explanation_groups import group_interactions, group_values
from assay.report.scorecard import Scorecard
from assay.report.tables.explanation_groups import example_groups, holdings
from assay.report.view import View
from assay.results import Measurement, row_of
from tests.report.views import view_of

GROUPS = {"size <2>": ["radius", "area"], "skin": ["texture"]}
EXACT = {"method": "exact_shapley", "groups": GROUPS, "reference": "a mean"}
FOUND = {"method": "permutation_shapley", "groups": "correlated", "reference": "a mean"}


def row(name: str, value: float, **about: Any) -> Measurement:
    return Measurement(
        name=name, value=value, low=value - 0.1, high=value + 0.1, n=9, unit="log-odds", conditions=about
    )


def measurements(fold: int) -> Iterator[Measurement]:
    yield row("faithfulness", 0.5, **EXACT)
    yield row("faithfulness", 0.4, **FOUND)
    for name, held, value in (("skin", "texture", 0.5), ("size <2>", "radius, area", 2.0), ("others", "age", 0.1)):
        yield row("group_value", value + fold / 10, **EXACT, group=name, holds=held, direction=-value)
    for held in ("a, b, c, d", "a, b, c, e") if fold else ("a, b, c, d",):
        yield row("group_value", 1.0, **FOUND, group="a and 3 more", holds=held, direction=1.0)
    yield row("group_interaction", 0.3, **EXACT, first="size <2>", second="skin", direction=-0.3)
    kept = {"predicted": ["ill"], "true": ["well"], "right": [False], "rows": [3], "unit": "log-odds"}
    groups = {"names": ["size <2>", "skin"], "values": [[0.2, -1.5]], "interactions": [[[0, -0.4], [-0.4, 0]]]}
    yield row("explanation_examples", 1.0, **EXACT, examples={**kept, "groups": groups})


@pytest.fixture
def view(card: Scorecard) -> View:
    rows = [
        {"trial": f"{recipe}{fold}", "recipe": recipe, "fold": fold, "repeat": 0, **row_of(one)}
        for recipe in card.recipes
        for fold in range(2)
        for one in measurements(fold)
    ]
    dataset: Any = SimpleNamespace(units="units", licence="CC BY 4.0", modality="tabular")
    return replace(view_of(card, pd.DataFrame(rows)), dataset=dataset)


def test_each_way_to_group_has_a_plot_with_the_greatest_group_first(view: View) -> None:
    figure = group_values(view)
    assert figure is not None
    stated, found = figure.data
    assert list(stated.y) == ["size &lt;2>", "skin", "others"]
    assert list(stated.x) == pytest.approx([2.05, 0.55, 0.15])
    assert list(stated.customdata) == [-2.0, -0.5, -0.1]
    assert stated.error_x.visible and stated.yaxis != found.yaxis


def test_groups_of_one_name_that_hold_other_columns_are_not_averaged(view: View) -> None:
    figure = group_values(view)
    assert figure is not None
    assert sorted(figure.data[1].y) == ["a and 3 more", "a and 3 more (2)"]
    assert ("a and 3 more", "a, b, c, e") in holdings(view)


def test_interactions_are_a_symmetric_matrix_by_name(view: View) -> None:
    figure = group_interactions(view)
    assert figure is not None
    (trace,) = figure.data
    assert list(trace.x) == list(trace.y) == ["size &lt;2>", "skin"]
    assert trace.z[0, 1] == trace.z[1, 0] == pytest.approx(0.3) and pd.isna(trace.z[0, 0])


def test_examples_name_their_groups_the_greatest_first(view: View) -> None:
    (one,) = example_groups(view)
    assert one.answer == "1: ill (wrong, true is well)"
    assert one.values == "skin −1.5, size <2> +0.2"
    assert one.interactions == "size <2> × skin −0.4"
    closed: Any = SimpleNamespace(units="units", licence="unknown", modality="tabular")
    assert example_groups(replace(view, dataset=closed)) == []


def test_a_method_with_two_ways_to_group_is_told_apart_in_words(view: View) -> None:
    numbered = [{**about, "groups": 8} if about.get("groups") == "correlated" else about
                for about in view.frame["conditions"]]  # fmt: skip
    twice = [{**about, "method": "exact_shapley"} for about in numbered]
    titles = [one.title for one in map_methods(view.frame.assign(conditions=twice))]
    assert titles == ["Exact Shapley values, groups size <2>, skin", "Exact Shapley values, groups 8"]


def test_without_named_groups_nothing_is_drawn(view: View) -> None:
    plain = replace(view, frame=view.frame[[not name.startswith("group") for name in view.frame["name"]]])
    assert group_values(plain) is None and group_interactions(plain) is None and holdings(plain) == []
