"""An attack is drawn against its share, a line a defence, with the figures of the rows."""

import pandas as pd
import pytest

from assay.report.figures.poisoning import by_recipe, by_share
from assay.report.scorecard import Scorecard, scorecard
from assay.store.folder import Store
from assay.study.spec import Study
from tests.report.views import view_of


@pytest.fixture
def rows(arsenal: Store) -> pd.DataFrame:
    return arsenal.frame()


def test_success_and_accuracy_stand_against_the_share(
    card_of_arsenal: Scorecard, armed: Study, rows: pd.DataFrame
) -> None:
    figure = by_share(view_of(card_of_arsenal, rows, armed))
    assert [title.text for title in figure.layout.annotations] == ["backdoor: backdoor success", "backdoor: accuracy"]
    found = {(t.name, t.xaxis): (list(t.x), list(t.y)) for t in figure.data if t.name}
    assert found == {
        ("no defence", "x"): ([0.05, 0.1], pytest.approx([0.95, 0.95])),
        ("spectral signatures", "x"): ([0.05, 0.1], pytest.approx([0.2, 0.2])),
        # At share 0 stands the recipe that has the same defence and nothing to fear.
        ("no defence", "x2"): ([0.0, 0.05, 0.1], pytest.approx([0.9, 0.84, 0.82])),
        ("spectral signatures", "x2"): ([0.0, 0.05, 0.1], pytest.approx([0.76, 0.8, 0.78])),
    }
    assert [t.name for t in figure.data if t.showlegend is not False] == ["no defence", "spectral signatures"]


def test_every_recipe_with_a_success_is_drawn_with_its_accuracy_once(
    card_of_arsenal: Scorecard, armed: Study, rows: pd.DataFrame
) -> None:
    found = {
        trace.name: dict(zip(trace.y, trace.x, strict=True))
        for trace in by_recipe(view_of(card_of_arsenal, rows, armed)).data
    }
    assert found == {
        "accuracy": {"collision": pytest.approx(0.74)},
        "collision success": {"collision": pytest.approx(0.4)},
    }
    # Without a grid of shares they all stand here.
    recipes = {name: recipe for name, recipe in armed.cohorts["made"].recipes.items() if not name.endswith("10")}
    few = armed.model_copy(update={"cohorts": {"made": armed.cohorts["made"].model_copy(update={"recipes": recipes})}})
    card = scorecard(few, "made", rows)
    assert by_share(view_of(card, rows, few)) is None
    figure = by_recipe(view_of(card, rows, few))
    found = {trace.name: dict(zip(trace.y, trace.x, strict=True)) for trace in figure.data}
    assert found["backdoor success"] == pytest.approx({"backdoor_5": 0.95, "cleaned_5": 0.2})
    assert list(found["accuracy"]) == ["backdoor_5", "cleaned_5", "collision"]
    for trace in figure.data:
        assert all(at + above <= 1 for at, above in zip(trace.x, trace.error_x.array, strict=True))


def test_without_poison_there_is_no_figure(card: Scorecard, study: object, whole: Store) -> None:
    assert by_recipe(view_of(card, whole.frame(), study())) is None  # type: ignore[operator]
    assert by_share(view_of(card, whole.frame(), study())) is None  # type: ignore[operator]
