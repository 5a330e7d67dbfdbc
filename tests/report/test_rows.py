"""Rows are picked by what they say, and each figure stays with the run that gave it."""

import pandas as pd
import pytest

from assay.report.rows import runs_of, select, settings, shared, values_by_run


def rows(*places: tuple[int, int], values: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "name": "accuracy",
            "recipe": "standard",
            "repeat": [repeat for repeat, _ in places],
            "fold": [fold for _, fold in places],
            "value": values,
            "low": [value - 0.1 for value in values],
            "high": [value + 0.2 for value in values],
            "status": "measured",
            "conditions": [{"place": place, "sigma": 1} for place in range(len(places))],
        }
    )


def test_runs_stand_in_order_with_their_own_figures() -> None:
    found = runs_of(rows((1, 0), (0, 1), (0, 0), values=[0.3, 0.2, 0.1]))
    assert found.places == ((0, 0), (0, 1), (1, 0))
    assert found.runs.values.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert found.runs.high.tolist() == pytest.approx([0.3, 0.4, 0.5])
    assert found.at([(1, 0), (0, 0)]).values.tolist() == pytest.approx([0.3, 0.1])


def test_several_figures_of_one_run_are_averaged() -> None:
    found = runs_of(rows((0, 1), (0, 0), (0, 1), values=[0.2, 0.1, 0.4]))
    assert found.places == ((0, 0), (0, 1))
    assert found.runs.values.tolist() == pytest.approx([0.1, 0.3])
    assert found.runs.low.tolist() == pytest.approx([0.0, 0.2])


def test_what_was_not_measured_is_no_run() -> None:
    given = rows((0, 0), (0, 1), values=[0.1, 0.2])
    given.loc[0, "status"] = "failed"
    assert runs_of(given).places == ((0, 1),)
    assert len(runs_of(given[:1])) == 0


def test_only_runs_that_all_have_are_shared() -> None:
    one, other = runs_of(rows((0, 0), (0, 1), values=[0.1, 0.2])), runs_of(rows((0, 1), (1, 0), values=[0.3, 0.4]))
    assert shared([one, other]) == [(0, 1)]
    found = values_by_run({"one": one, "other": other})
    assert found.index.tolist() == [(0, 0), (0, 1), (1, 0)]
    assert found["one"].tolist()[:2] == pytest.approx([0.1, 0.2])
    assert found["other"].isna().tolist() == [True, False, False]


def test_rows_without_a_condition_answer_for_all_of_its_values() -> None:
    given = rows((0, 0), (0, 1), values=[0.1, 0.2])
    assert len(select(given, "accuracy", place=1)) == 1
    assert len(select(given, "accuracy", place=1, unheard_of=2)) == 1
    assert settings(given, "sigma") == [1]
