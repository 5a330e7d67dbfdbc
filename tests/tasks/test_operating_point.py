"""A threshold on a probability is a constant on a logit: decisions, attacks and certificates hold there as computed
directly, and one study judges all of them at one threshold."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from torch import nn

from assay import registry
from assay.attacks.pgd import PGD
from assay.bounds.interval import certified_by_intervals
from assay.bounds.smoothing import Smoothing, certify
from assay.errors import SpecError
from assay.evaluations.accuracy import Accuracy
from assay.evaluations.base import Evaluation
from assay.evaluations.certificates import Certificates
from assay.evaluations.robustness import Robustness
from assay.evaluations.selective import Selective
from assay.evaluations.smoothing import RandomisedSmoothing
from assay.evaluations.subject import Subject
from assay.executors import LocalExecutor
from assay.models.outputs import AtThreshold
from assay.results import Measurement
from assay.study.asking import answers_to
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.spec import Study
from assay.tasks.classification import CLASSIFICATION, Classification
from assay.tasks.operating_point import OperatingPoint
from assay.threats import Bounds, Threat
from tests.mistakes import refused

Make = Callable[..., Subject]
Tiny = Callable[..., Study]
BOUNDS = Bounds(low=torch.full((3,), -4.0), high=torch.full((3,), 4.0))
CLINIC = Classification(decide_at="operating_point", sensitivity=0.9)


@st.composite
def answered(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Logits in steps of one half, so that many tie, and labels with a positive among them."""
    n = draw(st.integers(1, 40))
    halves = st.lists(st.integers(-12, 12), min_size=2 * n + 2, max_size=2 * n + 2)
    y = np.array([1, *draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))])
    return np.array(draw(halves), np.float32).reshape(-1, 2).astype(float) / 2, y


@given(answered(), st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_decisions_are_those_of_the_probability(case: tuple[np.ndarray, np.ndarray], sensitivity: float) -> None:
    logits, y = case
    point = OperatingPoint.reaching(sensitivity, logits, y)
    # Nothing lies between a step of one half and a rounding error.
    direct = softmax(logits, 1)[:, 1] >= point.threshold - 1e-9
    for told in (logits, torch.from_numpy(logits), torch.from_numpy(logits).float()):
        assert (np.asarray(CLASSIFICATION.decide(point.shifted(told))) == 1).tolist() == direct.tolist()
    assert direct[y == 1].mean() >= sensitivity


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))


