"""Evidence for a checkpoint that was trained elsewhere, or an error that says why there is none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load, save_file
from torch import nn

from assay.errors import CheckpointError, DataError, SpecError
from assay.evaluations.base import Evaluation
from assay.evaluations.subject import Subject
from assay.executors import LocalExecutor
from assay.registry import build
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.study import external, external_model
from assay.study.external import evaluate_given, given_study
from assay.study.measure import ask
from assay.study.plan import load_datasets
from assay.study.spec import Study
from assay.training.checkpoints import read_weights
from tests.mistakes import refused
from tests.studies import TIMES

FACTORIES = """
import torch
from torch import nn

def net(inputs=4, outputs=2):
    return nn.Linear(inputs, outputs)

def wide():
    return net(inputs=5)

def three():
    return net(outputs=3)

def one():
    return net(outputs=1)

def four():
    return net(outputs=4)

def softmax_layer():
    return nn.Sequential(net(), nn.Softmax(1))

class Pair(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
    def forward(self, x):
        return super().forward(x), None

class Flat(Pair):
    def forward(self, x):
        return nn.Linear.forward(self, x)[:, 0]

class Probability(nn.Linear):
    def __init__(self):
        super().__init__(4, 1)
    def forward(self, x):
        return torch.sigmoid(super().forward(x))

class SoftmaxByFunction(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
    def forward(self, x):
        return super().forward(x).softmax(1)

class TwoSigmoids(SoftmaxByFunction):
    def forward(self, x):
        return torch.sigmoid(nn.Linear.forward(self, x))

class Steps(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
    def forward(self, x):
        with torch.no_grad():
            x = (4 * x).round() / 4
        return super().forward(x)

class Failing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()
    @staticmethod
    def backward(ctx, gradient):
        raise KeyError("nothing leads back")

class Broken(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
    def forward(self, x):
        return super().forward(Failing.apply(x))

class Picky(Pair):
    def forward(self, x):
        raise TypeError("give me a dictionary")
"""


@pytest.fixture(autouse=True)
def _factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "given_networks.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def weights(tmp_path: Path) -> Callable[..., str]:
    """Writes the weights of a linear model that sums its inputs."""

    def write(inputs: int = 4, outputs: int = 2, name: str = "weights.safetensors", **changed: Any) -> str:
        tensors = {"weight": torch.ones(outputs, inputs) * torch.arange(outputs)[:, None], "bias": torch.zeros(outputs)}
        tensors["bias"][-1] = -2.0
        save_file({**tensors, **changed}, tmp_path / name)
        return str(tmp_path / name)

    return write


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "results"))


@pytest.fixture
def study(patients: Callable[..., Path]) -> Callable[..., Study]:
    def build(factory: str = "net", threat: str = "linf:0.1,0.5", seed: int = 0, **data: Any) -> Study:
        data = {"path": str(patients()), "low": -4, "high": 5, **data}
        return given_study("mine", model=f"given_networks:{factory}", data=data, threat=threat, seed=seed)

    return build


@pytest.fixture
def evaluate(study: Callable[..., Study], store: Store) -> Callable[..., TrialRecord]:
    def run(path: str, **settings: Any) -> TrialRecord:
        asked = study(**settings)
        return evaluate_given(asked, asked.cohorts["given"].load(), store, path, environment={"gpus": 0})

    return run


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Ask these evaluations alone."""

    def some(evaluations: tuple[Evaluation, ...], subject: Subject, **settings: Any) -> list[Measurement]:
        return ask(tuple(one for one in evaluations if one.name in names), subject, **settings)

    monkeypatch.setattr(external, "ask", some)


def test_a_checkpoint_is_asked_everything(
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str], store: Store
) -> None:
    record = evaluate(weights())
    frame = store.frame()
    assert not record.failed
    assert set(frame["trial"]) == store.finished() == {record.trial}
    by_name = {name: set(rows["status"]) for name, rows in frame.groupby("name")}
    asked = ("accuracy", "auroc", "robust_accuracy", "worst_case_accuracy", "certified_accuracy", "insertion_gain")
    unsure = ("shifted_accuracy", "mean_corruption_error", "selective_risk", "aurc", "ood_auroc")
    for name in (*asked, "additivity_error", "explanation_agreement", *unsure, "parameters"):
        assert by_name[name] == {"measured"}, name
    for name in (
        "epsilon",
        "epsilon_pld",
        "membership_auc",
        "membership_tpr",
        "training_seconds",
        "conformal_coverage",
    ):
        assert by_name[name] == {"not_applicable"}
    radii = {c["epsilon"] for c in frame[frame["name"] == "worst_case_accuracy"]["conditions"]}
    assert radii == {0.0, 0.1, 0.5}
    assert set(frame[frame["name"] == "accuracy"]["n"]) == {60}


def test_the_accuracy_is_that_of_the_given_weights(
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str], study: Callable[..., Study],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    only(monkeypatch, "accuracy")
    record = evaluate(weights())
    dataset = study().cohorts["given"].dataset.load()
    expected = ((dataset.x.sum(1) > 2) == dataset.y).mean()
    assert next(m for m in record.measurements if m.name == "accuracy").value == pytest.approx(expected)


def test_the_study_and_the_weights_are_kept(
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str], store: Store, study: Callable[..., Study],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    only(monkeypatch, "accuracy")
    record = evaluate(weights())
    about = yaml.safe_load(store.read_text("study.yaml"))
    assert Study.model_validate(about["study"]) == study()
    assert (about["trials"], about["environment"]) == ({record.trial: "given"}, {"gpus": 0})
    assert record.provenance["data"] == study().cohorts["given"].load().about
    kept = nn.Linear(4, 2)
    kept.load_state_dict(load(store.checkpoint(record.training) or b""))
    assert kept.bias.tolist() == [0.0, -2.0]


def test_the_same_checkpoint_has_the_same_evidence(
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str]
) -> None:
    one, again = evaluate(weights()), evaluate(weights())
    said = [[m for m in record.measurements if m.unit not in TIMES] for record in (one, again)]
    assert repr(said[0]) == repr(said[1])


@pytest.fixture
def read_in_order(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """safetensors returns tensors in whatever order; this fixes it. Nothing is asked: only the id counts."""
    monkeypatch.setattr(external, "ask", lambda *_, **__: [])

    def fix(backwards: bool) -> None:
        read = lambda path: dict(sorted(read_weights(path).items(), reverse=backwards))
        monkeypatch.setattr(external_model, "read_weights", read)

    return fix


def test_the_order_in_which_tensors_are_read_changes_nothing(
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str], read_in_order: Callable[[bool], None]
) -> None:
    ids = set()
    for backwards in (False, True):
        read_in_order(backwards)
        ids.add(evaluate(weights()).trial)
    assert len(ids) == 1


def test_another_checkpoint_of_the_same_sums_is_another_trial(
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str], read_in_order: Callable[[bool], None]
) -> None:
    read_in_order(False)
    exchanged = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0]])
    assert evaluate(weights()).trial != evaluate(weights(name="other.safetensors", weight=exchanged)).trial


