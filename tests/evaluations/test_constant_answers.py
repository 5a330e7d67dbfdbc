"""A model that answers one class to nearly everything is named, wherever that flatters it; an honest one is not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.evaluations.accuracy import Accuracy
from assay.evaluations.certificates import Certificates
from assay.evaluations.conformal import Conformal
from assay.evaluations.constant_answers import DIAGNOSES, ConstantAnswers, ModelAnswers, answers_of
from assay.evaluations.robustness import Robustness
from assay.evaluations.selective import Selective
from assay.evaluations.subject import Subject
from assay.results import Check, Measurement
from assay.study.beside import of_the_whole
from assay.study.measure import ask

Make = Callable[..., Subject]
One = Callable[..., Measurement]
QUICK = Robustness(steps=2, carlini_wagner={"name": "carlini_wagner", "steps": 2, "search_steps": 1})  # type: ignore[arg-type]


def constant(bias: float = 5.0) -> nn.Module:
    """ModelAnswers class 0 to every valid record."""
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.mul_(1e-3)
        model.bias.copy_(torch.tensor([bias, 0.0]))
    return model


def ill(n: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Records whose first input tells the ill from the healthy, and labels, of which that share is 1."""
    generator = np.random.default_rng(seed)
    y = (np.arange(n) < round(share * n)).astype(int)
    x = generator.normal(0, 0.3, (n, 2))
    x[:, 0] += np.where(y == 1, 1.0, -1.0)
    return x.astype(np.float32), y


class Sharp(nn.Module):
    """Answers by the sign of the first input, with a threshold."""

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(x)), 4 * (x[:, 0] - self.threshold)], 1)


def verdicts(subject: Subject) -> dict[str, str]:
    found = of_the_whole([Measurement(name="worst_case_accuracy", value=0.5), *ConstantAnswers().measure(subject)])
    checks = [one for one in found if isinstance(one, Check)]
    assert all(check.names == ("worst_case_accuracy",) for check in checks)
    return {check.rule: check.verdict for check in checks}


def test_a_constant_model_is_marked_beside_every_figure_that_it_flatters(make: Make, one: One) -> None:
    x, y = ill(120, 0.05)
    subject = make(constant(), x, y, validation=np.arange(0, 60, 2), groups=np.arange(120) // 2)
    asked = (Accuracy(draws=50), QUICK, Certificates(), Selective(draws=50), Conformal(draws=50))
    found = ask(asked, subject)
    marked = {m.name for m in found if any("the model answers 'class 0'" in flag.message for flag in m.flags)}
    assert {
        *("accuracy", "worst_case_accuracy", "robust_accuracy", "certified_accuracy", "conformal_coverage"),
        *("selective_risk", "aurc", "subgroup_accuracy", "worst_case_balanced_accuracy", "certified_balanced_accuracy"),
    } <= marked
    assert not {"balanced_accuracy", "auroc", "f1", "majority_baseline", "sensitivity"} & marked
    majority, accuracy = one(found, "majority_baseline"), one(found, "accuracy")
    assert majority.value == accuracy.value == pytest.approx(1 - y[subject.split.test].mean())
    assert one(found, "balanced_accuracy").value == 0.5


@pytest.mark.parametrize("share", [0.049, 0.3, 0.5])
def test_an_honest_model_of_rare_disease_is_not_marked(make: Make, share: float) -> None:
    x, y = ill(400, share)
    assert set(verdicts(make(Sharp(), x, y)).values()) == {"pass"}


def test_a_cautious_model_that_answers_healthy_more_often_than_is_true_is_not_constant(make: Make) -> None:
    # 4.9 % are ill; it finds seven of ten of them and answers "healthy" to 96.6 %: below the majority in nothing.
    x, y = ill(2000, 0.049)
    found = answers_of(make(Sharp(0.85), x, y))
    assert found is not None
    assert found.share > 0.95
    assert found.share > found.prevalence
    assert not found.constant
    assert not found.uninformative


@pytest.mark.parametrize(("found_ill", "verdict"), [(0, "fail"), (9, "fail"), (11, "pass"), (50, "pass")])
def test_a_model_is_constant_if_it_misses_nine_of_ten_records_of_the_other_class(
    make: Make, found_ill: int, verdict: str
) -> None:
    y = (np.arange(2000) < 100).astype(int)
    logits = np.zeros((2000, 2))
    logits[:, 0] = 1 + np.arange(2000) / 2000
    logits[:found_ill, 1] = 9
    assert verdicts(make(nn.Identity(), logits, y))["answers_one_class"] == verdict


def test_the_shares_of_the_classes_play_no_part(make: Make) -> None:
    # Trained where most are class 0, tested where few are: the constant answer is wrong mostly, and constant still.
    x, y = ill(200, 0.7)
    subject = make(constant(), x, y)
    found = answers_of(subject)
    assert found is not None
    assert (found.favourite, found.share, found.prevalence) == ("class 0", 1.0, pytest.approx(0.3))
    assert verdicts(subject)["answers_one_class"] == "fail"


def test_answers_that_records_do_not_tell_from_a_constant_are_warned_of(make: Make) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(160, 2)), np.arange(160) % 4 == 0
    assert verdicts(make(nn.Identity(), x, y.astype(int)))["answers_tell_classes"] == "warn"


