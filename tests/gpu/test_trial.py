"""One trial, trained and asked on a GPU, says what it says on the CPU, and the same whenever it is repeated."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.data.splits import Split
from assay.evaluations.subject import Subject
from assay.executors import LocalExecutor
from assay.registry import build, names
from assay.results import Measurement, judged
from assay.study.measure import evaluate, run_trial
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.training import Trained, network_of, train_trial
from assay.study.trial import Trial
from assay.training.checkpoints import from_bytes
from tests.gpu.devices import DEVICE, assert_same_bits, trained, without_gpu

ROBUSTNESS = {"name": "robustness", "records": 64, "epsilons": [0, 0.05, 0.1], "steps": 8}
OF_IMAGES: list[Any] = [
    {"name": "accuracy", "draws": 50},
    {**ROBUSTNESS, "attacks": ["apgd", "square", "transfer", {"name": "hop_skip_jump", "steps": 2}]},
    {"name": "certificates", "records": 64},
    {"name": "smoothing", "sigma": 0.25, "samples": 100, "judging_samples": 100, "attack_steps": 4, "records": 20},
    {"name": "adversarial_patch", "patch": {"steps": 20}},
    {"name": "explanations", "records": 20, "measured": 5, "shap_background": 10, "points": 16, "draws": 50},
    {"name": "out_of_distribution", "records": 64},
    {"name": "shift", "records": 64},
    {"name": "lira", "shadows": 4},
    *("membership", "selective", "conformal", "copies", "cost", "training_data"),
]
OF_TABLES: list[Any] = [
    {"name": "accuracy", "draws": 50},
    {**ROBUSTNESS, "carlini_wagner": {"name": "carlini_wagner", "steps": 20}, "attacks": ["spsa", "deepfool", "fab"]},
    {**ROBUSTNESS, "norm": "l2", "epsilons": [0.2, 0.5]},
    {"name": "explanations", "records": 20, "measured": 5, "shap_background": 10, "points": 16, "draws": 50},
    *("privacy", "membership", "selective", "conformal", "scales", "cost"),
]
COHORTS: dict[str, dict[str, Any]] = {
    "images": {
        "dataset": "digits",
        "model": {"name": "cnn", "channels": [8, 16], "hidden": 32},
        "evaluations": OF_IMAGES,
        "recipes": {"trained": {"training": {"epochs": 4, "learning_rate": 0.01}}},
    },
    "private images": {
        "dataset": "digits",
        "model": {"name": "cnn", "channels": [8, 16], "hidden": 32},
        "evaluations": [{"name": "accuracy", "draws": 50}, ROBUSTNESS, "privacy", "membership"],
        "recipes": {"trained": {"privacy": {"epsilon": 8}, "training": {"epochs": 2, "batch_size": 128}}},
    },
    "tables": {
        "dataset": "wdbc",
        "model": {"name": "mlp", "hidden": [16]},
        "evaluations": OF_TABLES,
        "recipes": {"trained": {"objective": {"name": "pgd", "epsilon": 0.1}, "training": {"epochs": 4}}},
    },
    "poisoned": {
        "dataset": "digits",
        "model": {"name": "cnn", "channels": [8, 16], "hidden": 32},
        "evaluations": [{"name": "accuracy", "draws": 50}, "backdoor"],
        "recipes": {
            "trained": {
                "data": [{"name": "backdoor", "target": 0}, "spectral_signatures"],
                "training": {"epochs": 4, "learning_rate": 0.01},
            }
        },
    },
    "audited": {
        "dataset": "wdbc",
        "model": {"name": "mlp", "hidden": [8]},
        "evaluations": [{"name": "accuracy", "draws": 50}, "audit"],
        "recipes": {"trained": {"privacy": {"epsilon": 4}, "training": {"epochs": 2, "batch_size": 64}}},
    },
}
TIMES = {
    "training_seconds", "training_worker_seconds", "training_records_per_second", "explanation_seconds",
    "inference_seconds",
}  # fmt: skip


def first(cohort: str) -> tuple[Trial, Dataset]:
    raw = {"name": "gpu", "split": {"folds": 2, "calibration": 0.1}, "cohorts": {"made": COHORTS[cohort]}}
    study = build_study(raw, "gpu.yaml")
    datasets = load_datasets(study)
    return plan(study, datasets)[0], datasets["made"]


def run(cohort: str) -> tuple[dict[tuple[Any, ...], Measurement], dict[str, Tensor]]:
    """What one trial says, by name and conditions, and its weights."""
    record = run_trial(*first(cohort)[:1], LocalExecutor(), first(cohort)[1])
    assert not record.failed, record.error
    found: dict[tuple[Any, ...], Measurement] = {}
    for one in record.measurements:
        conditions = {name: value for name, value in one.conditions.items() if isinstance(value, str | int)}
        told = {name: value for name, value in conditions.items() if name not in {"verdict", "message", "figure"}}
        radius = one.conditions.get("epsilon", 0)
        key = (
            one.name,
            one.status,
            radius,
            len(found) if one.name.startswith("check") else "",
            repr(sorted(told.items())),
        )
        found[key] = one
    return found, from_bytes(record.weights, "the trial")[0]


def departures(ours: dict[tuple[Any, ...], Measurement], theirs: dict[tuple[Any, ...], Measurement]) -> list[str]:
    """Figures that are further apart than two trainings that differ by rounding alone."""
    far = [f"here alone: {key}" for key in ours if key not in theirs and not key[0].startswith("check")]
    far += [f"on the CPU alone: {key}" for key in theirs if key not in ours and not key[0].startswith("check")]
    for key in ours.keys() & theirs.keys():
        one, other = ours[key].value, theirs[key].value
        if key[0] in TIMES or key[0].startswith("check") or "seconds" in key[0] or one is None or other is None:
            continue
        if abs(one - other) > max(0.06, 0.1 * abs(other)) and not (np.isnan(one) and np.isnan(other)):
            far.append(f"{key}: {one:.4g}, on the CPU {other:.4g}")
    return far


@pytest.mark.parametrize("cohort", COHORTS)
def test_a_trial_says_what_it_says_on_the_cpu(cohort: str) -> None:
    ours, weights = run(cohort)
    assert all(tensor.device.type == "cpu" for tensor in weights.values())
    with without_gpu():
        theirs, _ = run(cohort)
    assert not departures(ours, theirs)
    assert [key for key, one in ours.items() if one.status == "failed"] == []


@pytest.mark.parametrize("cohort", ["private images", "tables", "poisoned"])
def test_a_trial_that_is_repeated_says_the_same(cohort: str) -> None:
    (one, weights), (again, others) = run(cohort), run(cohort)
    assert_same_bits(weights, others)
    different = [
        key for key in one if key not in again or (one[key].value != again[key].value and "seconds" not in key[0])
    ]
    assert not [key for key in different if one[key].value == one[key].value]  # NaN is never itself


def test_weights_that_were_learnt_there_answer_the_same_on_the_cpu() -> None:
    trial, dataset = first("images")
    trained = train_trial(trial, LocalExecutor(), dataset)
    model, _ = Trained(checkpoint=trained.checkpoint).open(network_of(trial, dataset))
    assert all(weight.device.type == "cpu" for weight in model.parameters())
    x = torch.from_numpy(dataset.x[:200])
    with torch.no_grad():
        here, there = model(x), copy.deepcopy(model).to(DEVICE)(x.to(DEVICE)).cpu()
    assert torch.equal(here.argmax(1), there.argmax(1))


def test_a_checkpoint_of_the_cpu_is_measured_there() -> None:
    trial, dataset = first("tables")
    with without_gpu():
        trained = train_trial(trial, LocalExecutor(), dataset)
    found = evaluate(trial, dataset, trained, LocalExecutor())
    assert not [one.name for one in found if one.status == "failed"]


def subject(model: nn.Module, n: int = 60) -> Subject:
    digits = build("dataset", "digits").load()
    rows = np.arange(n)
    split = Split(train=np.arange(n, 2 * n), validation=rows[:0], calibration=rows[:0], test=rows)
    return Subject(
        model=model.to(DEVICE).eval(), dataset=digits, split=split, recipe=None, log=None, seed=0, device=DEVICE
    )


class Suspect(nn.Module):
    """A network behind something that hides its gradient, or answers at random."""

    def __init__(self, network: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.change = network, change

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.change(x))


SUSPECTS: dict[str, Callable[[Tensor], Tensor]] = {
    "rounds": lambda x: (10 * x).round() / 10,
    "draws": lambda x: x + 0.1 * torch.randn_like(x),
    "without gradient": lambda x: torch.from_numpy(x.detach().cpu().numpy()).to(x),
}


@pytest.mark.parametrize("name", SUSPECTS)
def test_a_suspect_is_asked_by_adaptive_attacks(name: str) -> None:
    suspect = Suspect(trained("cnn"), SUSPECTS[name])
    found = judged(build("evaluation", ROBUSTNESS).measure(subject(suspect)))
    assert not [one for one in found if one.status == "failed"]
    worst = {one.conditions["epsilon"]: one.value for one in found if one.name == "worst_case_accuracy"}
    assert worst[0.1] is not None and worst[0.1] < worst[0] - 0.05


def test_every_evaluation_that_needs_no_text_is_asked_somewhere() -> None:
    asked = {
        one if isinstance(one, str) else one["name"] for cohort in COHORTS.values() for one in cohort["evaluations"]
    }
    assert set(names("evaluation")) - asked <= {"clients", "inversion", "word_substitution", "feature_collision"}