def test_a_model_of_more_classes_than_two_is_refused_on_two(
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str]
) -> None:
    """Which of its outputs is the class to detect is unknown."""
    with refused(CheckpointError, "class_names", 3, 2):
        evaluate(weights(outputs=3), factory="three")


@pytest.mark.parametrize(("labels", "outputs", "warned"), [(3, 4, True), (3, 3, False)])
def test_more_classes_than_the_data_have_are_told_beside_the_accuracy(  # noqa: PLR0917
    store: Store, weights: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    labels: int, outputs: int, warned: bool,
) -> None:  # fmt: skip
    only(monkeypatch, "accuracy")
    x = np.random.default_rng(0).normal(size=(60, 4)).clip(-4, 5).astype(np.float32)
    np.savez(tmp_path / "more.npz", x=x, y=np.arange(60) % labels)
    asked = given_study(
        "mine", model=f"given_networks:{'four' if outputs == 4 else 'three'}",
        data={"path": str(tmp_path / "more.npz"), "low": -4, "high": 5}, threat="linf:0.1", seed=0,
    )  # fmt: skip
    record = evaluate_given(asked, asked.cohorts["given"].load(), store, weights(outputs=outputs), environment={})
    (accuracy,) = (m for m in record.measurements if m.name == "accuracy")
    told = [flag for flag in accuracy.flags if "4 outputs" in flag.message and "3 classes" in flag.message]
    assert len(told) == warned


