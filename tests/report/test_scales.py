"""A radius is told in each feature's own unit."""

import pandas as pd
import pytest

from assay.report.scales import own_units


def frame(features: int) -> pd.DataFrame:
    """Scales of two trials, of which the first counts."""
    return pd.DataFrame(
        [
            {
                "trial": trial,
                "name": "feature_scale",
                "status": "measured",
                "value": scale * (number + 1),
                "unit": "years" if number == 0 else "own unit of the feature",
                "conditions": {"feature": f"f{number}"},
            }
            for trial, scale in (("a", 30.0), ("b", 7.0))
            for number in range(features)
        ]
    )


def test_the_radius_is_told_of_each_feature_by_the_first_trial() -> None:
    assert own_units(frame(2), 0.1) == "ε = 0.1 is f0 ± 3 years, f1 ± 6"


def test_of_many_features_some_are_told_and_the_rest_counted() -> None:
    assert own_units(frame(40), 0.1).endswith("f29 ± 90 and so on for 10 more")


@pytest.mark.parametrize(("features", "epsilon"), [(0, 0.1), (2, float("nan"))])
def test_nothing_is_told_where_nothing_is_known(features: int, epsilon: float) -> None:
    found = frame(2) if features else frame(2).assign(name="accuracy")
    assert own_units(found, epsilon) == ""
