"""Groups that are hospitals, or arms of a trial, are never called patients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.data.arrays import Arrays
from assay.data.tables.table import TableSource
from assay.data.text.sources import TextFile
from assay.errors import DataError, IncompatibleRecipeError
from assay.privacy.unit import protected, protected_unit, refuse_unlikely_patients
from assay.recipes import Privacy
from assay.study.plan import forecast_study
from assay.study.reading import build_study
from assay.study.spec import Study

N = 400
RECIPE = {"training": {"epochs": 1, "batch_size": 40}}
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes 400 records with one more column, and says where."""

    def written(name: str, values: Any) -> str:
        draws = np.random.default_rng(0).normal(size=(N, 2))
        lines = [f"a,b,outcome,{name}"]
        lines += [f"{a:.4f},{b:.4f},{n % 2},{own}" for n, ((a, b), own) in enumerate(zip(draws, values, strict=True))]
        path = tmp_path / "own.csv"
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    return written


def study(path: str, unit: str | None = None, **settings: Any) -> Study:
    cohort = {
        "dataset": {"name": "table", "path": path, "label": "outcome", **settings},
        "model": {"name": "mlp", "hidden": [8]},
        "recipes": {"private": {**RECIPE, "privacy": {"epsilon": 8, "delta": 1e-3, "unit": unit}}},
        "evaluations": ["accuracy"],
    }
    return build_study({"name": "s", "cohorts": {"c": cohort}, "split": {"folds": 2}}, "s.yaml")


def few(count: int) -> list[str]:
    return [f"h{n * count // N}" for n in range(N)]


@pytest.mark.parametrize("settings", [{"site": "clinic", "group": "clinic"}, {"group": "clinic"}])
def test_hospitals_stay_whole_and_records_are_protected(write: Write, settings: dict[str, Any]) -> None:
    data = TableSource(path=write("clinic", few(4)), label="outcome", **settings).load()
    assert data.groups is not None and len(set(data.groups.tolist())) == 4
    assert data.group_kind == "site" and data.patients is None and data.origin.groups is None
    privacy = Privacy(epsilon=8, delta=1e-3)
    assert protected_unit(privacy, data.patients) == "record" and protected(privacy, data.patients, N) == N
    assert "sites by clinic: 4" in data.reading
    with pytest.raises(IncompatibleRecipeError) as refused:
        protected_unit(Privacy(epsilon=8, delta=1e-3, unit="patient"), data.patients)
    assert refused.value.setting == "privacy.unit"


def test_a_plan_states_epsilon_for_records_where_groups_are_hospitals(write: Write) -> None:
    told = str(list(forecast_study(study(write("clinic", few(4)), group="clinic"))))
    assert "for one record of" in told and "patient" not in told


def test_a_plan_refuses_few_groups_that_nobody_called_patients(write: Write) -> None:
    path = write("arm", few(4))
    with pytest.raises(IncompatibleRecipeError) as refused:
        list(forecast_study(study(path, group="arm")))
    assert refused.value.setting == "privacy.unit"
    assert "for one patient of" in str(list(forecast_study(study(path, unit="patient", group="arm"))))


@pytest.mark.parametrize("column", ["group", "Groups", "group_id"])
def test_a_column_called_group_with_few_values_is_asked_about(write: Write, column: str) -> None:
    path = write(column, few(2))
    with pytest.raises(DataError) as refused:
        TableSource(path=path, label="outcome").load()
    assert (refused.value.setting, refused.value.given) == ("group", column)
    assert TableSource(path=path, label="outcome", drop=(column,)).load().groups is None
    assert TableSource(path=path, label="outcome", group=column).load().patients is not None


@pytest.mark.parametrize(("column", "count"), [("group", 40), ("group", 10), ("patient_id", 4)])
def test_a_clear_name_or_many_values_are_patients(write: Write, column: str, count: int) -> None:
    data = TableSource(path=write(column, few(count)), label="outcome").load()
    assert data.group_kind == "patient" and data.patients is not None


@pytest.mark.parametrize(("arms", "records", "asked"), [(2, 24, True), (3, 36, True), (4, 36, False), (2, 16, False)])
def test_two_or_three_values_of_a_column_called_group_are_arms(
    tmp_path: Path, arms: int, records: int, asked: bool
) -> None:
    rows = [f"{0.37 * n % 1:.3f},{n // 2 % 2},{'ABCD'[n % arms]}" for n in range(records)]
    (tmp_path / "own.csv").write_text("\n".join(["a,outcome,group", *rows]))
    if not asked:
        assert TableSource(path=str(tmp_path / "own.csv"), label="outcome").load().groups is not None
        return
    with pytest.raises(DataError) as refused:
        TableSource(path=str(tmp_path / "own.csv"), label="outcome").load()
    assert (refused.value.setting, refused.value.given) == ("group", "group")


def test_few_patients_under_a_clear_name_are_warned_of_unless_they_were_named(write: Write, tmp_path: Path) -> None:
    told = f"patient_id tells only 4 patients of {N} records apart"
    path = write("patient_id", few(4))
    assert any(told in line for line in TableSource(path=path, label="outcome").load().warnings)
    assert not any(told in line for line in TableSource(path=path, label="outcome", group="patient_id").load().warnings)
    x = np.random.default_rng(0).normal(size=(N, 3))
    np.savez(tmp_path / "own.npz", x=x, y=np.arange(N) % 2, patient_id=np.arange(N) % 4)
    assert any(told in line for line in Arrays(path=str(tmp_path / "own.npz"), low=-9, high=9).load().warnings)
    rows = [f"word{n % 5} and more,{n % 2},p{n // 2 % 4}" for n in range(N)]
    (tmp_path / "notes.csv").write_text("\n".join(["text,label,patient_id", *rows]))
    assert any(told in line for line in TextFile(path=str(tmp_path / "notes.csv")).load().warnings)


def test_an_array_called_groups_with_few_values_is_asked_about(tmp_path: Path) -> None:
    x, path = np.random.default_rng(0).normal(size=(N, 3)), tmp_path / "own.npz"
    np.savez(path, x=x, y=np.arange(N) % 2, groups=np.arange(N) % 3)
    with pytest.raises(DataError) as refused:
        Arrays(path=str(path), low=-9, high=9).load()
    assert refused.value.setting == "group"
    assert Arrays(path=str(path), low=-9, high=9, group="groups").load().patients is not None


@pytest.mark.parametrize(
    ("groups", "unit", "refused"),
    [(4, None, True), (4, "patient", False), (4, "record", False), (10, None, False), (0, None, False)],
)
def test_few_groups_of_many_records_need_a_stated_unit(groups: int, unit: Any, refused: bool) -> None:
    privacy, held = Privacy(epsilon=8, delta=1e-3, unit=unit), np.arange(N) % groups if groups else None
    if not refused:
        refuse_unlikely_patients(privacy, held)
        return
    with pytest.raises(IncompatibleRecipeError) as error:
        refuse_unlikely_patients(privacy, held)
    assert error.value.setting == "privacy.unit"