@pytest.mark.parametrize(
    ("factory", "output", "said"),
    [
        ("SoftmaxByFunction", None, "output"),
        ("SoftmaxByFunction", "probabilities", ""),
        ("SoftmaxByFunction", "logits", ""),
        ("softmax_layer", None, ""),
        ("TwoSigmoids", None, "output"),
        ("TwoSigmoids", "probabilities", "output"),
        ("net", "probabilities", "output"),
        ("one", "probabilities", "output"),
    ],
)
def test_probabilities_and_logits_are_never_taken_for_each_other_unasked(
    study: Callable[..., Study], factory: str, output: str | None, said: str
) -> None:
    asked = study(factory=factory)
    dataset = asked.cohorts["given"].load()
    architecture = build("model", external_model.architecture_of(f"given_networks:{factory}", output))
    model = architecture.build_for(dataset.form, seed=0).eval()
    if not said:
        external_model.with_logits(model, dataset, torch.device("cpu"), output=output)
        return
    with refused(CheckpointError, said, allowed=("logits", "probabilities")):
        external_model.with_logits(model, dataset, torch.device("cpu"), output=output)


@pytest.mark.parametrize(
    ("factory", "shape", "said"),
    [
        ("wide", {"inputs": 5}, r"the model cannot take records of shape \(4,\)"),
        ("net", {"inputs": 5}, r"weight has shape \(2, 5\), the model wants \(2, 4\)"),
        ("net", {"extra": torch.zeros(1)}, "do not fit the model: unexpected extra"),
        ("Pair", {}, "the model"),
        ("Picky", {}, r"the model cannot take records of shape \(4,\): .*give me a dictionary"),
    ],
    ids=["wrong inputs", "wrong shape", "unexpected", "a tuple", "a type error"],
)
def test_a_model_that_does_not_fit_says_why(
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str], factory: str, shape: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        evaluate(weights(**shape), factory=factory)


@pytest.mark.parametrize(("factory", "outputs"), [("one", 1), ("Flat", 2)], ids=["a column", "no axis of classes"])
def test_one_logit_is_taken_for_two_classes(  # noqa: PLR0917
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str], study: Callable[..., Study], store: Store,
    monkeypatch: pytest.MonkeyPatch, factory: str, outputs: int,
) -> None:  # fmt: skip
    only(monkeypatch, "accuracy")
    logit = {"weight": torch.ones(outputs, 4), "bias": torch.full((outputs,), -2.0)}
    record = evaluate(weights(outputs=outputs, **logit), factory=factory)
    dataset = study().cohorts["given"].dataset.load()
    expected = ((dataset.x.sum(1) > 2) == dataset.y).mean()
    assert next(m for m in record.measurements if m.name == "accuracy").value == pytest.approx(expected)


