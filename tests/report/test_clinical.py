"""The section of clinical use draws the decision curve below zero too, and every subgroup with its records."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from assay.report.evidence import in_tables, parts
from assay.report.figures.clinical import decision_curve
from assay.report.scorecard import Scorecard
from assay.report.sections.clinical import ClinicalSection
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from tests.report.views import view_of
from tests.studies import record

__all__ = ["record"]


@pytest.fixture
def rows(tmp_path: Path, record: Callable[..., TrialRecord], card: Scorecard) -> pd.DataFrame:
    """Net benefits and subgroups of two recipes in two folds."""
    store = Store(str(tmp_path / "clinical"))
    for recipe, shift in (("standard", 0.0), ("private", -0.3)):
        for fold in (0, 1):
            found = [
                Measurement(
                    name=name, value=value, low=value - 0.05, high=value + 0.05, n=60, unit="net benefit",
                    conditions={"threshold": threshold, "stated": threshold == 0.2},
                )
                for threshold in (0.2, 0.5)
                for name, value in (
                    ("net_benefit", 0.4 + shift - threshold / 2 + 0.04 * (fold - 0.5)),
                    ("net_benefit_treat_all", 0.3 - threshold),
                )
            ]  # fmt: skip
            found += [
                Measurement(
                    name="accuracy_of_subgroup", value=0.9 + shift, low=0.5, high=1.0, n=20 + fold,
                    conditions={"attribute": "sex", "subgroup": sex},
                )
                for sex in ("F", "M")
            ]  # fmt: skip
            found.append(Measurement(name="ppv", value=0.5, n=60, conditions={"prevalence": 0.03}))
            store.write(record(f"{recipe}{fold}", recipe=recipe, fold=fold, measurements=tuple(found)))
    return store.frame()


def test_the_decision_curve_goes_below_zero_with_its_band(card: Scorecard, rows: pd.DataFrame) -> None:
    figure = decision_curve(view_of(card, rows))
    assert figure is not None
    lines = {trace.name: list(trace.y) for trace in figure.data if trace.name}
    assert lines["private"] == pytest.approx([0.0, -0.15])
    assert lines["treat all"] == pytest.approx([0.1, -0.2])
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    assert min(min(band.y) for band in bands) < -0.15, "no band is cut at zero"


def test_every_subgroup_stands_with_its_records(card: Scorecard, rows: pd.DataFrame) -> None:
    content = ClinicalSection().build(view_of(card, rows))
    assert content is not None
    women, _ = content.tables["subgroups"]
    assert (women.attribute, women.subgroup, women.records, women.figure) == ("sex", "F", "20 – 21", "Accuracy")
    assert women.summaries["private"].mean == pytest.approx(0.6)
    assert content.tables["thresholds"] == [0.2] and content.tables["prevalences"] == [0.03]


def test_nothing_is_said_where_nothing_was_asked(card: Scorecard, whole: Store) -> None:
    assert ClinicalSection().build(view_of(card, whole.frame())) is None


@pytest.mark.parametrize(("columns", "sizes"), [(7, [7]), (10, [10]), (11, [6, 5]), (21, [7, 7, 7]), (0, [0])])
def test_wide_tables_are_cut_into_parts_of_about_the_same_size(columns: int, sizes: list[int]) -> None:
    made: Any = [SimpleNamespace(group="answers", place=place) for place in range(columns)]
    found = [len(part) for part in parts(made, 10)]
    assert sorted(found) == sorted(sizes)
    assert [column for part in parts(made, 10) for column in part] == made
    if columns:
        assert [len(group.columns) for (group,) in in_tables(made)] == found
