"""What is proven stands beside what attacks leave, for the same model."""

import pandas as pd
import pytest

from assay.report.figures.certificates import interval_bounds, smoothing
from assay.report.figures.style import colours
from assay.report.scorecard import Scorecard
from assay.store.folder import Store
from tests.report.views import view_of


@pytest.fixture
def rows(arsenal: Store) -> pd.DataFrame:
    return arsenal.frame()


def lines(figure: object, recipe: str) -> dict[str, tuple[list[float], list[float], str]]:
    """x, y and plot of each line of a recipe, by what it shows."""
    return {
        trace.name.removeprefix(f"{recipe}, "): (list(trace.x), list(trace.y), trace.xaxis)
        for trace in figure.data  # type: ignore[attr-defined]
        if trace.name and trace.name.startswith(f"{recipe}, ")
    }


def test_bounds_and_attacks_share_the_plot_of_a_recipe(card_of_arsenal: Scorecard, rows: pd.DataFrame) -> None:
    figure = interval_bounds(view_of(card_of_arsenal, rows))
    own = lines(figure, "pgd_strong")
    x, y, plot = own["certified by interval bounds"]
    # At ε = 0 nothing may change: what is right is certain.
    assert (x, y) == ([0.0, 0.1, 0.3, 0.5], pytest.approx([0.86, 0.66, 0.26, 0.0]))
    x, y, other = own["worst case over all attacks"]
    assert (x, y) == ([0.0, 0.1, 0.3, 0.5], pytest.approx([0.86, 0.71, 0.41, 0.11]))
    assert plot == other


def test_every_certified_recipe_has_a_plot_and_no_other(card_of_arsenal: Scorecard, rows: pd.DataFrame) -> None:
    figure = interval_bounds(view_of(card_of_arsenal, rows))
    titles = [title.text for title in figure.layout.annotations]
    assert titles == [recipe for recipe in card_of_arsenal.recipes if recipe != "standard"]
    named = {trace.name for trace in figure.data if trace.showlegend is not False}
    assert named == {"certified by interval bounds", "worst case over all attacks"}


def test_a_smoothed_model_has_a_plot_for_each_noise_level(card_of_arsenal: Scorecard, rows: pd.DataFrame) -> None:
    figure = smoothing(view_of(card_of_arsenal, rows))
    assert [title.text for title in figure.layout.annotations] == ["pgd_strong, σ = 0.25", "pgd_strong, σ = 0.5"]
    drawn = [trace for trace in figure.data if trace.name and trace.name.startswith("pgd_strong")]
    certified, attacked, abstains = drawn[3:]
    assert (list(certified.x), list(certified.y)) == ([0.0, 0.5, 1.0], pytest.approx([0.81, 0.66, 0.51]))
    assert (list(attacked.x), list(attacked.y)) == ([0.0, 0.5, 1.0], pytest.approx([0.81, 0.76, 0.61]))
    assert (list(abstains.x), list(abstains.y)) == ([0.0, 0.5, 1.0], pytest.approx([0.05, 0.1, 0.15]))
    assert {trace.line.color for trace in drawn} == {colours(card_of_arsenal.recipes)["pgd_strong"]}
    assert [trace.line.dash for trace in drawn[:3]] == ["solid", "dash", "dot"]


@pytest.mark.parametrize("draw", [interval_bounds, smoothing])
def test_without_certificates_there_is_no_figure(draw: object, card: Scorecard, whole: Store) -> None:
    assert draw(view_of(card, whole.frame())) is None  # type: ignore[operator]
