"""One trial: trained, asked and recorded; what goes wrong is a record too."""

import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from assay.data.base import Dataset
from assay.data.splits import split
from assay.data.standardisation import Standardisation
from assay.errors import CheckpointError, DataError, IncompatibleRecipeError
from assay.evaluations.base import Evaluation
from assay.evaluations.cost import Cost
from assay.evaluations.subject import Subject
from assay.executors import LocalExecutor
from assay.metrics import Metric
from assay.results import TELLS_OF, Measurement, TrialRecord
from assay.study.measure import ask, evaluate, run_trial
from assay.study.plan import load_datasets, plan
from assay.study.provenance import source_digest, versions
from assay.study.spec import Study
from assay.study.training import Trained, network_of, train_trial
from assay.study.trial import Trial
from assay.tasks.classification import CLASSIFICATION
from assay.training.checkpoints import artefact_of, from_bytes
from assay.training.log import TrainingLog
from assay.training.loop import Trainer
from tests.mistakes import refused

Tiny = Callable[..., Study]
PRIVATE = {"private": {"privacy": {"epsilon": 8}}}
FEDERATED = {"fed": {"federation": {"clients": 3, "rounds": 2, "local_epochs": 1}}}
TIMES = {"training_seconds", "training_worker_seconds", "training_records_per_second"}


@pytest.fixture
def first(tiny: Tiny) -> Callable[..., tuple[Trial, Dataset]]:
    """The first trial of a tiny study, with its data."""

    def build(*args: Any, **settings: Any) -> tuple[Trial, Dataset]:
        study = tiny(*args, **settings)
        datasets = load_datasets(study)
        return plan(study, datasets)[0], datasets["made"]

    return build


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(trial: Trial, dataset: Dataset, **settings: Any) -> TrialRecord:
    return run_trial(trial, LocalExecutor(), dataset, **settings)


def figures(record: TrialRecord) -> list[Measurement]:
    return [m for m in record.measurements if m.name not in TIMES]


@pytest.mark.parametrize("recipes", [None, PRIVATE, FEDERATED], ids=["plain", "private", "federated"])
def test_a_trial_repeats_exactly(first: Callable[..., Any], recipes: Any) -> None:
    one, again = run(*first(recipes)), run(*first(recipes))
    assert not one.failed
    assert repr(figures(one)) == repr(figures(again))
    tensors, others = (from_bytes(record.weights, "")[0] for record in (one, again))
    assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())


