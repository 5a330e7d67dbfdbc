"""The Pareto front holds what nothing beats."""

import numpy as np
import pandas as pd

from assay.report.sweep import ACCURACY, EPSILON, ROBUST, goals, pareto


def test_the_front_holds_what_nothing_beats() -> None:
    table = pd.DataFrame(
        {
            "accuracy": [0.9, 0.8, 0.8, 0.7, 0.9, np.nan],
            "robust": [0.5, 0.7, 0.6, 0.9, 0.5, 1.0],
            "epsilon": np.nan,
        }
    )
    assert goals(table) == [ACCURACY, ROBUST]
    # Two that are equal stay both; what lacks a goal never enters.
    assert pareto(table, goals(table)).tolist() == [True, True, False, True, True, False]


def test_a_smaller_epsilon_is_better() -> None:
    table = pd.DataFrame({"accuracy": [0.9, 0.9, 0.8], "robust": [0.5, 0.5, 0.5], "epsilon": [8.0, 1.0, 0.1]})
    assert goals(table) == [ACCURACY, ROBUST, EPSILON]
    assert pareto(table, goals(table)).tolist() == [False, True, True]
