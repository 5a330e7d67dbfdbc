"""Every warning stands once, with all that it concerns."""

from assay.report.cells import Cell, ScoreTable
from assay.report.evidence import in_tables, scorecard_columns
from assay.report.marks import marks, merged
from assay.store.rows import MEASUREMENT_SCHEMA

NOTHING = MEASUREMENT_SCHEMA.empty_table().to_pandas()
COLUMNS = {column.key: column for column in scorecard_columns(NOTHING, epsilon=0.3)}


def table(warnings: dict[tuple[str, str], tuple[str, ...]]) -> ScoreTable:
    recipes = tuple(dict.fromkeys(recipe for recipe, _ in warnings))
    evidence = tuple(COLUMNS[key] for key in dict.fromkeys(key for _, key in warnings))
    cells = {(r, e.key): Cell(summary=None, warnings=warnings.get((r, e.key), ())) for r in recipes for e in evidence}
    return ScoreTable(recipes=recipes, evidence=evidence, cells=cells)


def test_a_warning_of_many_recipes_and_figures_stands_once() -> None:
    said = "calibrated on the validation split"
    (mark,) = marks(table({(recipe, key): (said,) for recipe in "abc" for key in ("conformal", "abstains")}))
    assert (mark.said, mark.recipes, mark.varies) == (said, ("a", "b", "c"), False)
    assert mark.figures == (COLUMNS["conformal"].title, COLUMNS["abstains"].title)


def test_warnings_that_differ_by_their_numbers_are_one_that_varies() -> None:
    (mark,) = marks(
        table({("a", "robust"): ("moved by 0.5 % [1 of 5 folds]",), ("b", "robust"): ("moved by 12 % [2 of 5 folds]",)})
    )
    assert (mark.said, mark.first, mark.varies) == ("moved by 0.5 % [1 of 5 folds]", "a", True)


def test_what_concerns_most_recipes_stands_first() -> None:
    found = merged(marks(table({("a", "robust"): ("one",), ("b", "robust"): ("two",), ("c", "robust"): ("two",)})))
    assert [mark.said for mark in found] == ["two", "one"]


def test_groups_hold_every_column_once_and_share_a_table_only_if_small() -> None:
    everything = scorecard_columns(NOTHING, epsilon=0.3)
    tables = in_tables(everything)
    assert [c.key for groups in tables for group in groups for c in group.columns] == [c.key for c in everything]
    assert list(dict.fromkeys(tuple(group.title for group in groups) for groups in tables)) == [
        ("answers",),
        ("clinical",),
        ("attack",),
        ("privacy", "explanation"),
        ("cost",),
    ]
    assert max(sum(len(group.columns) for group in groups) for groups in tables) <= 10
    assert max(sum(len(group.columns) for group in groups) for groups in tables if len(groups) > 1) <= 8
