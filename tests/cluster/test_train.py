"""What a training over workers hands over, and what one that fails or is refused says to the one who asked for it."""

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from ray.train import Checkpoint, ControllerError, WorkerGroupError
from torch import nn

from assay.cluster.train import _last_state, run_distributed, train_distributed
from assay.cluster.train_worker import STATE, work
from assay.data.base import Dataset
from assay.data.splits import Splitting, split
from assay.errors import DataError, IncompatibleRecipeError, UserError
from assay.executors import LocalExecutor
from assay.ledger.experiments import UNFINISHED
from assay.models.imported import Imported
from assay.models.mlp import MLP
from assay.recipes import Privacy, Recipe
from assay.release.keeper import Keeper
from assay.store.folder import Store
from assay.study.measure import run_trial
from assay.study.reading import build_study
from assay.study.spec import Study
from assay.study.training import Trained, log_of, train_alone, train_trial, trainer_of
from assay.study.trial import Trial
from assay.training.cadence import Every
from assay.training.checkpoints import from_bytes, restore_trainer
from assay.training.collective import Alone
from assay.training.draws import Draws
from tests.mistakes import refused


class Failing:
    """A ``TorchTrainer`` whose workers have failed."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = dict(enumerate(failures))

    def fit(self) -> None:
        raise WorkerGroupError("the workers failed", self._failures)


def test_a_users_error_comes_out_from_among_those_of_the_workers_that_it_stopped() -> None:
    with pytest.raises(DataError, match="corrupt"):
        _last_state(Failing(RuntimeError("connection closed by peer"), DataError("image 3 is corrupt")))


def test_workers_that_never_start_are_an_error_that_says_what_to_do() -> None:
    class Waiting:
        def fit(self) -> None:
            raise ControllerError(TimeoutError("no placement of 64 workers"))

    with pytest.raises(UserError, match=r"no placement of 64 workers.*lower --workers"):
        _last_state(Waiting())  # type: ignore[arg-type]


def test_any_other_failure_stays_what_it_is() -> None:
    with pytest.raises(WorkerGroupError, match="the workers failed"):
        _last_state(Failing(RuntimeError("a fault of ours")))


def network(norm: str) -> nn.Module:
    norms = {"batch": nn.BatchNorm2d(4), "group": nn.GroupNorm(2, 4)}
    return nn.Sequential(nn.Conv2d(1, 4, 1), nn.Sequential(norms[norm]), nn.Flatten(), nn.Linear(16, 2))


def train(norm: str, workers: int, folder: Path) -> None:
    """As far as the first worker, of which there is none."""
    dataset = Dataset(
        name="squares", x=np.ones((40, 1, 2, 2), np.float32), y=np.arange(40) % 2, class_names=("even", "odd"),
        feature_names=(), low=np.zeros((1, 1, 1)), high=np.ones((1, 1, 1)), units="1", epsilons=(0.1,),
        modality="image",
    )  # fmt: skip
    trial = Trial(
        cohort="squares", recipe_name="tested", fold=0, repeat=0, seed=3, threads=1, splitting=Splitting(folds=2),
        model=Imported(factory="tests.cluster.test_train:network", arguments={"norm": norm}), recipe=Recipe(),
        evaluations=(), data_digest=dataset.digest, dataset_name=dataset.name,
    )  # fmt: skip
    with mock.patch("ray.put", side_effect=ConnectionError("no cluster")):
        train_distributed(trial, dataset, workers=workers, storage=str(folder), watch=lambda *_: None)


def test_layers_that_mix_the_records_of_a_batch_are_refused_before_any_worker_starts(tmp_path: Path) -> None:
    with refused(IncompatibleRecipeError, "model", "1.0", 1):
        train("batch", 2, tmp_path)


@pytest.mark.parametrize(("norm", "workers"), [("batch", 1), ("group", 2)])
def test_a_worker_that_sees_the_whole_batch_may_mix_it(norm: str, workers: int, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="no cluster"):
        train(norm, workers, tmp_path)


Failed = RuntimeError("the workers failed")


def unstarted(**_: object) -> None:
    raise Failed


@pytest.mark.parametrize("failing", ["training", "the pool", ""])
def test_a_training_that_fails_is_a_failed_record_and_counts_as_begun(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.cluster.train.ray_session", lambda *_, **__: contextlib.nullcontext(2))
    pool = unstarted if failing == "the pool" else lambda **_: contextlib.nullcontext(LocalExecutor())
    monkeypatch.setattr("assay.cluster.train.RayExecutor", pool)
    recipe = Recipe(privacy=Privacy(epsilon=4.0, delta=1e-3, noise="entropy"), training={"epochs": 1, "batch_size": 16})
    dataset, trial = blobs(recipe)
    seen: list[tuple[str, str]] = []
    keeper, store = Keeper(tmp_path / "ledger", results=str(tmp_path / "out")), Store(str(tmp_path / "out"))

    def train(*_: object, **__: object) -> Trained:
        (held,), (noted,) = keeper.ledger(dataset).account().charges, keeper.ledger(dataset).experiments()
        seen.append((held.state, noted.error))
        if failing == "training":
            raise Failed
        return train_trial(trial, LocalExecutor(), dataset)

    monkeypatch.setattr("assay.cluster.train.train_distributed", train)
    record = run_distributed(
        trial, study_of(tmp_path), dataset, store, workers=2, address=None, watch=lambda *_: None,
        evaluating=lambda *_: None, keeper=keeper,
    )  # fmt: skip
    assert seen == [("trained", UNFINISHED)]
    (held,), (noted,) = keeper.ledger(dataset).account().charges, keeper.ledger(dataset).experiments()
    if failing:
        assert (held.state, noted.error) == ("trained", "RuntimeError: the workers failed")
        assert store.failures() == {trial.id: record.error}
        assert record.error.splitlines()[:2] == [noted.error, "Traceback (most recent call last):"]
    else:
        assert (held.state, noted.error, record.error) == ("trained", "", "")
        assert store.finished() == {trial.id}
    assert record.provenance["environment"]["ray_train_workers"] == 2


@pytest.mark.parametrize("error", [DataError("image 3 is corrupt"), Failed], ids=["of the user", "of ours"])
def test_what_finished_before_is_not_lost_to_a_failure(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.cluster.train.ray_session", lambda *_, **__: contextlib.nullcontext(2))
    monkeypatch.setattr("assay.cluster.train.train_distributed", mock.Mock(side_effect=error))
    dataset, trial = blobs(Recipe(training={"epochs": 1, "batch_size": 16}))
    keeper, store = Keeper(tmp_path / "ledger", results=str(tmp_path / "out")), Store(str(tmp_path / "out"))
    finished = run_trial(trial, LocalExecutor(), dataset)
    store.write(finished)
    # Without its model it is trained again.
    (tmp_path / "out" / "artefacts" / f"{trial.training}.safetensors").unlink()
    with pytest.raises(DataError) if isinstance(error, DataError) else contextlib.nullcontext():
        run_distributed(
            trial, study_of(tmp_path), dataset, store, workers=2, address=None, watch=lambda *_: None,
            evaluating=lambda *_: None, keeper=keeper,
        )  # fmt: skip
    assert (store.finished(), store.failures()) == ({trial.id}, {})
    assert keeper.ledger(dataset).experiments()[0].error.endswith(str(error))


def test_a_federated_recipe_is_refused_before_anything_is_noted(tmp_path: Path) -> None:
    dataset, trial = blobs(Recipe(federation={"clients": 2}))
    keeper, store = Keeper(tmp_path / "ledger", results=str(tmp_path / "out")), Store(str(tmp_path / "out"))
    with refused(IncompatibleRecipeError, "recipe", "tested", "jobs.study"):
        run_distributed(
            trial, study_of(tmp_path), dataset, store, workers=2, address=None, watch=lambda *_: None,
            evaluating=lambda *_: None, keeper=keeper,
        )  # fmt: skip
    assert keeper.ledger(dataset).experiments() == []
    assert not list(tmp_path.glob("out/trials"))


@pytest.mark.parametrize(("device", "gpus"), [("gpu", None), ("cpu", 0.0)])
def test_a_cohort_for_the_cpu_is_measured_by_workers_without_gpus(
    device: Any, gpus: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserved: list[float | None] = []

    def pool(**given: Any) -> Any:
        reserved.append(given["gpus"])
        return contextlib.nullcontext(LocalExecutor())

    dataset, trial = blobs(Recipe(training={"epochs": 1, "batch_size": 16}))
    monkeypatch.setattr("assay.cluster.train.ray_session", lambda *_, **__: contextlib.nullcontext(2))
    monkeypatch.setattr("assay.cluster.train.RayExecutor", pool)
    monkeypatch.setattr(
        "assay.cluster.train.train_distributed", lambda *_, **__: train_trial(trial, LocalExecutor(), dataset)
    )
    run_distributed(
        replace(trial, device=device), study_of(tmp_path), dataset, Store(str(tmp_path)), workers=2, address=None,
        watch=lambda *_: None, evaluating=lambda *_: None,
    )  # fmt: skip
    assert reserved == [gpus]


def test_gpus_for_a_cohort_on_the_cpu_or_on_machines_without_any_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, trial = blobs(Recipe(training={"epochs": 1, "batch_size": 16}))
    monkeypatch.setattr("assay.cluster.train.ray_session", lambda *_, **__: contextlib.nullcontext(2))
    monkeypatch.setattr("assay.cluster.train.living_nodes", lambda: [{"CPU": 8.0}])
    monkeypatch.setattr("assay.cluster.train.joins_cluster", lambda address: False)
    for device, given in (("cpu", True), ("gpu", 1)):
        with refused(UserError, "--gpu", given):
            run_distributed(
                replace(trial, device=device), study_of(tmp_path), dataset, Store(str(tmp_path)), workers=2,
                address=None, watch=lambda *_: None, evaluating=lambda *_: None, gpu=True,
            )  # fmt: skip


def study_of(folder: Path) -> Study:
    """What is kept beside the results."""
    arrays = {"name": "arrays", "path": str(folder / "blobs.npz")}
    return build_study({"name": "tested", "cohorts": {"blobs": {"dataset": arrays, "recipes": {"tested": {}}}}}, "made")


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What a lone worker hands over, one state a report; what it is given to go on from is the last of them."""
    states: list[bytes] = []
    awaited: list[int] = []

    def report(metrics: dict[str, object], *, checkpoint: Checkpoint) -> None:
        states.append((Path(checkpoint.path) / STATE).read_bytes())

    def last() -> Checkpoint | None:
        if not states:
            return None
        folder = Path(tempfile.mkdtemp())
        (folder / STATE).write_bytes(states[-1])
        return Checkpoint.from_directory(folder)

    monkeypatch.setattr("ray.get", lambda given: given)
    monkeypatch.setattr("ray.train.report", report)
    monkeypatch.setattr("ray.train.get_all_reported_checkpoints", lambda **_: awaited.append(len(states)))
    monkeypatch.setattr("ray.train.get_checkpoint", last)
    monkeypatch.setattr("ray.train.get_context", lambda: SimpleNamespace(get_world_rank=lambda: 0))
    monkeypatch.setattr("assay.cluster.train_worker.get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr("assay.cluster.train_worker.Distributed", lambda device: Alone())
    return states


def test_a_worker_that_stops_early_hands_over_the_best_weights_and_one_that_is_killed_misses_none(
    reported: list[bytes],
) -> None:
    stopping = {"epsilon": 0.02, "patience": 3}
    fast = {"name": "fast", "epsilon": 1.0, "relative_step": 0.01, "watch": {"least_share": 0.99}}
    recipe = Recipe(
        objective=fast, training={"epochs": 60, "batch_size": 16, "learning_rate": 0.05, "early_stopping": stopping}
    )
    dataset, trial = blobs(recipe)
    parts = split(dataset, trial.splitting, fold=0, repeat=0, seed=trial.seed)
    config = {
        "trial": trial, "data": dataset, "rows": parts.train, "held": parts.validation, "readers": 1,
        "stage": {"recipe": recipe, "stage": "", "teacher": None}, "progress": SimpleQueue(),
        "checkpoint_every": Every(count=2, unit="epochs"), "entropy": None,
    }  # fmt: skip
    work(config)
    undisturbed = reported[:]
    expected, log = train_alone(trial, dataset, parts.train, held=parts.validation)
    assert len(log.losses) < 60
    assert log.notes

    del reported[1:]
    work(config)
    for states in (undisturbed, reported):
        tensors, about = from_bytes(states[-1], "state")
        assert about["hooks"]["early_stopping"]["accuracies"] == log.validation
        assert about["hooks"]["overfitting_guard"]["notes"] == log.notes
        for name, weights in expected.state_dict().items():
            assert torch.equal(tensors[f"model.{name}"], weights)


def test_a_private_worker_that_is_killed_ends_with_the_average_and_has_spent_what_it_would_have(
    reported: list[bytes],
) -> None:
    recipe = Recipe(
        privacy=Privacy(epsilon=4.0, clipping="automatic"),
        training={"epochs": 6, "batch_size": 16, "averaging": 0.9, "records_at_once": 5},
    )
    dataset, trial = blobs(recipe)
    parts = split(dataset, trial.splitting, fold=0, repeat=0, seed=trial.seed)
    config = {
        "trial": trial, "data": dataset, "rows": parts.train, "held": parts.validation, "readers": 1,
        "stage": {"recipe": recipe, "stage": "", "teacher": None}, "progress": SimpleQueue(),
        "checkpoint_every": Every(count=2, unit="epochs"), "entropy": None,
    }  # fmt: skip
    expected, log = train_alone(trial, dataset, parts.train, held=parts.validation)
    work(config)
    undisturbed = reported[:]
    del reported[1:]
    work(config)
    for states in (undisturbed, reported):
        assert len(states) == 3
        trainer = trainer_of(trial, dataset, parts.train, recipe=recipe, device=torch.device("cpu"))
        restore_trainer(trainer, states[-1])
        assert log_of(trainer).mechanisms == log.mechanisms
        for ours, theirs in zip(trainer.model.parameters(), expected.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_lost_steps_have_their_noise_again_or_are_spent_twice(reported: list[bytes]) -> None:
    """In mid-epoch: three steps an epoch, checkpoints every five."""
    recipe = Recipe(privacy=Privacy(epsilon=4.0, delta=1e-3, noise="entropy"), training={"epochs": 6, "batch_size": 16})
    dataset, trial = blobs(recipe)
    parts = split(dataset, trial.splitting, fold=0, repeat=0, seed=trial.seed)

    def go_on(draws: Draws) -> list[dict[str, Any]]:
        """What the checkpoints say that a worker stores from here on."""
        before = len(reported)
        work({
            "trial": trial, "data": dataset, "rows": parts.train, "held": parts.validation, "readers": 1,
            "stage": {"recipe": recipe, "stage": "", "teacher": None}, "progress": SimpleQueue(),
            "checkpoint_every": Every(count=5, unit="steps"),
            "entropy": SimpleNamespace(draws=SimpleNamespace(remote=lambda: draws)),
        })  # fmt: skip
        return [from_bytes(state, "state")[1] for state in reported[before:]]

    first = Draws.from_entropy()
    stored = go_on(first)
    steps = stored[-1]["progress"]["step"]
    assert [one["progress"]["step"] for one in stored] == [*range(0, steps, 5), steps]
    assert [one["next_by"] for one in stored] == [*range(5, steps, 5), steps, steps]
    undisturbed = from_bytes(reported[-1], "state")[0]
    for draws, spent_twice in ((first, 0), (Draws.from_entropy(), 5)):
        del reported[2:]
        again = go_on(draws)
        assert again[0]["progress"]["step"] == 5, "before any further step"
        assert {one["progress"]["repeated"] for one in again} == {spent_twice}
        trainer = trainer_of(trial, dataset, parts.train, recipe=recipe, device=torch.device("cpu"), entropy=draws)
        restore_trainer(trainer, reported[-1])
        assert log_of(trainer).mechanisms["central"]["steps"] == steps + spent_twice
        same = all(torch.equal(undisturbed[name], tensor) for name, tensor in from_bytes(reported[-1], "")[0].items())
        assert same == (not spent_twice)
        texts = (str(draws.seed).encode(), f"{draws.seed:x}".encode(), draws.seed.to_bytes(16, "little"))
        assert not any(text in state for state in reported for text in texts)


def blobs(recipe: Recipe) -> tuple[Dataset, Trial]:
    """Two overlapping clouds of points, and a trial of a small network on them."""
    y = np.arange(120) % 2
    x = (np.random.default_rng(0).normal(size=(120, 4)) + y[:, None]).clip(-4, 5).astype(np.float32)
    dataset = Dataset(
        name="blobs", x=x, y=y, class_names=("left", "right"), feature_names=(), low=np.full(4, -4.0),
        high=np.full(4, 5.0), units="1", epsilons=(0.1,),
    )  # fmt: skip
    trial = Trial(
        cohort="blobs", recipe_name="tested", fold=0, repeat=0, seed=3, threads=1,
        splitting=Splitting(folds=2, validation=0.3), model=MLP(hidden=(8,)), recipe=recipe, evaluations=(),
        data_digest=dataset.digest, dataset_name=dataset.name,
    )  # fmt: skip
    return dataset, trial