def test_a_private_trial_claims_nothing_of_first_weights_that_its_seed_did_not_draw(
    first: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that was trained before, perhaps on these very patients."""
    (tmp_path / "pretrained_networks.py").write_text(
        "import torch\n\n\ndef net():\n    made = torch.nn.Linear(4, 2)\n"
        "    made.load_state_dict({'weight': torch.arange(8.0).view(2, 4), 'bias': torch.zeros(2)})\n    return made\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    model = {"name": "imported", "factory": "pretrained_networks:net"}
    for public, status in ((False, "failed"), (True, "measured")):
        record = run(*first(PRIVATE, cohort={"model": {**model, "public_weights": public}}))
        claims = [m for m in record.measurements if m.unit == "epsilon"]
        assert {m.status for m in claims} == {status}, record.error
        assert all("pretrained_networks:net" in m.conditions["first_weights"] for m in claims)


def test_the_record_says_what_was_asked_and_with_what(first: Callable[..., Any]) -> None:
    trial, dataset = first()
    record = run(trial, dataset)
    assert (record.trial, record.dataset, record.model, record.recipe) == (trial.id, "patients", "mlp", "standard")
    assert record.provenance == {
        "asked": trial.description(),
        "data": dataset.about,
        "versions": versions(),
        "source": source_digest(),
        "marks": TELLS_OF,
    }
    assert {m.name for m in record.measurements} >= {"accuracy", "epsilon", "training_seconds"}
    assert record.seconds > 0


def test_the_checkpoint_is_the_model_that_was_measured(first: Callable[..., Any]) -> None:
    trial, dataset = first()
    record = run(trial, dataset)
    model, log = Trained(checkpoint=record.weights).open(network_of(trial, dataset))
    rows = split(dataset, trial.splitting, fold=0, repeat=0, seed=trial.seed).test
    with torch.no_grad():
        said = model(torch.from_numpy(dataset.x[rows])).argmax(1).numpy()
    accuracy = next(m for m in record.measurements if m.name == "accuracy")
    assert accuracy.value == (said == dataset.y[rows]).mean()
    assert not model.training
    assert len(log.losses) == 2


def test_what_is_trained_already_is_not_trained_again(first: Callable[..., Any], monkeypatch: Any) -> None:
    trial, dataset = first()
    trained = train_trial(trial, LocalExecutor(), dataset)
    expected = run(trial, dataset)
    monkeypatch.setattr("assay.study.measure.train_trial", lambda *_, **__: pytest.fail("it was trained again"))
    found = run(trial, dataset, trained=trained)
    assert (found.weights, found.artefact) == (b"", artefact_of(trained.checkpoint))
    assert repr(figures(found)) == repr(figures(expected))


def test_a_failure_is_a_record_that_says_why(first: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(Cost, "measure", fail)
    record = run(*first())
    assert record.failed
    assert record.error.splitlines()[0] == "RuntimeError: no such luck"
    assert "in fail" in record.error
    # What was trained, and measured before, is kept for the next try.
    assert record.measurements == () and artefact_of(record.weights) == record.artefact
    assert [answer.asked["name"] for answer in record.answers.values()] == ["accuracy", "privacy"]


def test_an_interrupt_is_no_failure_of_the_trial(first: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Cost, "measure", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(*first())


def test_a_federated_trial_tells_every_round_and_every_account(first: Callable[..., Any]) -> None:
    recipes = {"fed": {**FEDERATED["fed"], "privacy": {"epsilon": 8}}}
    trial, dataset = first(recipes)
    rounds: list[int] = []
    trained = train_trial(trial, LocalExecutor(), dataset, after_round=rounds.append)
    _, log = trained.open(network_of(trial, dataset))
    assert rounds == [1, 2]
    assert set(log.mechanisms) == {"1", "2", "3"}
    assert len(log.losses) == 2
    assert log.worker_seconds > 0


def dealt(trial: Trial, partition: str) -> Trial:
    """The trial with another partition: a plan refuses a natural one of data without sites."""
    federation = trial.recipe.federation
    assert federation is not None
    changed = federation.model_copy(update={"partition": partition})
    return replace(trial, recipe=trial.recipe.model_copy(update={"federation": changed}))


def test_each_site_is_a_client_of_a_natural_partition(first: Callable[..., Any]) -> None:
    trial, dataset = first({"fed": {"federation": {"rounds": 1}, "privacy": {"epsilon": 8}}})
    trial = dealt(trial, "natural")
    sited = replace(dataset, site=np.array(["west", "east"])[np.arange(len(dataset)) % 2])
    executor = LocalExecutor()
    _, log = train_trial(trial, executor, sited).open(network_of(trial, sited))
    assert set(log.mechanisms) == {"1", "2"}
    assert "partition: 2 clients, one for each site; clients: 10 is not used" in log.notes
    with refused(DataError, "federation.by", "site"):
        train_trial(trial, executor, dataset)


@pytest.mark.parametrize(
    ("how", "partition", "possible"),
    [("by_site", "natural", True), ("by_site", "iid", False), ("federated", "iid", True)],
)
def test_what_clients_learn_alone_or_by_sums_is_not_refused(
    first: Callable[..., Any], how: Any, partition: str, possible: bool
) -> None:
    trial, dataset = first({"fed": {"federation": {"clients": 2, "rounds": 1}}})
    trial = dealt(trial, partition)
    site = np.array(["west", "east"])[np.arange(len(dataset)) % 2]
    data = replace(dataset, site=site, preparation=Standardisation(how=how))
    if possible:
        assert train_trial(trial, LocalExecutor(), data).checkpoint
    else:
        with pytest.raises(IncompatibleRecipeError, match=r"pooled records of all clients.*partition: natural"):
            train_trial(trial, LocalExecutor(), data)


def test_a_central_trial_has_one_account_and_a_plain_one_none(first: Callable[..., Any]) -> None:
    for recipes, spenders in ((PRIVATE, {"central"}), (None, set())):
        trial, dataset = first(recipes)
        _, log = train_trial(trial, LocalExecutor(), dataset).open(network_of(trial, dataset))
        assert set(log.mechanisms) == spenders
        assert (log.workers, log.worker_seconds) == (1, log.seconds)


def test_both_ends_of_a_federation_are_measured(first: Callable[..., Any]) -> None:
    record = run(*first(FEDERATED, {"evaluations": ["clients"]}))
    names = [m.name for m in record.measurements]
    assert names.count("client_accuracy") == 3 * names.count("local_only_accuracy") == 9
    assert all(m.status == "measured" for m in record.measurements)


def test_what_is_trained_beside_a_federation_learns_for_as_many_passes(
    first: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, dataset = first({"fed": {"federation": {"clients": 3, "rounds": 3, "local_epochs": 2}}})
    trained = train_trial(trial, LocalExecutor(), dataset)
    monkeypatch.setattr("assay.study.measure.ask", lambda evaluations, subject, **_: [subject])
    (subject,) = evaluate(trial, dataset, trained, LocalExecutor())
    passes: list[int] = []
    monkeypatch.setattr(Trainer, "run", lambda self, **_: passes.append(self.total_steps // self.steps_per_epoch))
    central = trial.recipe.model_copy(update={"federation": None})
    for recipe in (None, central):
        subject.train(subject.split.train, "", recipe)  # type: ignore[attr-defined]
    assert passes == [6, 6]


@pytest.mark.parametrize("public", [False, True])
def test_clients_share_no_texts_to_learn_a_vocabulary_from(
    first: Callable[..., Any], tmp_path: Path, public: bool
) -> None:
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"good word{i % 3},{i % 2}\n" for i in range(60)))
    (tmp_path / "words.txt").write_text("good\nword1\n")
    embedding = {"name": "learned", "dimension": 2, **({"vocabulary": str(tmp_path / "words.txt")} if public else {})}
    cohort = {
        "dataset": {"name": "text_file", "path": str(tmp_path / "texts.csv"), "embedding": embedding},
        "model": {"name": "text_cnn", "channels": 2, "widths": [1]},
    }
    trial, dataset = first(FEDERATED, cohort)
    if public:
        assert train_trial(trial, LocalExecutor(), dataset).checkpoint
    else:
        with pytest.raises(
            IncompatibleRecipeError, match=r"'fed' is federated.*pooled records of all clients.*use the embedding"
        ):
            train_trial(trial, LocalExecutor(), dataset)
        assert train_trial(first(None, cohort)[0], LocalExecutor(), dataset).checkpoint


@pytest.mark.parametrize("recipes", [None, FEDERATED], ids=["plain", "federated"])
def test_only_training_records_are_learned_from(first: Callable[..., Any], recipes: Any) -> None:
    trial, dataset = first(recipes)
    parts = split(dataset, trial.splitting, fold=0, repeat=0, seed=trial.seed)

    def weights_without(rows: np.ndarray) -> dict[str, torch.Tensor]:
        x = dataset.x.copy()
        x[rows] = 0
        return from_bytes(train_trial(trial, LocalExecutor(), replace(dataset, x=x)).checkpoint, "")[0]

    honest, held_out = weights_without(parts.test[:0]), weights_without(np.concatenate([parts.test, parts.validation]))
    assert all(torch.equal(tensor, held_out[name]) for name, tensor in honest.items())
    trained_on = weights_without(parts.train[:1])
    assert not all(torch.equal(tensor, trained_on[name]) for name, tensor in honest.items())


def test_threads_are_those_of_the_trial(first: Callable[..., Any]) -> None:
    run(*first(threads=2))
    assert torch.get_num_threads() == 2


def test_trials_travel_between_processes(first: Callable[..., Any]) -> None:
    trial, _ = first(PRIVATE)
    copy = pickle.loads(pickle.dumps(trial))
    assert (copy, copy.id) == (trial, trial.id)


def test_warnings_of_the_data_stand_beside_accuracy(first: Callable[..., Any]) -> None:
    trial, dataset = first()
    record = run(trial, replace(dataset, warnings=("few records",)))
    assert [m.name for m in record.measurements if "few records" in m.warnings] == ["accuracy"]


STOPPING = {"early": {"training": {"epochs": 8, "learning_rate": 0.1, "early_stopping": {"epsilon": 0.2}}}}


def test_early_stopping_looks_at_the_validation_split_and_at_no_other_held_out_record(
    first: Callable[..., Any],
) -> None:
    trial, dataset = first(STOPPING)
    parts = split(dataset, trial.splitting, fold=0, repeat=0, seed=trial.seed)

    def looks_without(rows: np.ndarray) -> list[float]:
        x = dataset.x.copy()
        x[rows] = 0
        return from_bytes(train_trial(trial, LocalExecutor(), replace(dataset, x=x)).checkpoint, "")[1]["validation"]

    honest = looks_without(parts.test[:0])
    assert len(honest) == 8
    assert looks_without(parts.test) == honest
    assert looks_without(parts.validation) != honest


def test_a_split_without_validation_records_says_so(first: Callable[..., Any]) -> None:
    record = run(*first(STOPPING, split={"folds": 2, "tested": "validation"}))
    assert record.error.startswith("UserError: training.early_stopping looks at validation records, and there are none")


@pytest.mark.parametrize("federation", [{}, FEDERATED["fed"]], ids=["plain", "federated"])
def test_what_training_had_to_undo_stands_beside_accuracy(first: Callable[..., Any], federation: Any) -> None:
    # Examples that stand for nothing, in a ball that holds everything.
    fast = {"name": "fast", "epsilon": 9, "relative_step": 1e-3, "watch": {"least_share": 0.99}}
    record = run(*first({"fast": {"objective": fast, "training": {"epochs": 6, "learning_rate": 0.1}, **federation}}))
    told = {m.name for m in record.measurements for said in m.warnings if "catastrophic overfitting" in said}
    assert told == {"accuracy"}
    if federation:
        assert any("client 1: catastrophic overfitting" in said for m in record.measurements for said in m.warnings)


def test_a_checkpoint_of_another_network_is_refused(first: Callable[..., Any]) -> None:
    trial, dataset = first()
    other, _ = first(cohort={"model": {"name": "mlp", "hidden": [5]}})
    trained = train_trial(other, LocalExecutor(), dataset)
    with pytest.raises(CheckpointError, match="do not fit the model"):
        trained.open(network_of(trial, dataset))


def test_every_evaluation_is_asked_in_order() -> None:
    class Asked(Evaluation):
        metrics: ClassVar = (Metric(name="*", title="Any", meaning="Any."),)

        @property
        def of_training_records(self) -> bool:
            return self.name == "loss"

        def measure(self, subject: Subject) -> list[Measurement]:
            return [Measurement(name=self.name, value=1.0)]

    subject = SimpleNamespace(
        model=nn.Identity(),
        dataset=SimpleNamespace(warnings=("small",), modality="text"),
        log=None,
        recipe=None,
        personalised=False,
        why_no_shared_model="",
        task=CLASSIFICATION,
        split=SimpleNamespace(train=np.arange(0), test=np.arange(0)),
    )
    subject.decided, subject.decided_at = subject, {}
    found = ask((Asked(name="loss"), Asked(name="accuracy")), subject)  # type: ignore[arg-type]
    assert [(m.name, m.warnings) for m in found] == [("loss", ()), ("accuracy", ("small",))]
    assert [m.conditions for m in found] == [{"tells_of": "training records"}, {}]


def test_a_client_is_answered_by_its_own_network() -> None:
    shared, own = nn.Linear(3, 2), nn.Linear(3, 2)
    trained = Trained.of(
        shared, TrainingLog(seconds=1.0, worker_seconds=1.0, workers=1), clients={"A": own.state_dict()}
    )
    assert trained.clients == ("A",)
    for client, expected in (("", shared), ("A", own)):
        model, log = trained.open(lambda: nn.Linear(3, 2), client)
        assert torch.equal(model.weight, expected.weight)
        assert log.seconds == 1.0
    with pytest.raises(CheckpointError, match=r"no network of client 'B' is stored.*: A"):
        trained.open(lambda: nn.Linear(3, 2), "B")
