"""A study reserves before it trains, notes how every trial ended, and never counts a killed one twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import DataError, LedgerError
from assay.evaluations.base import OwnTraining
from assay.executors import LocalExecutor
from assay.ledger import Ledger
from assay.ledger.experiments import UNFINISHED, Processing
from assay.privacy.composition import UNBOUNDED, pld_epsilon_of
from assay.release.charge import charge_of, charge_of_own, forecast_charge
from assay.release.keeper import Keeper, keeper_of
from assay.release.ledgers import collection_of
from assay.store.folder import Store
from assay.study.plan import forecast_study, load_datasets, plan
from assay.study.run import RunSummary, run_study
from assay.study.spec import Study
from assay.training.checkpoints import from_bytes

PRIVATE = {"privacy": {"epsilon": 2.0, "noise": "entropy", "delta": 1e-3}, "training": {"batch_size": 20}}
RECIPES: dict[str, Any] = {
    "standard": {},
    "seeded": {**PRIVATE, "privacy": {"epsilon": 2.0, "delta": 1e-3}},
    "private": PRIVATE,
}

Run = Callable[..., RunSummary]


@pytest.fixture
def run(tmp_path: Path, watcher: Callable[[], Any]) -> Run:
    def go(study: Study, keeper: Keeper | None, **settings: Any) -> RunSummary:
        store = Store(str(tmp_path / "out"))
        return run_study(
            study, store, LocalExecutor(), watcher=watcher(), publish=lambda data: None, keeper=keeper, **settings
        )

    return go


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    why = Processing(purpose="to learn", until="2031-12-31")
    return Keeper(tmp_path / "ledger", results=str(tmp_path / "out"), processing=why)


def test_every_trial_is_noted_and_only_what_may_leave_is_reserved(
    run: Run, keeper: Keeper, tiny: Callable[..., Study]
) -> None:
    study = tiny(RECIPES)
    assert run(study, keeper).failures == {}
    (dataset,) = load_datasets(study).values()
    ledger = keeper.ledger(dataset)
    noted = ledger.experiments()
    assert (
        sorted((one.noise, one.error) for one in noted) == [("", "")] * 2 + [("entropy", "")] * 2 + [("seeded", "")] * 2
    )
    assert {one.processing for one in noted} == {Processing(purpose="to learn", until="2031-12-31")}
    charges = ledger.account().charges
    assert [held.state for held in charges] == ["trained"] * 2
    assert all("private" in held.label for held in charges)
    # Of two folds, each record was trained on in one and tested in the other, or held out for validation.
    roles = [trace.role for trace in ledger.traces([0]) if trace.experiment.noise == ""]
    assert len(roles) == 2 and "tested on" in roles


@pytest.mark.parametrize(
    "recipe",
    [
        PRIVATE,
        {**PRIVATE, "objective": {"name": "distillation"}},
        {**PRIVATE, "data": ["jitter"], "privacy": {**PRIVATE["privacy"], "augmentations": 2}},
        {**PRIVATE, "federation": {"clients": 3, "rounds": 2, "local_epochs": 2}},
        {**PRIVATE, "federation": {"clients": 2, "rounds": 1, "partition": "dirichlet", "smallest_client": 8}},
    ],
    ids=["central", "distilled", "augmented", "federated", "unlike clients"],
)
def test_what_is_reserved_is_what_training_spends(
    run: Run, tiny: Callable[..., Study], recipe: dict[str, Any], tmp_path: Path
) -> None:
    study = tiny({"private": recipe})
    if "data" in recipe:
        # What can be augmented is no table: the same records as signals of one channel.
        path = tmp_path / "patients.npz"
        given = dict(np.load(path))
        np.savez(path, **{**given, "x": given["x"][:, None]})
    assert run(study, None).failures == {}
    datasets = load_datasets(study)
    store = Store(str(tmp_path / "out"))
    for trial in plan(study, datasets):
        dataset = datasets[trial.cohort]
        rows = Keeper(tmp_path, results="")._split(trial, dataset).train
        _, log = from_bytes(store.checkpoint(trial.training) or b"", trial.id)
        assert forecast_charge(trial, dataset, rows) == charge_of(log)


def test_a_killed_training_is_reserved_once_when_it_is_resumed(
    run: Run, keeper: Keeper, tiny: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny({"private": PRIVATE})
    (dataset,) = load_datasets(study).values()
    ledger = keeper.ledger(dataset)
    ledger.set_budget(2.5, delta=1e-3)
    ledger.set_budget(4.0, reason="room for two folds")

    def killed(*_: Any, **__: Any) -> Any:
        # Whatever touches the data finds its charge in the ledger, and itself on record.
        assert sorted(held.state for held in ledger.account().charges) == ["reserved", "trained"]
        assert {one.error for one in ledger.experiments()} == {UNFINISHED}
        assert len(keeper.trainings(dataset)) == 1, "the other has not begun, and may never"
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("assay.study.runner.run_trial", killed)
        run(study, keeper)
    held = ledger.account().held
    assert run(study, keeper).ran == 2
    assert ledger.account().held == held
    assert {one.error for one in ledger.experiments()} == {""}


def test_a_trial_that_the_budget_does_not_hold_never_sees_the_data(
    run: Run, keeper: Keeper, tiny: Callable[..., Study], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study = tiny({"standard": {}, "private": PRIVATE})
    (dataset,) = load_datasets(study).values()
    ledger = keeper.ledger(dataset)
    ledger.set_budget(2.1, delta=1e-3)
    summary = run(study, keeper)
    assert list(summary.failures) == ["made · private · fold 2"]
    (why,) = summary.failures.values()
    assert why.startswith("BudgetError: ") and "1 reserved" in why
    assert len(ledger.experiments()) == 3, "a trial that did not run is no experiment"
    # Nobody needs the first any more, and yet it counts: its result may steer what follows.
    assert ledger.drop([held.training for held in ledger.account().charges]) == []
    assert list(run(study, keeper).failures) == ["made · private · fold 2"]
    ledger.set_budget(4.0, reason="room for two folds")
    assert run(study, keeper).failures == {}


def test_what_failed_is_noted_and_counts_beside_what_is_trained_in_its_place(
    run: Run, keeper: Keeper, tiny: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny({"private": PRIVATE})
    (dataset,) = load_datasets(study).values()
    with monkeypatch.context() as patched:
        patched.setattr("assay.study.measure.train_trial", lambda *_: 1 / 0)
        assert len(run(study, keeper).failures) == 2
    ledger = keeper.ledger(dataset)
    assert {one.error for one in ledger.experiments()} == {"ZeroDivisionError: division by zero"}
    assert [held.state for held in ledger.account().charges] == ["trained"] * 2
    assert run(study, keeper).failures == {}
    assert [held.state for held in ledger.account().charges] == ["trained"] * 4


def test_a_sample_of_the_records_has_the_ledger_of_the_whole(keeper: Keeper, tiny: Callable[..., Study]) -> None:
    whole, part, fixed = (
        load_datasets(tiny(cohort=cohort))["made"]
        for cohort in ({}, {"records": 30}, {"records": 30, "immutable": ["feature 0"]})
    )
    assert len({data.digest for data in (whole, part, fixed)}) == 3
    assert len({keeper.ledger(data).path for data in (whole, part, fixed)}) == 1
    np.testing.assert_array_equal(whole.x[part.origin.places], part.x)
    np.testing.assert_array_equal(whole.x[fixed.origin.places], fixed.x)
    assert collection_of(fixed).records == 60


def test_a_data_set_that_cannot_be_split_fails_as_before(
    run: Run, keeper: Keeper, tiny: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsplit(*_: Any, **__: Any) -> Any:
        raise DataError("too few of a class")

    for module in ("assay.release.keeper", "assay.study.training"):
        monkeypatch.setattr(f"{module}.split", unsplit)
    summary = run(tiny({"standard": {}, "private": PRIVATE}), keeper)
    assert {why.splitlines()[0] for why in summary.failures.values()} == {"DataError: too few of a class"}


def test_a_study_without_a_ledger_says_so_and_may_not_train_what_could_be_released(
    tiny: Callable[..., Study], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ASSAY_LEDGER", raising=False)
    said: list[str] = []
    settings: dict[str, Any] = {"processing": Processing(), "opening": None, "warn": said.append}
    assert keeper_of(tiny(), results="s3://bucket/x", given=None, **settings) is None
    assert "ASSAY_LEDGER" in said[0]
    with pytest.raises(LedgerError, match="a ledger needs a folder"):
        keeper_of(tiny({"private": PRIVATE}), results="s3://bucket/x", given=None, **settings)
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be made"):
        keeper_of(tiny(), results=str(tmp_path / "out"), given=str(tmp_path / "file"), **settings)


def test_who_trains_what_may_be_released_is_told_where_its_account_is_unless_they_said_so(
    tiny: Callable[..., Study], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ASSAY_LEDGER", raising=False)
    said: list[str] = []
    settings: dict[str, Any] = {"processing": Processing(), "opening": Ledger.create, "warn": said.append}
    results = str(tmp_path / "results" / "out")
    assert keeper_of(tiny(), results=results, given=None, **settings) is not None
    assert keeper_of(tiny({"private": PRIVATE}), results=results, given=str(tmp_path), **settings) is not None
    assert said == []
    assert keeper_of(tiny({"private": PRIVATE}), results=results, given=None, **settings) is not None
    (told,) = said
    assert f"lies in {tmp_path / 'results' / 'ledger'}" in told and "ASSAY_LEDGER" in told


def test_what_an_evaluation_trains_itself_has_an_entry_of_its_own(
    run: Run, keeper: Keeper, tiny: Callable[..., Study]
) -> None:
    pytest.importorskip("interpret.glassbox")
    glass = {"name": "glass_box", "bags": 1, "pairs": 0, "draws": 50}
    cohort = {"evaluations": [{"name": "accuracy", "draws": 50}, "privacy", glass]}
    study = tiny({name: RECIPES[name] for name in ("standard", "seeded", "private")}, cohort=cohort)
    forecast = {one.recipe: one.spends for one in forecast_study(study)}
    assert "glass_box (DP-EBM) ε ≤ 2 more" in forecast["seeded"]
    assert "glass_box" not in forecast["private"] + forecast["standard"]
    assert run(study, keeper).failures == {}
    (dataset,) = load_datasets(study).values()
    ledger = keeper.ledger(dataset)
    noted = [one for one in ledger.experiments() if "glass_box" in one.label]
    # Beside a recipe with entropy no machine is trained: nothing has reserved its ε.
    assert sorted((one.noise, one.error) for one in noted) == [("", "")] * 2 + [("seeded", "")] * 2
    seen = {trace.role for trace in ledger.traces(np.arange(len(dataset.y))) if trace.experiment in noted}
    assert seen == {"trained on"}
    for row in ledger.trainings(str(Path(keeper._results))):
        if "DP-EBM" in row.label:
            assert pld_epsilon_of([row.charge], delta=1e-3) == pytest.approx(2.0, rel=1e-3)
    before = ledger.experiments()
    run(study, keeper)
    assert ledger.experiments() == before


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 1e-5), (1.0, 1e-5), (8.0, 1e-3)])
def test_the_noise_of_one_release_spends_its_epsilon(epsilon: float, delta: float) -> None:
    charge = charge_of_own(OwnTraining(label="machine", epsilon=epsilon, delta=delta, accountant="gdp"))
    assert pld_epsilon_of([charge], delta=delta) == pytest.approx(epsilon, rel=2e-3)
    assert charge_of_own(OwnTraining(label="machine")) == UNBOUNDED


@pytest.mark.parametrize("accountant", [None, "rdp"])
def test_an_epsilon_of_another_accountant_is_not_charged_as_a_gaussian_mechanism(accountant: Any) -> None:
    with pytest.raises(ValueError, match="only 'gdp'"):
        OwnTraining(label="machine", epsilon=1.0, delta=1e-5, accountant=accountant)


@pytest.mark.parametrize("place", ["the evaluation", "another evaluation", "the training"])
def test_a_training_of_an_evaluation_that_fails_ends_with_its_error(
    run: Run, keeper: Keeper, tiny: Callable[..., Study], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("in the middle")

    patched = {
        "the evaluation": "assay.evaluations.glass_box.GlassBoxRival.measure",
        "another evaluation": "assay.evaluations.accuracy.Accuracy.measure",
        "the training": "assay.study.measure.train_trial",
    }[place]
    glass = {"name": "glass_box", "bags": 1, "pairs": 0, "draws": 50}
    study = tiny({"standard": {}}, cohort={"evaluations": [{"name": "accuracy", "draws": 50}, glass]})
    with monkeypatch.context() as within:
        within.setattr(patched, broken)
        assert len(run(study, keeper).failures) == 2
    (dataset,) = load_datasets(study).values()
    noted = [one for one in keeper.ledger(dataset).experiments() if "glass_box" in one.label]
    assert [one.error for one in noted] == ["ZeroDivisionError: in the middle"] * 2
