"""Results and ledgers of the version before models had names of their own go on being read, and no charge falls.

``earlier/`` was written by that version: two folds of a recipe without privacy and of one with ``noise: entropy``,
under a budget of ε = 4. Models lie under the ids of their trials.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.executors import LocalExecutor
from assay.ledger import Ledger
from assay.ledger.experiments import Processing
from assay.release.candidates import candidates, charge
from assay.release.keeper import Keeper
from assay.store.folder import Store
from assay.study.finished import open_finished
from assay.study.plan import load_datasets, plan
from assay.study.run import run_study
from assay.study.spec import Study


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    shutil.copytree(Path(__file__).parent / "earlier", tmp_path / "earlier")
    # The study names its data by a path from where it was started.
    monkeypatch.chdir(tmp_path / "earlier")
    return Store(str(tmp_path / "earlier" / "out"))


def ledger_of(store: Store) -> Ledger:
    (path,) = (Path(store.location).parent / "ledger").glob("*.sqlite")
    return Ledger(path)


def study_of(store: Store) -> Study:
    return Study.model_validate(yaml.safe_load(store.read_text("study.yaml"))["study"])


def test_its_results_are_read_and_its_models_opened(store: Store) -> None:
    assert len(store.finished()) == 4 and len(store.frame()) > 40
    for recipe, private in (("standard", False), ("private", True)):
        finished = open_finished(store, recipe=recipe, fold=2)
        assert finished.private == private and finished.artefact
        assert not finished.own.empty and finished.objections == ()


def test_its_models_are_released_on_the_charge_that_they_hold(store: Store) -> None:
    ledger = ledger_of(store)
    before = ledger.account()
    (one,) = (c for c in candidates(store) if not c.objections and c.request.label.endswith("private · fold 1"))
    charge(ledger, [one], how="released", processing=Processing())
    after = ledger.account()
    assert (after.held, len(after.charges)) == (before.held, len(before.charges)) and after.released > 0
    assert [held.state for held in after.charges].count("released") == 1


def test_its_charges_stay_whatever_is_trained_now(store: Store, watcher: Callable[[], Any]) -> None:
    ledger, study = ledger_of(store), study_of(store)
    before = ledger.account()
    keeper = Keeper(ledger.path.parent, results=store.location)
    summary = run_study(study, store, LocalExecutor(), watcher=watcher(), publish=lambda datasets: None, keeper=keeper)
    # Its models were made by other code, so they are others; the budget holds one more, not two.
    assert set(summary.failures) == {"made · private · fold 2"}
    after = ledger.account()
    assert after.held > before.held
    assert {held.training for held in before.charges} <= {held.training for held in after.charges}
    assert len(store.superseded()) == 4 and len(plan(study, load_datasets(study))) == 4
