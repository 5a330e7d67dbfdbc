"""Models of single clients: stored under the client's name, measured on its records, and opened by its name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.data.partition import partition_dataset, partition_test
from assay.errors import CheckpointError
from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.study.finished import open_finished
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.run import run_study
from assay.study.spec import Study
from assay.study.training import Trained, network_of, prepare_records, train_trial
from assay.training.log import TrainingLog

Tiny = Callable[..., Study]
EVALUATIONS = {"evaluations": ["accuracy", "clients", "cost"]}


def recipe(personalisation: Any, **settings: Any) -> dict[str, Any]:
    federation = {"clients": 3, "rounds": 2, "local_epochs": 1, "personalisation": personalisation, **settings}
    return {"own": {"federation": federation}}


def first(tiny: Tiny, personalisation: Any, **settings: Any) -> tuple[Any, Any]:
    study = tiny(recipe(personalisation, **settings), EVALUATIONS)
    datasets = load_datasets(study)
    return plan(study, datasets)[0], datasets["made"]


@pytest.mark.parametrize("name", ["ditto", "fedper"])
def test_the_personal_model_that_was_trained_is_the_one_that_is_tested(name: str, tiny: Tiny) -> None:
    trial, dataset = first(tiny, name)
    trained = train_trial(trial, LocalExecutor(), dataset)
    assert trained.clients == ("1", "2", "3")
    record = run_trial(trial, LocalExecutor(), dataset, trained=trained)
    assert not record.failed, record.error
    prepared, parts = prepare_records(trial, dataset)
    federation = trial.recipe.federation
    dealt = partition_dataset(prepared, parts.train, federation, seed=trial.trial_seed)
    tested = partition_test(prepared, parts.test, dealt, federation, seed=trial.trial_seed)
    rows = {
        m.conditions["client"]: m
        for m in record.measurements
        if m.name == "client_accuracy" and m.conditions["arrangement"] == "personal"
    }
    for client, held in enumerate(tested, start=1):
        model, _ = trained.open(network_of(trial, dataset), str(client))
        with torch.no_grad():
            said = model(torch.from_numpy(prepared.x[held])).argmax(1).numpy()
        assert rows[client].value == (said == prepared.y[held]).mean()


def test_records_say_whose_model_was_measured(tiny: Tiny) -> None:
    for name, status in (("ditto", "measured"), ("fedper", "not_applicable")):
        trial, dataset = first(tiny, name)
        record = run_trial(trial, LocalExecutor(), dataset)
        (accuracy,) = (m for m in record.measurements if m.name == "accuracy")
        assert accuracy.status == status
        if status == "measured":
            assert accuracy.conditions["network"] == "shared"
        else:
            assert accuracy.reason == "no_shared_model"
            assert "each client's own" in accuracy.warnings[0]
        assert any(m.name == "training_seconds" and m.status == "measured" for m in record.measurements)
        own = [m for m in record.measurements if m.name == "client_accuracy"]
        assert all("network" not in m.conditions for m in own)
        rounds = [m.value for m in record.measurements if m.name == "client_rounds"]
        assert rounds == [2.0, 2.0, 2.0]
        curves = [m.status for m in record.measurements if m.name == "round_accuracy"]
        assert curves == (["measured"] * 2 if status == "measured" else [status])


def test_who_took_part_is_drawn_again_from_the_trials_seed(tiny: Tiny) -> None:
    for about in ({"participation": "fraction", "share": 0.4}, {"available": 0.5, "policy": "those_that_answer"}):
        trial, dataset = first(tiny, "ditto", rounds=4, **about)
        record = run_trial(trial, LocalExecutor(), dataset)
        times = [m for m in record.measurements if m.name == "network_communication_seconds"]
        assert [(m.status, m.value > 0) for m in times] == [("measured", True)] * 3


def test_the_log_keeps_the_rounds_and_earlier_logs_are_read(tiny: Tiny) -> None:
    trial, dataset = first(tiny, "fedper", participation="fraction", share=0.4, rounds=3)
    trained = train_trial(trial, LocalExecutor(), dataset)
    _, log = trained.open(network_of(trial, dataset), "2")
    assert len(log.federation["rounds"]) == 3
    assert sum(log.federation["participation"].values()) == 3
    earlier = TrainingLog(seconds=1.0, worker_seconds=1.0, workers=1)
    assert earlier.federation == {}
    later = TrainingLog(seconds=1.0, worker_seconds=1.0, workers=1, federation={"rounds": []})
    assert earlier.then(later).federation == {"rounds": []}


def test_a_finished_trial_is_opened_for_one_client(tiny: Tiny, tmp_path: Path, watcher: Callable[[], Any]) -> None:
    store = Store(str(tmp_path / "results"))
    study = tiny(recipe("fedper"), {"evaluations": ["cost"]})
    summary = run_study(study, store, LocalExecutor(), watcher=watcher(), publish=lambda datasets: None)
    assert not summary.failures
    own = open_finished(store, recipe="own", client="2")
    content = store.checkpoint(store.trainings()[own.trial])
    assert content is not None
    expected, _ = Trained(checkpoint=content).open(lambda: own.model, "2")
    assert own.client == "2"
    for name, tensor in own.model.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name])
    for client, said in (("", "is no model"), ("9", "'9' has no model of its own")):
        with pytest.raises(CheckpointError, match=said) as caught:
            open_finished(store, recipe="own", client=client)
        assert caught.value.allowed == ["1", "2", "3"]
