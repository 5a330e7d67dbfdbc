"""A difference is told in the unit of its column."""

from types import SimpleNamespace

import pytest

from assay.report.words import comparison_text, difference_text


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
