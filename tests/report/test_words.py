"""Results are shown with as many digits as a reader can use, and what is missing is never 0."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from assay.report.cells import Cell
from assay.report.evidence import scorecard_columns
from assay.report.words import (
    bytes_text,
    cell_text,
    comparison_text,
    describe_recipe,
    difference_text,
    interval_text,
    points_text,
    shown,
    summary_text,
)
from assay.statistics import Comparison, Summary
from assay.store.rows import MEASUREMENT_SCHEMA
from assay.study.spec import Study

MakeStudy = Callable[..., Study]

NOTHING = MEASUREMENT_SCHEMA.empty_table().to_pandas()
COLUMNS = {column.key: column for column in scorecard_columns(NOTHING, epsilon=0.3)}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_999, "1 MB"),
        (1_250_000, "1.25 MB"),
        (3e9, "3 GB"),
        (5e15, "5e+03 TB"),
    ],
)
def test_bytes_have_three_digits_and_a_unit(count: float, text: str) -> None:
    assert bytes_text(count) == text


def test_a_difference_of_shares_is_in_points_with_a_true_minus() -> None:
    assert [points_text(share) for share in (0.0125, -0.031, 0.0)] == ["+1.2", "−3.1", "+0.0"]


@pytest.mark.parametrize("key", [key for key, column in COLUMNS.items() if column.estimated])
def test_intervals_stay_within_what_is_possible(key: str) -> None:
    column = COLUMNS[key]
    text = interval_text(Cell(summary=Summary(mean=0.5, deviation=1, low=-7.0, high=8.0, count=3)), column)
    low, high = (float(end) for end in text.split(" – "))
    scale = 100 if column.unit == "percent" else 1
    assert low == scale * max(column.least, -7.0)
    assert high == scale * min(column.most, 8.0)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1234, "percent", "12.3%"),
        (1.0, "percent", "100.0%"),
        (0.1234, "number", "0.12"),
        (12345.6, "number", "1.23e+04"),
        (-0.5, "number", "-0.50"),
        (1.234, "seconds", "1.23 s"),
        (float("nan"), "percent", "–"),
    ],
)
def test_figures_have_as_many_digits_as_a_reader_can_use(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


@pytest.mark.parametrize(
    ("cell", "key", "text"),
    [
        (Cell(summary=None, why="it has no budget", reason="not_private"), "epsilon", "∞"),
        (Cell(summary=None, why="no trial has finished"), "epsilon", "–"),
        (Cell(summary=None, why="not private", reason="unspecified"), "epsilon", "–"),
        (Cell(summary=None, why="δ above 1/n", failed=True), "epsilon", "failed"),
        (Cell(summary=Summary(mean=0.5, deviation=0, low=0, high=1, count=2)), "accuracy", "50.0%"),
    ],
)
def test_what_is_missing_is_never_zero(cell: Cell, key: str, text: str) -> None:
    assert cell_text(cell, COLUMNS[key]) == text


def test_differences_are_in_points_with_their_interval() -> None:
    found = Comparison(
        difference=-0.0312, low=-0.05, high=0.0123, p=0.1, p_holm=0.2, effect=-1, detectable=0.02, count=5
    )
    assert comparison_text(found, COLUMNS["accuracy"]) == "-3.1 points (-5.0 to +1.2)"
    assert comparison_text(found, COLUMNS["auroc"]) == "-0.031 (-0.050 to +0.012)"


def test_recipes_are_told_in_words(study: MakeStudy) -> None:
    asked = study(
        {
            "both": {
                "objective": {"name": "pgd", "epsilon": 0.3},
                "privacy": {"epsilon": 8},
                "federation": {"clients": 3, "rounds": 7},
                "training": {"batch_size": 32},
            }
        }
    )
    assert describe_recipe(asked, "made", "both") == (
        "objective pgd (epsilon 0.3, steps 7, relative step 2.5, norm linf); DP-SGD to ε = 8, δ = 1e-05, clipping 1; "
        "fedavg over 3 clients (iid), 7 rounds of 2 epochs; batches of 32, adam at 0.001"
    )


def test_a_share_stands_with_its_interval_within_what_is_possible() -> None:
    assert summary_text(Summary(mean=0.95, deviation=0.1, low=0.8, high=1.1, count=3)) == "95.0% (80.0 – 100.0)"
    assert summary_text(Summary(mean=0.5, deviation=math.nan, low=math.nan, high=math.nan, count=1)) == "50.0%"


def test_settings_within_settings_stand_in_brackets(study: MakeStudy) -> None:
    asked = study({"fast": {"objective": {"name": "fast", "epsilon": 0.1}}})
    assert "watch (every 1, records 128, " in describe_recipe(asked, "made", "fast")


@pytest.mark.parametrize(
    ("unit", "said", "whole"),
    [
        ("seconds", "−1.06 s", "-1.060 s (-2.000 to -0.500)"),
        ("percent", "−106.0 points", "-106.0 points (-200.0 to -50.0)"),
        ("number", "−1.06", "-1.060 (-2.000 to -0.500)"),
    ],
)
def test_a_difference_is_told_in_the_unit_of_its_column(unit: str, said: str, whole: str) -> None:
    comparison, column = SimpleNamespace(difference=-1.06, low=-2.0, high=-0.5), SimpleNamespace(unit=unit)
    assert difference_text(comparison, column) == said  # type: ignore[arg-type]
    assert comparison_text(comparison, column) == whole  # type: ignore[arg-type]
