"""Figures show what the scorecard holds: a trace a recipe, in its colour, within what is possible."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from assay import statistics
from assay.report import figures
from assay.report.scorecard import Scorecard, scorecard, select
from assay.results import Measurement, TrialRecord
from assay.study.spec import Study
from assay.study.store import Store

MakeStudy = Callable[..., Study]
Frame = Callable[..., pd.DataFrame]
Trial = Callable[..., TrialRecord]

ALL = ("standard", "private", "fed")


@pytest.fixture
def rows(whole: Store) -> pd.DataFrame:
    return whole.frame()


def named(figure: go.Figure) -> list[Any]:
    """The traces that a legend shows."""
    return [trace for trace in figure.data if trace.showlegend is not False]


def test_every_recipe_has_a_curve_with_its_band(card: Scorecard, rows: pd.DataFrame) -> None:
    figure = figures.robustness(card, rows, "units")
    lines = named(figure)
    assert [line.name for line in lines] == list(ALL)
    assert len(figure.data) == 2 * len(ALL)
    assert list(lines[0].x) == [0.0, 0.1, 0.3, 0.5]
    assert list(lines[0].y) == pytest.approx([0.91, 0.76, 0.46, 0.16])
    band = figure.data[0]
    expected = statistics.summarise([0.45, 0.46, 0.47], test_share=card.design.test_share)
    assert (band.y[2], band.y[-3]) == pytest.approx((expected.high, expected.low))
    assert "units" in figure.layout.xaxis.title.text


def test_bands_stay_within_what_is_possible(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    bases = (0.0, 0.5, 0.98)
    records = [trial("standard", i, base=base, only={"worst_case_accuracy"}) for i, base in enumerate(bases)]
    table = frame(study(), records)
    figure = figures.robustness(scorecard(study(), "made", table), table, "units")
    values = np.concatenate([trace.y for trace in figure.data])
    assert values.min() == 0
    assert values.max() == 1


def test_the_reference_radius_is_drawn(card: Scorecard, rows: pd.DataFrame) -> None:
    (line,) = figures.robustness(card, rows, "units").layout.shapes
    assert (line.x0, line.x1, line.line.dash) == (0.3, 0.3, "dot")


def test_every_attack_is_a_bar_for_each_recipe_and_the_worst_case_comes_last(
    card: Scorecard, rows: pd.DataFrame
) -> None:
    figure = figures.attacks(card, rows)
    assert [bar.name for bar in figure.data] == [
        "no attack",
        "fgsm",
        "pgd cross entropy",
        "pgd margin",
        "worst case",
    ]
    assert all(list(bar.x) == list(ALL) for bar in figure.data)
    assert list(figure.data[0].y) == pytest.approx([0.91, 0.81, 0.86])
    assert list(figure.data[-1].y) == pytest.approx([0.46, 0.36, 0.41])


def test_privacy_shows_every_recipe_and_what_is_not_private_at_infinity(card: Scorecard) -> None:
    figure = figures.privacy(card)
    by_name = {trace.name: trace for trace in figure.data}
    assert list(by_name) == list(ALL)
    assert (by_name["private"].x[0], by_name["private"].marker.symbol) == (pytest.approx(7.9), "circle")
    assert by_name["standard"].x == by_name["fed"].x
    assert by_name["standard"].marker.symbol == "circle-open"
    assert figure.layout.xaxis.ticktext[-1] == "∞"
    assert figure.layout.xaxis.tickvals[-1] == by_name["standard"].x[0] > 7.9
    assert by_name["private"].y[0] == pytest.approx(0.81)


@pytest.mark.parametrize("bases", [(0.98, 0.7, 0.9), (0.0, 0.3, 0.1)])
def test_error_bars_of_privacy_stay_within_what_is_possible(
    study: MakeStudy, frame: Frame, trial: Trial, bases: tuple[float, ...]
) -> None:
    records = [trial("standard", i, base=base, only={"accuracy"}) for i, base in enumerate(bases)]
    (trace,) = figures.privacy(scorecard(study(), "made", frame(study(), records))).data
    assert trace.y[0] + trace.error_y.array[0] <= 1
    assert trace.y[0] - trace.error_y.arrayminus[0] >= 0


def test_clients_stand_between_both_ends(card: Scorecard, rows: pd.DataFrame) -> None:
    figure = figures.clients(card, rows)
    assert figure is not None
    assert [len(box.y) for box in figure.data] == [3, 3, 3, 3]
    alone, federated, everywhere, together = (sorted(box.y) for box in figure.data)
    assert alone == pytest.approx([0.86 - client / 20 for client in (3, 2, 1)])
    assert federated == pytest.approx([0.86 - client / 50 for client in (3, 2, 1)])
    assert everywhere == pytest.approx([0.85, 0.86, 0.87])
    assert together == pytest.approx([0.87, 0.88, 0.89])


def test_without_a_federation_there_are_no_clients(card: Scorecard, rows: pd.DataFrame) -> None:
    assert figures.clients(replace(card, recipes=("standard", "private")), rows) is None


def test_each_kind_of_explanation_is_drawn_by_what_it_gains_over_a_random_order(
    card: Scorecard, rows: pd.DataFrame
) -> None:
    figure = figures.faithfulness(card, rows)
    assert {bar.name: list(bar.y) for bar in figure.data} == {
        "integrated gradients": pytest.approx([0.2] * 3),
        "SHAP": pytest.approx([0.1] * 3),
    }
    assert all(list(bar.x) == list(ALL) for bar in figure.data)


def test_attention_stands_beside_the_other_explanations_where_it_was_measured(
    card: Scorecard, rows: pd.DataFrame
) -> None:
    gains = select(rows, "insertion_gain", method="shap")
    attention = gains.assign(
        value=gains["value"] / 2, conditions=[{**c, "method": "attention"} for c in gains["conditions"]]
    )
    figure = figures.faithfulness(card, pd.concat([rows, attention], ignore_index=True))
    assert {bar.name: list(bar.y) for bar in figure.data}["attention"] == pytest.approx([0.05] * 3)


def test_cost_is_the_geometric_mean_of_ratios_fold_by_fold(card: Scorecard, rows: pd.DataFrame) -> None:
    figure = figures.cost(card, rows, "standard")
    assert {bar.y[0]: bar.x[0] for bar in figure.data} == {
        "standard": pytest.approx(1.0),
        "private": pytest.approx((2.0 * 2.1 * 2.2) ** (1 / 3)),
        "fed": pytest.approx((2.0 * 2.1 * 2.2) ** (1 / 3)),
    }
    assert len(figures.cost(card, rows, "absent").data) == 0


def test_filled_diamonds_differ_and_open_ones_are_inconclusive(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    bases = {"standard": (0.9, 0.9, 0.9), "private": (0.5, 0.51, 0.49), "fed": (0.9, 0.95, 0.84)}
    records = [
        trial(recipe, fold, base=base, only={"accuracy"})
        for recipe, row in bases.items()
        for fold, base in enumerate(row)
    ]
    card = scorecard(study(), "made", frame(study(), records))
    figure = figures.differences(card, "accuracy", "standard")
    by_name = {trace.y[0]: trace for trace in figure.data}
    assert set(by_name) == {"private", "fed"}
    assert {name: trace.marker.symbol for name, trace in by_name.items()} == {
        "private": "diamond",
        "fed": "diamond-open",
    }
    found = card.comparisons["private", "accuracy"]
    trace = by_name["private"]
    assert trace.x[0] == pytest.approx(found.difference)
    assert trace.x[0] + trace.error_x.array[0] == pytest.approx(found.high)
    assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(found.low)


def test_a_recipe_has_one_colour_everywhere(card: Scorecard, rows: pd.DataFrame) -> None:
    colours = figures.colours(card.recipes)
    assert len(set(colours.values())) == 3
    for line in named(figures.robustness(card, rows, "units")):
        assert line.line.color == colours[line.name]
    for point in figures.privacy(card).data:
        assert point.marker.color == colours[point.name]
    for bar in figures.cost(card, rows, "standard").data:
        assert bar.marker.color == colours[bar.y[0]]


def test_more_recipes_than_colours_are_told_apart_by_dashes(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    recipes = {f"recipe_{i}": {} for i in range(10)}
    asked = study(recipes)
    table = frame(asked, [trial(name, 0, only={"worst_case_accuracy"}) for name in recipes])
    figure = figures.robustness(scorecard(asked, "made", table), table, "units")
    looks = [(line.line.color, line.line.dash) for line in named(figure)]
    assert len(set(looks)) == 10


def test_figures_of_nothing_are_empty_and_no_error(study: MakeStudy, frame: Frame) -> None:
    table = frame(study(), [])
    card = scorecard(study(), "made", table)
    assert len(figures.robustness(card, table, "units").data) == 0
    assert len(figures.privacy(card).data) == len(figures.cost(card, table, "standard").data) == 0
    assert len(figures.differences(card, "accuracy", "standard").data) == 0
    assert figures.clients(card, table) is None
    assert all(value is None for bar in figures.attacks(card, table).data for value in bar.y)
    assert all(value is None for bar in figures.faithfulness(card, table).data for value in bar.y)


def test_a_fragment_carries_its_data_and_no_library(card: Scorecard) -> None:
    fragment = figures.html(figures.privacy(card), described="privacy")
    assert 'role="img" aria-label="privacy"' in fragment
    assert len(fragment) < 50_000
    assert "src=" not in fragment


def test_a_unit_cannot_end_the_script_that_holds_it(card: Scorecard, rows: pd.DataFrame) -> None:
    figure = figures.robustness(card, rows, "</script><img src=x onerror=alert(1)>")
    fragment = figures.html(figure, described="robustness")
    assert "<img" not in fragment
    assert fragment.count("</script>") == fragment.count("<script")


def test_what_did_not_apply_is_not_drawn(study: MakeStudy, frame: Frame, trial: Trial) -> None:
    failed = Measurement(name="accuracy", status="failed", warnings=("odd",))
    table = frame(study(), [trial("standard", 0, measurements=(failed,))])
    assert len(figures.privacy(scorecard(study(), "made", table)).data) == 0
