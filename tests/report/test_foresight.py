"""The least figure that a dry run names is the least that the test shows."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assay.design import Design, Runs
from assay.errors import DataError
from assay.paired import differing_share
from assay.report.decisions import ONE_SIDED_LEVEL
from assay.report.foresight import Showable, showable
from assay.report.scorecard import share_tested
from assay.study.spec import Study

MakeStudy = Callable[..., Study]
ABSENT = {"made": DataError("it is not there")}


def foreseen(study: Study) -> dict[str, Showable]:
    return {one.requirement.text: one for one in showable(study, {"made": study.cohorts["made"].load()})}


def required(study: MakeStudy, *requirements: str, **settings: object) -> Study:
    about = {"requirements": list(requirements), "candidates": ["standard", "private", "fed"]}
    return study(cohort=about, **settings)


def test_the_least_figure_is_just_shown_where_folds_differ_by_chance(study: MakeStudy) -> None:
    asked = required(study, "accuracy >= 0.7")
    (found,) = foreseen(asked).values()
    design = Design(folds=3, repeats=1, test_share=share_tested(asked))
    assert found.records == 20
    for level, figure in ((ONE_SIDED_LEVEL, found.figure), (ONE_SIDED_LEVEL / 3, found.figure_holm)):
        spread = math.sqrt(figure * (1 - figure) / 20)
        values = figure + spread * np.array([-1.0, 0.0, 1.0])
        ends = np.full(3, np.nan)
        assert design.against_limit(Runs(values=values, low=ends, high=ends), 0.7).p_above == pytest.approx(level)
    assert found.figure_holm > found.figure > 0.7


def test_more_folds_show_smaller_excesses(study: MakeStudy) -> None:
    few, many = (foreseen(required(study, "accuracy >= 0.7", split={"folds": folds})) for folds in (3, 10))
    assert many["accuracy ≥ 70 %"].deviations < few["accuracy ≥ 70 %"].deviations


def test_a_figure_of_one_class_rests_on_the_records_of_that_class(study: MakeStudy) -> None:
    found = foreseen(required(study, "accuracy >= 0.7", "sensitivity >= 0.7"))
    assert (found["accuracy ≥ 70 %"].records, found["sensitivity ≥ 70 %"].records) == (20, 10)
    assert found["sensitivity ≥ 70 %"].figure > found["accuracy ≥ 70 %"].figure


def test_where_chance_is_not_known_beforehand_standard_deviations_are_told(study: MakeStudy) -> None:
    found = foreseen(required(study, "loses at most 3 points against standard", "AUROC >= 0.8", "epsilon <= 1"))
    margin, ranking, budget = found.values()
    assert math.isnan(margin.figure) and "standard deviations over runs beyond the limit" in margin.text
    assert math.isnan(ranking.figure)
    assert budget.text == "compared, not tested"


def test_on_an_official_split_a_loss_is_ruled_out_by_pairs(study: MakeStudy, tmp_path: Path) -> None:
    generator, n = np.random.default_rng(0), 4000
    part = np.where(np.arange(n) % 2, "train", "test")
    x = generator.uniform(0, 1, size=(n, 2)).astype(np.float32)
    np.savez(tmp_path / "official.npz", x=x, y=np.arange(n) // 2 % 2, split=part)
    source = {"name": "arrays", "path": str(tmp_path / "official.npz"), "low": 0, "high": 1, "epsilons": [0.1]}
    asked = [
        *("loses at most 3 points against standard", "loses at most 0.1 points against standard"),
        *("gains at least 3 points against standard", "AUROC loses at most 0.1 against standard"),
    ]
    about = {"requirements": asked, "candidates": ["private", "fed"], "dataset": source}
    found = foreseen(study(cohort=about, split={"folds": 1, "repeats": 3}))
    wide, narrow, gain, ranking = found.values()
    assert (gain.differing, ranking.differing) == (None, None)
    share = differing_share(0.03, 2000, ONE_SIDED_LEVEL)
    assert (wide.differing, wide.records) == (pytest.approx(share), 2000)
    assert wide.differing_holm is not None and wide.differing_holm < share
    assert f"differ on at most {100 * share:.1f} % of 2000 records; Holm: at most" in wide.text
    assert "differ on none, and not even then, of 2000 records" in narrow.text


def test_without_the_data_nothing_is_guessed(study: MakeStudy) -> None:
    (found,) = showable(required(study, "accuracy >= 0.7"), ABSENT)
    assert math.isnan(found.figure) and found.deviations > 0


def test_a_study_without_requirements_foresees_nothing(study: MakeStudy) -> None:
    assert list(showable(study(), ABSENT)) == []