def test_of_many_classes_one_may_be_absent_from_the_test_records(make: Make, one: One) -> None:
    y = np.arange(90) % 3  # of four classes, the last is in no record
    right = np.eye(4)[y]
    subject = make(nn.Identity(), right, y, classes=4)
    found = [m for m in Accuracy(draws=50).measure(subject) if isinstance(m, Measurement)]
    balanced = one(found, "balanced_accuracy")
    assert balanced.value == 1.0
    assert "3 of 4 classes" in balanced.warnings[0]
    assert one(found, "class_recall", **{"class": "class 3"}).status == "not_applicable"
    assert verdicts(subject)["answers_one_class"] == "pass"
    assert verdicts(make(nn.Identity(), np.eye(4)[np.zeros(90, int)], y, classes=4))["answers_one_class"] == "fail"


def test_test_records_of_one_class_tell_nothing_and_nobody_is_blamed(make: Make) -> None:
    x, y = ill(80, 0.5)
    subject = make(Sharp(), x, y, train=np.arange(40))  # the ill are not tested
    assert answers_of(subject) is None
    found = [m for m in Accuracy(draws=50).measure(subject) if isinstance(m, Measurement)]
    assert next(m for m in found if m.name == "balanced_accuracy").status == "not_applicable"


def test_a_constant_answer_is_named_as_the_cause_and_no_gradient_is_called_masked(make: Make) -> None:
    x, y = ill(60, 0.27)
    found = QUICK.measure(make(constant(50.0), x, y))
    raised = {f.rule for f in found if isinstance(f, Check) and f.verdict != "pass"}
    assert "constant_answer" in raised
    assert not raised & DIAGNOSES
    # Nothing was suspected, so no adaptive attack ran.
    assert not [f for f in found if isinstance(f, Measurement) and f.name == "worst_case_before_adaptive"]


def test_a_masked_model_that_tells_classes_is_still_called_masked(make: Make) -> None:
    class Stepped(Sharp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x * 2).round() / 2)

    x, y = ill(60, 0.5)
    found = QUICK.model_copy(update={"adaptive": False}).measure(make(Stepped(), x, y))
    raised = {f.rule for f in found if isinstance(f, Check) and f.verdict != "pass"}
    assert "zero_gradients" in raised
    assert "constant_answer" not in raised


def test_a_defence_that_keeps_the_healthy_and_loses_the_ill_shows(make: Make, one: One) -> None:
    # Every healthy record is far from the border, every ill one near it: accuracy hardly falls under attack.
    y = (np.arange(200) < 10).astype(int)
    x = np.stack([np.where(y == 1, 0.05, -2.0), np.linspace(-1, 1, 200)], 1)
    found = [f for f in QUICK.measure(make(Sharp(), x, y)) if isinstance(f, Measurement)]
    assert one(found, "worst_case_accuracy", epsilon=0.1).value == 0.95
    assert one(found, "worst_case_sensitivity", epsilon=0.1).value == 0.0
    assert one(found, "worst_case_specificity", epsilon=0.1).value == 1.0
    balanced = one(found, "worst_case_balanced_accuracy", epsilon=0.1)
    assert balanced.value == 0.5
    assert balanced.low < 0.5 < balanced.high
    assert one(found, "worst_case_sensitivity", epsilon=0.0).value == 1.0
    certified = [m for m in Certificates().measure(make(constant(), x, y)) if isinstance(m, Measurement)]
    assert one(certified, "certified_accuracy", epsilon=0.1).value == 0.95
    assert one(certified, "certified_balanced_accuracy", epsilon=0.1).value == 0.5


def test_ranks_that_are_worse_than_a_coin_are_warned_of(make: Make) -> None:
    x, y = ill(100, 0.4)
    for model, verdict in ((Sharp(), "pass"), (nn.Sequential(Sharp(), Swapped()), "warn")):
        subject = make(model, x, y)
        checks = [one for one in of_the_whole(Accuracy(draws=50).measure(subject)) if isinstance(one, Check)]
        assert [check.verdict for check in checks if check.rule == "ranking_above_chance"] == [verdict]


class Swapped(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return logits.flip(1)


def test_an_answer_of_nan_is_no_class(make: Make) -> None:
    x, y = ill(40, 0.5)
    subject = make(constant(), x, y)
    with torch.no_grad():
        subject.model.bias.fill_(torch.nan)  # type: ignore[union-attr, operator]
    found = answers_of(replace(subject))
    assert isinstance(found, ModelAnswers)
    assert not found.constant
