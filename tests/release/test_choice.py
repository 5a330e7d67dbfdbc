"""Whoever chooses one trial by looking at all has used them all, whatever became of them since."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assay.errors import LedgerError
from assay.executors import LocalExecutor
from assay.ledger.account import ReleaseRequest
from assay.ledger.experiments import NoiseSource, Processing
from assay.ledger.trainings import TrainingRow
from assay.privacy.accounting import Mechanism, rdp_epsilon
from assay.release.candidates import Candidate, candidates
from assay.release.choice import choice_of_best, looked_at
from assay.release.erasure import erase_trials
from assay.release.keeper import Keeper
from assay.results import TrialRecord
from assay.store.folder import Store
from assay.study.plan import load_datasets
from assay.study.reading import build_study
from assay.study.run import run_study
from assay.study.spec import Study

MADE: Any = SimpleNamespace(name="made", origin=SimpleNamespace(digest="made"))
PRIVATE = {"privacy": {"epsilon": 2.0, "noise": "entropy", "delta": 1e-3}, "training": {"batch_size": 20}}


def mechanism(steps: int) -> Mechanism:
    return Mechanism(noise_multiplier=3.0, sample_rate=0.3, steps=steps, delta=1e-5)


def training(trial: str, steps: int, *, noise: NoiseSource = "seeded", objection: str = "") -> TrainingRow:
    charge = {"central": (mechanism(steps),)} if steps else {}
    return TrainingRow(training=trial, label=trial, noise=noise, artefact=trial, charge=charge, objection=objection)


@pytest.fixture
def store(tmp_path: Path, record: Callable[..., TrialRecord]) -> Store:
    """One private trial has finished, one without privacy, and one has failed."""
    store = Store(str(tmp_path / "results"))
    for trial, privacy, error in (("a", {"epsilon": 1}, ""), ("plain", None, ""), ("b", {"epsilon": 1}, "died")):
        store.write(record(trial, error=error, provenance={"asked": {"recipe": {"privacy": privacy}}}))
    return store


def test_all_trainings_compose_and_not_only_those_that_are_stored(store: Store) -> None:
    choice = choice_of_best(store, MADE, [training("a", 10), training("replaced", 20), training("deleted", 30)])
    assert choice.epsilon == pytest.approx(rdp_epsilon(mechanism(60)))
    assert choice.alone == pytest.approx(rdp_epsilon(mechanism(30)))
    said = f"Choosing the best of 3 private trials costs ε = {choice.epsilon:.2f} at δ = 1e-05, not {choice.alone:.2f}"
    assert said in choice.text
    assert "not the choice by held-out records" in choice.text


@pytest.mark.parametrize(
    ("trainings", "said"),
    [
        ([training("a", 10), training("plain", 1, noise="")], "1 of 2 trials were not private"),
        ([training("a", 10), training("b", 20, objection="unpaid")], "could not be claimed"),
        ([training("a", 10), training("b", 0)], "could not be claimed"),
        ([training("replaced", 10)], "No ledger knows 1 of 2 trials"),
        ([training("a", 10)], ""),
        ([training("a", 1, noise=""), training("plain", 1, noise="")], ""),
    ],
    ids=["not private", "not claimed", "not known", "before the ledger", "no choice", "nothing private"],
)
def test_what_nothing_bounds_is_said(store: Store, trainings: list[TrainingRow], said: str) -> None:
    found = choice_of_best(store, MADE, trainings).text
    assert said in found and bool(said) == bool(found)


def test_where_no_ledger_keeps_account_nobody_can_say(store: Store, record: Callable[..., TrialRecord]) -> None:
    store.write(record("c", provenance={"asked": {"recipe": {"privacy": {"epsilon": 1}}}}))
    assert "No ledger knows 2 of 2 trials" in choice_of_best(store, MADE, ()).text


Conduct = Callable[..., tuple[Store, Keeper]]


@pytest.fixture
def conduct(tmp_path: Path, watcher: Callable[[], Any]) -> Conduct:
    def go(study: Study, *, force: bool = False) -> tuple[Store, Keeper]:
        store = Store(str(tmp_path / "out"))
        keeper = Keeper(tmp_path / "ledger", results=store.location, processing=Processing(purpose="to learn"))
        run_study(
            study, store, LocalExecutor(), watcher=watcher(), publish=lambda data: None, keeper=keeper, force=force
        )
        return store, keeper

    return go


def of_two_cohorts(raw: dict[str, Any], norm: float) -> Study:
    """The same data twice, by one recipe each, which spend alike; one of them clips at a norm."""
    made = raw["cohorts"]["made"]
    recipe = made["recipes"]["private"]
    clipped = {**recipe, "privacy": {**PRIVATE["privacy"], "max_grad_norm": norm}}
    wider = {**made, "model": {"name": "mlp", "hidden": [5]}}
    return build_study(
        {**raw, "cohorts": {"made": {**made, "recipes": {"private": clipped}}, "wider": wider}}, "tiny.yaml"
    )


def chosen_of(store: Store) -> Candidate:
    return next(one for one in candidates(store) if one.cohort == "made")


def test_the_best_is_charged_with_replaced_failed_deleted_and_retrained_trials_and_other_cohorts(
    conduct: Conduct, raw: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def study(norm: float) -> Study:
        return of_two_cohorts(raw({"private": PRIVATE}), norm)

    # Two folds each of two cohorts; then of the first, another norm twice over and one that fails.
    conduct(study(2.0))
    conduct(study(1.0), force=True)
    with monkeypatch.context() as patched:
        patched.setattr("assay.study.measure.train_trial", lambda *_: 1 / 0)
        conduct(study(0.5))
    store, keeper = conduct(study(1.0))
    (dataset, _) = load_datasets(study(1.0)).values()
    ledger, chosen = keeper.ledger(dataset), chosen_of(store)
    deleted = next(one for one in ledger.experiments() if one.training not in store.trainings().values())
    erase_trials(ledger, [deleted], asked="a patient")
    found = looked_at(ledger, store, chosen)
    # 2 clipped at 2; 2 at 1; 2 at 0.5, which failed; 2 + 2 of the other cohort; less the chosen one.
    assert len(keeper.trainings(dataset)) == 2 + 2 + 2 + 4 == len(found) + 1
    assert deleted.training in {one.request.training for one in found}
    assert not any(one.objections for one in found)
    assert chosen.request.artefact not in {one.request.artefact for one in found}
    requests: list[ReleaseRequest] = [one.request for one in found]
    assert len({(one.training, one.artefact) for one in requests}) == len(requests)
    settings: dict[str, Any] = {"how": "released", "processing": Processing(), "looked_at": requests}
    with pytest.raises(LedgerError, match="10 trials asks"):
        ledger.release([chosen.request], **settings, epsilon=2.0, delta=1e-3)
    ledger.release([chosen.request], **settings, epsilon=30.0, delta=1e-3)
    ledger.release([chosen.request], **settings)
    assert sum(bool(held.released) for held in ledger.account().charges) == 10


def test_a_choice_among_trials_that_the_ledger_does_not_know_is_refused(
    conduct: Conduct, tiny: Callable[..., Study], watcher: Callable[[], Any]
) -> None:
    study = tiny({"private": PRIVATE})
    store, keeper = conduct(study)
    (dataset,) = load_datasets(study).values()
    chosen = chosen_of(store)
    moved = Path(store.location).rename(Path(store.location).with_name("moved"))
    with pytest.raises(LedgerError, match=r"does not know all trainings in .*moved"):
        looked_at(keeper.ledger(dataset), Store(str(moved)), chosen)
    moved.rename(store.location)
    assert len(looked_at(keeper.ledger(dataset), store, chosen)) == 1


def unknown(conduct: Conduct, watcher: Callable[[], Any], unaccounted: Study, study: Study) -> None:
    """Train one study while nobody keeps account and then another; what was chosen of it is refused."""
    store = Store(conduct(study)[0].location)
    run_study(unaccounted, store, LocalExecutor(), watcher=watcher(), publish=lambda data: None)
    _, keeper = conduct(study)
    dataset = load_datasets(study)["made"]
    with pytest.raises(LedgerError, match="does not know all trainings"):
        looked_at(keeper.ledger(dataset), store, chosen_of(store))
    assert "No ledger knows" in choice_of_best(store, dataset, keeper.trainings(dataset)).text


def test_trials_of_an_earlier_plan_that_nobody_kept_account_of_are_not_forgotten(
    conduct: Conduct, tiny: Callable[..., Study], watcher: Callable[[], Any]
) -> None:
    other = {**PRIVATE, "training": {"batch_size": 15}}
    unknown(conduct, watcher, tiny({"private": PRIVATE, "other": other}), tiny({"private": PRIVATE}))


def test_trials_on_a_sample_of_the_records_are_not_forgotten(
    conduct: Conduct, raw: Callable[..., dict[str, Any]], watcher: Callable[[], Any]
) -> None:
    whole = raw({"private": PRIVATE})
    sampled = {**whole["cohorts"]["made"], "records": 40}
    both = {**whole, "cohorts": {**whole["cohorts"], "sample": sampled}}
    unknown(conduct, watcher, build_study(both, "tiny.yaml"), build_study(whole, "tiny.yaml"))