def folded(model: nn.Sequential, shift: float) -> nn.Sequential:
    """The same threshold as a part of the last layer's own bias."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[-1].bias[1] += shift
    return other


def records(n: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(n) % 2
    return (torch.randn(n, 3, generator=generator) + y[:, None] - 0.5).clamp(-4, 4), y


@pytest.mark.parametrize("shift", [-1.5, 0.0, 0.25, 4.0])
def test_certificates_and_attacks_hold_at_the_threshold(shift: float) -> None:
    model, (x, y) = network(), records()
    wrapped, direct = AtThreshold(model, shift).eval(), folded(model, shift).eval()
    threshold = 1 / (1 + np.exp(shift))
    with torch.no_grad():
        told = model(x).softmax(1)[:, 1] >= threshold
        assert torch.equal(wrapped(x).argmax(1) == 1, told)
    for epsilon in (0.0, 0.05, 0.2):
        threat = Threat(norm="linf", epsilon=epsilon, bounds=BOUNDS)
        proven = certified_by_intervals(wrapped, x, y, threat)
        assert torch.equal(proven, certified_by_intervals(direct, x, y, threat)), "no looser for the constant"
        fooled = PGD(steps=10, loss="margin").run(wrapped, x, y, threat, seed=0).fooled
        assert torch.equal(fooled, PGD(steps=10, loss="margin").run(direct, x, y, threat, seed=0).fooled)
        assert not bool((proven & fooled).any())
        if epsilon == 0:
            assert torch.equal(fooled, told != (y == 1))
    smoothing = Smoothing(sigma=0.3, samples=200, selection_samples=50, alpha=0.01)
    found, expected = (certify(m, x[:10], BOUNDS, smoothing, seed=0, names=range(10)) for m in (wrapped, direct))
    assert found.answer.tolist() == expected.answer.tolist() and found.radius.tolist() == expected.radius.tolist()


def test_a_bound_behind_a_constant_is_sound_in_single_precision() -> None:
    """The constant is large beside the difference of the logits: rounding it must not prove what is not so."""
    model, (x, y) = network(), records(400)
    with torch.no_grad():
        lead = (model(x) @ torch.tensor([-1.0, 1.0])).double()
    for place in range(40):
        wrapped = AtThreshold(model, -float(lead[place])).eval()
        for epsilon in (0.0, 1e-7, 1e-6):
            threat = Threat(norm="linf", epsilon=epsilon, bounds=BOUNDS)
            proven = certified_by_intervals(wrapped, x, y, threat)
            moved = threat.project(x + epsilon * torch.randn_like(x).sign(), x)
            with torch.no_grad():
                assert not bool((proven & CLASSIFICATION.wrong(wrapped(moved), y)).any())


def subject_of(make: Make, task: Classification) -> Subject:
    x, y = records()
    return make(network(3).eval(), x.numpy(), y.numpy(), validation=np.arange(60), task=task)


def named(found: list[Any], name: str, **conditions: Any) -> Measurement:
    (row,) = [
        one
        for one in found
        if isinstance(one, Measurement) and one.name == name and conditions.items() <= {**one.conditions}.items()
    ]
    return row


def test_all_figures_are_judged_at_the_threshold_that_validation_records_chose(make: Make) -> None:
    subject = subject_of(make, CLINIC)
    held, test = subject.split.validation, subject.split.test
    scores = softmax(subject.logits(held), 1)[:, 1]
    positives = np.sort(scores[subject.dataset.y[held] == 1])[::-1]
    threshold = positives[int(np.ceil(0.9 * len(positives))) - 1]
    told = softmax(subject.logits(test), 1)[:, 1] >= threshold
    y = subject.dataset.y[test] == 1
    assert (told != (subject.logits(test).argmax(1) == 1)).any(), "the threshold decides something"
    radii = (0.1, 0.3)
    accuracy = answers_to(Accuracy(sensitivity=0.9, draws=50), subject)
    robust = answers_to(Robustness(epsilons=radii, steps=5, carlini_wagner={"steps": 5, "search_steps": 1}), subject)
    certified = answers_to(Certificates(epsilons=radii), subject)
    smoothed = answers_to(RandomisedSmoothing(sigma=0.1, samples=50, judging_samples=50, epsilons=(0.05,)), subject)
    assert named(accuracy, "accuracy").value == (told == y).mean()
    assert named(accuracy, "sensitivity").value == told[y].mean()
    assert named(accuracy, "sensitivity").conditions["threshold"] == pytest.approx(threshold)
    assert named(accuracy, "recall").value == pytest.approx(told[y].mean())
    assert "threshold" not in named(accuracy, "auroc").conditions
    for name, expected in (("sensitivity", told[y].mean()), ("specificity", (~told[~y]).mean())):
        clean = named(robust, f"worst_case_{name}", epsilon=0.0)
        assert clean.value == named(accuracy, name).value == expected
        assert clean.conditions["threshold"] == named(accuracy, name).conditions["threshold"]
        for epsilon in radii:
            withstood = named(robust, f"worst_case_{name}", epsilon=epsilon)
            assert named(certified, f"certified_{name}", epsilon=epsilon).value <= withstood.value <= clean.value
    rows = [
        row for row in (*robust, *certified, *smoothed) if isinstance(row, Measurement) and row.status == "measured"
    ]
    assert {row.conditions["decided_at"] for row in rows} == {"operating point"}
    failed = [row for row in robust if getattr(row, "rule", "") in ("clean_at_zero", "certified_is_never_fooled")]
    assert failed and all(check.verdict == "pass" for check in failed)


def test_what_reads_probabilities_knows_no_threshold(make: Make) -> None:
    usual, clinic = (subject_of(make, task) for task in (CLASSIFICATION, CLINIC))
    auroc = [named(answers_to(Accuracy(draws=50), one), "auroc") for one in (usual, clinic)]
    assert auroc[0] == auroc[1]
    rows = np.arange(20)
    assert np.array_equal(*(one.task.fits(one.logits(rows), one.dataset.y[rows]) for one in (usual, clinic)))


@pytest.mark.parametrize("name", registry.names("evaluation"))
def test_an_evaluation_that_reads_no_decisions_answers_alike(make: Make, name: str) -> None:
    evaluation = registry.build("evaluation", name)
    assert isinstance(evaluation, Evaluation)
    # Those that train are asked in the tests of their own.
    if evaluation.looks_at != "probabilities" or name in ("lira", "audit"):
        return
    usual, clinic = (answers_to(evaluation, subject_of(make, task)) for task in (CLASSIFICATION, CLINIC))
    assert [repr(row) for row in usual] == [repr(row) for row in clinic]


def test_confidence_is_counted_from_the_threshold(make: Make) -> None:
    """Where little speaks for the answer that is given, it is the first to be left out."""
    subject = subject_of(make, CLINIC)
    point, logits = subject.point, subject.logits(subject.split.test)
    assert point is not None
    lead = np.abs(logits[:, 1] - logits[:, 0] + point.shift)
    wrong = subject.wrong(logits, subject.dataset.y[subject.split.test])
    sure = np.argsort(-lead)[: int(np.ceil(0.5 * len(lead)))]
    found = answers_to(Selective(coverages=(0.5,), draws=50), subject)
    assert named(found, "selective_risk", coverage=0.5).value == pytest.approx(wrong[sure].mean())


def test_without_a_threshold_the_model_is_asked_as_it_is(make: Make) -> None:
    subject = subject_of(make, CLASSIFICATION)
    assert subject.decided is subject and subject.decided_at == {}
    logits = subject.logits(subject.split.test)
    assert subject.at_threshold(logits) is logits


def test_a_model_that_takes_another_ones_place_has_a_threshold_of_its_own(make: Make) -> None:
    subject = subject_of(make, CLINIC)
    other = replace(subject, model=network(5).eval())
    assert subject.point is not None and other.point is not None
    assert subject.point.threshold != other.point.threshold


class Silent(nn.Module):
    """Answers the first record with NaN."""

    def __init__(self, first: torch.Tensor) -> None:
        super().__init__()
        self.network, self.first = network(3), first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(x)
        return logits.masked_fill((x == self.first).all(1, keepdim=True), torch.nan)


@pytest.mark.parametrize("validation", ["none", "negatives", "silent"])
def test_where_no_threshold_can_be_chosen_it_is_one_half_and_says_so(make: Make, validation: str) -> None:
    x, y = records()
    held = {"none": [], "negatives": np.flatnonzero(y == 0)[:9], "silent": np.arange(9)}[validation]
    model = Silent(x[0]) if validation == "silent" else network(3)
    subject = make(model.eval(), x.numpy(), y.numpy(), validation=held, task=CLINIC)
    row = named(answers_to(Accuracy(sensitivity=0.9, draws=50), subject), "accuracy")
    assert (row.conditions["decided_at"], row.conditions["threshold"]) == ("fixed threshold", 0.5)
    assert any("the threshold is 0.5, not an operating point" in told for told in row.warnings)


def test_a_whole_trial_is_judged_there(tiny: Tiny) -> None:
    asked = [
        {"name": "accuracy", "draws": 50},
        {"name": "robustness", "epsilons": [0.1], "steps": 3, "carlini_wagner": {"steps": 3, "search_steps": 1}},
        {"name": "certificates", "epsilons": [0.1]},
        "selective",
        "shift",
        "explanations",
    ]
    task = {"name": "classification", "decide_at": "operating_point"}
    study = tiny({"standard": {"training": {"epochs": 8}}}, {"evaluations": asked, "task": task})
    datasets = load_datasets(study)
    record = run_trial(plan(study, datasets)[0], LocalExecutor(), datasets["made"])
    assert not record.error
    frame = pd.DataFrame([{"name": m.name, "value": m.value, **m.conditions} for m in record.measurements])
    for name in ("sensitivity", "specificity"):
        (clean,) = frame[frame["name"] == name]["value"]
        (robust,) = frame[(frame["name"] == f"worst_case_{name}") & (frame["epsilon"] == 0)]["value"]
        assert clean == robust
    assert frame["threshold"].dropna().nunique() >= 1
    assert (frame[frame["name"] == "robust_accuracy"]["decided_at"] == "operating point").all()


def test_there_is_one_operating_point(tiny: Tiny) -> None:
    task = {"name": "classification", "decide_at": "operating_point", "sensitivity": 0.9}
    other = {"name": "accuracy", "sensitivity": 0.95}
    with refused(SpecError, "cohorts.made.accuracy.sensitivity", 0.95, 0.9):
        tiny({"standard": {}}, {"task": task, "evaluations": [other]})
    with refused(SpecError, "cohorts.made.accuracy.sensitivity", 0.95, 0.9):
        selected = [{"recipes": ["standard"], "evaluations": [other]}]
        tiny({"standard": {}}, {"task": task, "evaluations": ["cost"], "selected_evaluations": selected})
    # An evaluation that states none takes that of the task.
    tiny({"standard": {}}, {"task": task})
    tiny({"standard": {}}, {"task": task, "evaluations": [{"name": "accuracy", "sensitivity": 0.9}]})
    tiny({"standard": {}}, {"task": {**task, "decide_at": "most_likely"}})
