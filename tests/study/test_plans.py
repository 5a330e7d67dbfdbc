"""Every study of ours plans, with each of its presets, where its data are here."""

from pathlib import Path

import pytest
import yaml

from assay.errors import DataError
from assay.study.plan import forecast_study, load_datasets, plan
from assay.study.reading import read_study

STUDIES = Path(__file__).parents[2] / "jobs" / "studies"
FEDERATED = sorted(STUDIES.glob("federated*.yaml"))


@pytest.mark.parametrize("path", FEDERATED, ids=lambda path: path.stem)
def test_every_federated_study_plans_with_each_preset(path: Path) -> None:
    for preset in ("", *yaml.safe_load(path.read_text())["presets"]):
        study = read_study(path.stem, (f"preset={preset}",) if preset else (), folder=STUDIES)
        forecasts = list(forecast_study(study))
        assert {(each.cohort, each.recipe) for each in forecasts} == {
            (name, recipe) for name, cohort in study.cohorts.items() for recipe in cohort.recipes
        }
        assert not [each for each in forecasts if "cannot run" in each.spends]
        try:
            datasets = load_datasets(study)
        except DataError:
            pytest.skip("the data are not here")
        assert len(plan(study, datasets)) == sum(each.trials for each in forecasts)