def test_one_probability_that_no_layer_tells_of_is_asked_about(
    study: Callable[..., Study], weights: Callable[..., str], patients: Callable[..., Path], store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As a logit, a probability would call every record positive."""
    path = weights(outputs=1)
    with pytest.raises(CheckpointError) as caught:
        asked = study(factory="Probability")
        evaluate_given(asked, asked.cohorts["given"].load(), store, path, environment={})
    assert caught.value.setting == "output"
    only(monkeypatch, "accuracy")
    data = {"path": str(patients()), "low": -4, "high": 5}
    said = {"model": "given_networks:Probability", "data": data, "threat": "linf:0.1", "seed": 0}
    accuracies = {}
    for output in ("probabilities", "logits"):
        asked = given_study("mine", output=output, **said)
        dataset = asked.cohorts["given"].load()
        record = evaluate_given(asked, dataset, store, path, environment={})
        accuracies[output] = next(m for m in record.measurements if m.name == "accuracy").value
    right = ((dataset.x.sum(1) * 0 > 2) == dataset.y).mean()
    assert accuracies == {"probabilities": pytest.approx(right), "logits": pytest.approx(1 - right)}


@pytest.mark.parametrize("factory", ["Steps", "Broken"])
def test_a_model_without_a_gradient_is_explained_by_no_method_that_needs_one(
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str], monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    only(monkeypatch, "accuracy", "explanations", "cost")
    found = evaluate(weights(), factory=factory).measurements
    by_name = {m.name: m for m in found}
    assert {by_name[name].status for name in ("accuracy", "parameters")} == {"measured"}
    gains = {m.conditions["method"]: (m.status, m.reason) for m in found if m.name == "insertion_gain"}
    assert gains == {
        "integrated_gradients": ("not_applicable", "no_gradient"),
        "deep_shap": ("not_applicable", "no_gradient"),
        "kernel_shap": ("measured", None),
    }
    assert by_name["completeness_error"].reason == "no_gradient"


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["Steps", "Broken"])
def test_a_model_without_a_gradient_keeps_every_other_figure(
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str], factory: str
) -> None:
    by_name = {m.name: m for m in evaluate(weights(), factory=factory, threat="linf:0.5").measurements}
    for name in ("accuracy", "worst_case_accuracy", "selective_risk", "parameters", "ood_auroc"):
        assert by_name[name].status == "measured", name


def test_an_evaluation_that_raises_is_one_failed_row_beside_all_others(
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("in the middle")

    only(monkeypatch, "accuracy", "robustness", "certificates", "explanations")
    monkeypatch.setattr("assay.evaluations.explanations.Explanations.measure", broken)
    monkeypatch.setattr("assay.evaluations.robustness.Robustness.measure", broken)
    by_name = {m.name: m for m in evaluate(weights()).measurements}
    assert by_name["explanations"].status == by_name["robustness"].status == "failed"
    assert "in the middle" in by_name["explanations"].warnings[0]
    assert by_name["accuracy"].status == "measured"
    assert by_name["certified_accuracy"].status == "measured"


def test_weights_that_are_absent_or_pickled_are_refused(evaluate: Callable[..., TrialRecord], tmp_path: Path) -> None:
    with refused(CheckpointError, "weights", "nowhere.safetensors", "a file"):
        evaluate("nowhere.safetensors")
    torch.save(nn.Linear(4, 2).state_dict(), tmp_path / "pickled.pt")
    with refused(CheckpointError, "weights", str(tmp_path / "pickled.pt"), "safetensors"):
        evaluate(str(tmp_path / "pickled.pt"))


def test_weights_that_are_no_numbers_are_never_fit(
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str], store: Store
) -> None:
    try:
        record = evaluate(weights(bias=torch.tensor([0.0, torch.nan])))
    except CheckpointError:
        assert store.finished() == set()
    else:
        accuracies = [m.value for m in record.measurements if m.name in ("accuracy", "worst_case_accuracy")]
        assert max(accuracies) == 0


def test_data_outside_the_given_bounds_are_refused(
    evaluate: Callable[..., TrialRecord], weights: Callable[..., str]
) -> None:
    with pytest.raises(DataError, match="outside the bounds"):
        evaluate(weights(), low=-0.5, high=0.5)


@pytest.mark.parametrize(
    ("threat", "norm", "radii"),
    [
        ("linf", "linf", ()),
        ("linf:0.1", "linf", (0.1,)),
        ("linf:2/255, 8/255", "linf", (2 / 255, 8 / 255)),
        ("l2:0,1e-1,2", "l2", (0.0, 0.1, 2.0)),
    ],
)
def test_a_threat_is_a_norm_and_if_you_like_radii(
    study: Callable[..., Study], threat: str, norm: str, radii: tuple[float, ...]
) -> None:
    asked = next(e for e in study(threat=threat).cohorts["given"].evaluations if e.name == "robustness")
    assert (asked.norm, asked.epsilons) == (norm, radii)


@pytest.mark.parametrize(
    ("threat", "said"),
    [
        ("l1", "--threat 'l1'.*write linf or l2"),
        ("", "--threat ''.*write linf or l2"),
        ("0.1", "--threat '0.1'.*write linf or l2"),
        ("L2:1", "--threat 'L2:1'.*write linf or l2"),
        ("linf:0,1", "write linf:0.1, or linf:1"),
        ("linf:0,05", "write linf:0.05, or linf:5"),
        ("linf:a", "--threat 'linf:a': write linf or l2"),
        ("linf:0.1,", "write linf or l2, and if you like radii: linf:0.05,0.1,0.2"),
        ("linf:0.1;0.2", "write linf or l2"),
        ("linf:8/0", "write linf or l2"),
        ("linf:-0.1", "every radius must be a number of at least 0"),
        ("linf:nan", "every radius must be a number of at least 0"),
        ("l2:inf", "every radius must be a number of at least 0"),
    ],
)
def test_a_bad_threat_says_how_to_write_it(study: Callable[..., Study], threat: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        study(threat=threat)


def test_a_bad_setting_of_the_data_is_named(study: Callable[..., Study]) -> None:
    with refused(SpecError, "cohorts.given.dataset", "lows"):
        study(lows=3)


def test_more_attacks_on_fewer_records_can_be_asked_for() -> None:
    asked = given_study(
        "mine", model="m:f", data={"path": "p"}, threat="linf:0.1", seed=0, attacks=("apgd",), records=20
    )
    by_name = {evaluation.name: evaluation for evaluation in asked.cohorts["given"].evaluations}
    robustness, certificates = (by_name[name].model_dump() for name in ("robustness", "certificates"))
    assert [attack["name"] for attack in robustness["attacks"]] == ["apgd"]
    assert robustness["records"] == certificates["records"] == 20
    with refused(SpecError, given="nonsense"):
        given_study("mine", model="m:f", data={"path": "p"}, threat="linf:0.1", seed=0, attacks=("nonsense",))


def test_workers_that_share_the_records_have_one_thread_each(
    study: Callable[..., Study], store: Store, weights: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Many(LocalExecutor):
        workers = 2

    threads: list[int] = []
    monkeypatch.setattr(external, "ask", lambda *_, **__: threads.append(torch.get_num_threads()) or [])
    asked = study()
    torch.set_num_threads(2)
    for executor in (LocalExecutor(), Many()):
        dataset = asked.cohorts["given"].load()
        evaluate_given(asked, dataset, store, weights(), environment={}, executor=executor)
        assert torch.get_num_threads() == 2
    assert threads == [2, 1]


@pytest.mark.parametrize(("about", "told"), [({}, True), ({"center": 0, "scale": 1}, False)])
def test_a_model_of_numbers_in_their_own_units_is_warned_of_scaled_ones(
    tmp_path: Path, about: dict[str, float], told: bool
) -> None:
    rows = [f"{20 + n % 60},{90 + n % 31},{int(n % 60 > 30)}" for n in range(120)]
    (tmp_path / "ward.csv").write_text("\n".join(["age,pressure,ill", *rows]))
    kinds = {"age": {"range": [0, 120], **about}, "pressure": {"range": [50, 250], **about}}
    settings = {"name": "table", "path": str(tmp_path / "ward.csv"), "label": "ill", "kinds": kinds}
    study = given_study("mine", model="torch.nn:Identity", data=settings, threat="linf:0.1", seed=0)
    cohort = study.cohorts["given"]
    asked = cohort.model_copy(update={"evaluations": cohort.evaluations[:1]})
    study = study.model_copy(update={"cohorts": {"given": asked}})
    store = Store(str(tmp_path / "results"))
    record = evaluate_given(study, load_datasets(study)["given"], store, None, environment={})
    accuracy = next(one for one in record.measurements if one.name == "accuracy")
    assert any("scaled numbers" in line for line in accuracy.warnings) == told
