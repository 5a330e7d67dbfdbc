"""What is handed over is what was charged: the same trials, the same weights, and no figure that nobody paid for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from assay.data.base import Dataset
from assay.errors import CheckpointError, LedgerError, SpecError
from assay.executors import LocalExecutor
from assay.ledger import Ledger
from assay.ledger.experiments import Processing
from assay.release.candidates import candidates, charge, for_others, uncovered
from assay.release.export import export_model, report_of
from assay.release.ledgers import collection_of
from assay.results import TELLS_OF
from assay.store.folder import Store
from assay.study.finished import open_finished
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.run import write_study
from assay.study.spec import Study
from assay.study.trial import Trial
from tests.mistakes import refused

PRIVATE = {"private": {"privacy": {"epsilon": 2, "delta": 1e-3, "noise": "entropy"}}}


@pytest.fixture
def conducted(tiny: Callable[..., Study], tmp_path: Path) -> tuple[Store, list[Trial], Dataset]:
    """Two folds of one private recipe, which were asked of training records too."""
    study = tiny(PRIVATE, {"evaluations": ["accuracy", "privacy", "membership"]})
    store, datasets = Store(str(tmp_path / "results")), load_datasets(study)
    trials = plan(study, datasets)
    write_study(study, store, {trial.id: trial.label for trial in trials}, {})
    for trial in trials:
        store.write(run_trial(trial, LocalExecutor(), datasets["made"]))
    return store, trials, datasets["made"]


def again(store: Store, trial: Trial, dataset: Dataset, **changed: Any) -> None:
    """Train a trial anew, as --force does."""
    store.write(replace(run_trial(trial, LocalExecutor(), dataset), **changed))


def spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a report pass whatever it shows."""
    monkeypatch.setattr("assay.release.export._refuse_uncovered", lambda store: None)


def test_a_report_is_rendered_from_the_trials_that_are_charged(
    conducted: tuple[Store, list[Trial], Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, trials, dataset = conducted
    spare(monkeypatch)
    made = report_of(store, lambda study, datasets, stored: f"{study.name}: {len(stored.frame()['trial'].unique())}")
    assert made.page == "tiny: 2"
    (part,) = made.parts
    assert {one.trial for one in part.included} == {trial.id for trial in trials}
    assert {one.trial: one.request.artefact for one in part.included} == store.artefacts()
    assert part.dataset.digest == dataset.digest


def test_a_report_whose_trials_change_while_it_is_rendered_is_refused(
    conducted: tuple[Store, list[Trial], Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, trials, dataset = conducted
    spare(monkeypatch)

    def trained_again(*_: object) -> str:
        again(store, trials[1], dataset)
        return "a page"

    def failed(*_: object) -> str:
        store.write(trials[0].record(error="broken"))
        return "a page"

    for meanwhile in (trained_again, failed):
        with pytest.raises(LedgerError, match="has changed while the report was made"):
            report_of(store, meanwhile)
    with pytest.raises(LedgerError, match="1 trials failed"):
        report_of(store, lambda *_: "a page")


def test_where_nothing_was_stored_there_is_no_report(tmp_path: Path) -> None:
    with refused(SpecError, "results", str(tmp_path / "typo")):
        report_of(Store(str(tmp_path / "typo")), lambda *_: "a page")
    assert not (tmp_path / "typo").exists()


def test_weights_that_were_not_charged_are_not_exported(
    conducted: tuple[Store, list[Trial], Dataset], tmp_path: Path
) -> None:
    store, trials, dataset = conducted
    chosen, _ = candidates(store)
    ledger = Ledger.create(tmp_path / "ledger", collection_of(dataset))
    charge(ledger, [chosen], how="released", processing=Processing(), budget=(2, 1e-3, ""))
    again(store, next(trial for trial in trials if trial.id == chosen.trial), dataset)
    with pytest.raises(CheckpointError, match=f"not {chosen.request.artefact} as when they were chosen"):
        export_model(store, chosen, tmp_path / "given", dataset, ledger.account())
    assert not (tmp_path / "given").exists()


def test_weights_that_were_not_measured_are_neither_opened_nor_released(
    conducted: tuple[Store, list[Trial], Dataset],
) -> None:
    store, trials, _ = conducted
    store.write_checkpoint(trials[0].training, store.checkpoint(trials[1].training) or b"")
    said = "not those that were measured"
    assert [any(said in why for why in one.objections) for one in candidates(store)].count(True) == 1
    with pytest.raises(CheckpointError, match=said):
        open_finished(store, recipe="private")
    assert open_finished(store, recipe="private", fold=2).artefact == store.artefacts()[trials[1].id]


def test_others_see_a_models_own_figures_less_those_of_training_records(
    conducted: tuple[Store, list[Trial], Dataset],
) -> None:
    store, trials, _ = conducted
    finished = open_finished(store, recipe="private")
    shown = for_others(store, finished).frame
    assert set(finished.frame["trial"]) == {trial.id for trial in trials} and set(shown["trial"]) == {trials[0].id}
    assert set(finished.own["name"]) - set(shown["name"]) == {
        name for name in finished.own["name"] if name.startswith(("membership", "check.membership"))
    }
    assert {"accuracy", "epsilon"} <= set(shown["name"])


def test_what_an_earlier_version_did_not_note_is_not_taken_for_harmless() -> None:
    rows = pd.DataFrame({"conditions": [{}, {"attack": "loss threshold"}]})
    assert not uncovered(rows, {"evaluations": [{"name": "accuracy"}]}).any()
    with pytest.raises(LedgerError, match="earlier version of Assay measured membership"):
        uncovered(rows, {"evaluations": [{"name": "accuracy"}, {"name": "membership"}]})
    noted = pd.DataFrame({"conditions": [{}, {TELLS_OF: "training records"}]})
    assert uncovered(noted, {"evaluations": [{"name": "membership"}]}).tolist() == [False, True]


def test_what_was_counted_on_records_stays_out_of_what_leaves(
    conducted: tuple[Store, list[Trial], Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, trials, dataset = conducted
    counted, stated = "541 of 569 values are distinct", "scaled by published figures"
    warned = replace(dataset, warnings=(counted, stated), stated=(stated,), reading=("569 records",))
    (row,) = [one for one in run_trial(trials[0], LocalExecutor(), warned).measurements if one.name == "accuracy"]
    assert stated in row.warnings and counted not in row.warnings
    opened = for_others(store, replace(open_finished(store, recipe="private"), dataset=warned)).dataset
    assert (opened.warnings, opened.reading) == ((stated,), ())
    spare(monkeypatch)
    assert dataset.reading
    shown: dict[str, Dataset] = {}
    report_of(store, lambda study, datasets, stored: shown.update(datasets) or "a page")
    assert shown["made"].reading == ()
