"""A certificate names its model, and a recipe without one its reason."""

import pytest

from assay.report.scorecard import Scorecard
from assay.report.tables.certificates import certified_table
from assay.store.folder import Store


def test_the_model_of_a_certificate_and_the_reason_of_its_absence_are_told(
    card_of_arsenal: Scorecard, arsenal: Store
) -> None:
    bounds = certified_table(card_of_arsenal, arsenal.frame(), "interval bounds")
    assert bounds.holds_for == ("this model",)
    assert bounds.missing == {"no bound is known": ("standard",)}
    assert bounds.radii is None
    smoothed = certified_table(card_of_arsenal, arsenal.frame(), "randomised smoothing")
    assert smoothed.holds_for == ("the smoothed model",)
    (missing,) = smoothed.missing.values()
    assert missing == tuple(recipe for recipe in card_of_arsenal.recipes if recipe != "pgd_strong")


def test_the_median_radius_stands_by_recipe_and_noise(card_of_arsenal: Scorecard, arsenal: Store) -> None:
    radii = certified_table(card_of_arsenal, arsenal.frame(), "randomised smoothing").radii
    assert radii is not None
    assert radii.recipes == ("pgd_strong",)
    means = {key: cell.summary.mean for key, cell in radii.cells.items() if cell.summary}
    assert means == pytest.approx({("pgd_strong", "0.25"): 0.5, ("pgd_strong", "0.5"): 1.0})
