"""Each rule of evidence catches a model made to deceive, and leaves an honest one in peace."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.evaluations import checks, robustness
from assay.evaluations.base import Subject
from assay.evaluations.certificates import Certificates
from assay.evaluations.robustness import Robustness
from assay.results import Check, Measurement, judged

Make = Callable[..., Subject]
One = Callable[..., Measurement]

RULES = (
    "clean_at_zero",
    "monotone_in_epsilon",
    "unbounded_attack",
    "step_doubling",
    "noise_against_white_box",
    "finite_outputs",
    "gradient_masking",
    "certified_is_never_fooled",
    "zero_gradients",
    "probability_outputs",
    "randomised_forward",
    "train_mode",
)


def measure(subject: Subject, *, training: bool = False, **settings: object) -> list[Measurement]:
    quick = {"steps": 2, "search_steps": 1}
    subject.model.train(training)
    asked = Robustness(**{"epsilons": (0.1, 0.3), "carlini_wagner": quick, **settings})
    return judged(asked.measure(subject))


def quantised(x: Tensor) -> Tensor:
    return torch.round(x * 2) / 2


def raised(found: list[Measurement]) -> set[str]:
    """Names of the rules that did not pass."""
    rows = [m for m in found if m.name.startswith("check.") and m.conditions["verdict"] != "pass"]
    return {m.name.removeprefix("check.") for m in rows}


class Before(nn.Module):
    """A network behind something done to its inputs."""

    def __init__(self, change: Callable[[Tensor], Tensor], network: nn.Module) -> None:
        super().__init__()
        self.change, self.network = change, network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.change(x))


class After(Before):
    """A network with something done to its outputs."""

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.network(x))


class Bands(nn.Module):
    """Class 1 where a wave of one input is low, between about 0.52 and 1.05 and its mirror image."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([torch.cos(4 * x[:, 0]) + 0.5, torch.zeros(len(x))], dim=1)


@pytest.fixture
def waves(make: Make) -> Subject:
    """A hundred records of class 0 on the crest of the wave, and one of class 1 that is wrong from the start."""
    about = {"low": np.full(1, -9, np.float32), "high": np.full(1, 9, np.float32)}
    return make(Bands(), np.full((101, 1), 0.05), np.arange(101) == 100, about=about)


@pytest.fixture
def subject(make: Make, trained: nn.Module, wdbc: Dataset) -> Callable[[nn.Module], Subject]:
    about = {"low": wdbc.low, "high": wdbc.high}
    return lambda model: make(model, wdbc.x[::6], wdbc.y[::6], about=about)


def test_an_honest_model_passes_every_rule(subject: Callable[..., Subject], trained: nn.Module) -> None:
    found = measure(subject(trained), steps=20)
    assert {m.name.removeprefix("check.") for m in found if m.name.startswith("check.")} == set(RULES)
    assert raised(found) == set()
    assert all(m.warnings == () for m in found if m.name in ("robust_accuracy", "worst_case_accuracy"))


def test_a_quantising_layer_is_caught(subject: Callable[..., Subject], trained: nn.Module) -> None:
    found = measure(subject(Before(quantised, trained)), epsilons=(1.0,))
    assert {"zero_gradients", "unbounded_attack", "noise_against_white_box"} <= raised(found)


def test_probabilities_instead_of_logits_are_caught(subject: Callable[..., Subject], trained: nn.Module) -> None:
    assert raised(measure(subject(After(lambda logits: logits.softmax(1), trained)))) >= {"probability_outputs"}


def test_a_randomised_layer_is_caught(subject: Callable[..., Subject], trained: nn.Module) -> None:
    torch.manual_seed(0)
    found = measure(subject(Before(lambda x: x + 0.5 * torch.randn_like(x), trained)))
    assert "randomised_forward" in raised(found)


def test_train_mode_is_caught(subject: Callable[..., Subject], trained: nn.Module) -> None:
    assert raised(measure(subject(trained), steps=20, training=True)) == {"train_mode"}


def test_an_attack_without_enough_steps_is_caught(waves: Subject) -> None:
    # One step of 1.5 leaps over the trough; a random start falls into it one time in three.
    assert "step_doubling" in raised(measure(waves, epsilons=(1.5,), steps=1))
    assert "step_doubling" not in raised(measure(waves, epsilons=(1.5,), steps=20))


def test_numbers_that_are_none_are_caught(make: Make) -> None:
    class Fragile(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = torch.cat([x, -x], dim=1)
            return torch.where(x < -0.2, torch.nan, logits)

    x = np.linspace(-0.1, 0.4, 20)[:, None]
    found = measure(make(Fragile(), x, x[:, 0] < 0), epsilons=(0.3, 0.5))
    assert "finite_outputs" in raised(found)


def test_saturated_logits_hide_gradients_from_cross_entropy_alone(
    subject: Callable[..., Subject], trained: nn.Module, one: One
) -> None:
    # What distillation does: the same answers, with logits so large that the softmax has no gradient left.
    found = measure(subject(After(lambda logits: 1000 * logits, trained)), epsilons=(0.5,), steps=20)
    for attack in ("fgsm", "pgd_cross_entropy"):
        assert one(found, "check.gradient_masking", attack=attack).conditions["verdict"] == "warn"
        hidden = one(found, "robust_accuracy", attack=attack, epsilon=0.5)
        assert any("gradients are masked" in warning for warning in hidden.warnings)
    assert one(found, "robust_accuracy", attack="pgd_margin", epsilon=0.5).warnings == ()


def test_a_broken_certificate_is_caught_and_stands_on_certified_accuracy(
    subject: Callable[..., Subject], trained: nn.Module, one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robustness, "proven_right", lambda model, x, y, threat: torch.ones(len(x), dtype=torch.bool))
    given = subject(trained.eval())
    asked = Robustness(epsilons=(0.5,), carlini_wagner={"steps": 2, "search_steps": 1})
    found = judged([*asked.measure(given), *Certificates(epsilons=(0.5,)).measure(given)])
    check = one(found, "check.certified_is_never_fooled")
    assert (check.conditions["verdict"], check.value > 0) == ("fail", True)
    assert any("certified records were fooled" in w for w in one(found, "certified_accuracy").warnings)


def test_what_a_euclidean_attack_fools_within_the_radius_counts_against_a_certificate(
    subject: Callable[..., Subject], trained: nn.Module, one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = subject(trained.eval())
    clean = given.model(given.records(given.split.test)[0]).argmax(1) == given.records(given.split.test)[1]
    monkeypatch.setattr(robustness, "proven_right", lambda model, x, y, threat: clean)
    monkeypatch.setattr(robustness, "worst_case", lambda curves: dict.fromkeys((0.0, 3.0), ~clean))
    asked = Robustness(epsilons=(3.0,), carlini_wagner={"steps": 30, "search_steps": 3})
    assert one(judged(asked.measure(given)), "check.certified_is_never_fooled").conditions["verdict"] == "fail"


def test_a_curve_that_rises_again_is_caught(waves: Subject, one: One) -> None:
    # One step of 0.8 ends in the trough, one of 1.6 on the next crest.
    found = measure(waves, epsilons=(0.8, 1.6), steps=20)
    assert one(found, "check.monotone_in_epsilon", attack="fgsm").conditions["verdict"] == "warn"
    assert one(found, "check.monotone_in_epsilon", attack="pgd_margin").conditions["verdict"] == "pass"
    weak = one(found, "robust_accuracy", attack="fgsm", epsilon=1.6)
    assert any("accuracy under fgsm rises" in warning for warning in weak.warnings)
    assert one(found, "worst_case_accuracy", epsilon=1.6).value == 0


def test_a_dip_of_one_attack_stands_beside_that_attack_alone(waves: Subject, one: One) -> None:
    found = measure(waves, epsilons=(0.8, 1.6), steps=20)
    assert one(found, "robust_accuracy", attack="pgd_margin", epsilon=1.6).warnings == ()


def test_warnings_stand_on_the_figure_they_concern(subject: Callable[..., Subject], trained: nn.Module) -> None:
    found = measure(subject(Before(quantised, trained)), epsilons=(1.0,))
    worst = [m for m in found if m.name == "worst_case_accuracy"]
    for rule in ("zero_gradients", "unbounded_attack", "noise_against_white_box"):
        (check,) = (m for m in found if m.name == f"check.{rule}")
        assert check.conditions["concerns"] == "worst_case_accuracy"
        assert all(f"fail: {check.warnings[0]}" in m.warnings for m in worst)
    assert all(m.warnings == () for m in found if m.name == "robust_accuracy")


T, F = True, False


@pytest.mark.parametrize(
    ("check", "verdict", "figure"),
    [
        (checks.clean_at_zero(0.9, [0.9, 0.9]), "pass", 0.0),
        (checks.clean_at_zero(0.9, [0.9, 0.8]), "fail", 0.1),
        (checks.clean_at_zero(0.8, [0.8, 0.9]), "fail", 0.1),
        (checks.monotone("fgsm", [0.9, 0.5, 0.1]), "pass", 0.0),
        (checks.monotone("fgsm", [0.9, 0.5, 0.505]), "pass", 0.005),
        (checks.monotone("fgsm", [0.9, 0.5, 0.6, 0.4]), "warn", 0.1),
        (checks.monotone("fgsm", [0.9]), "pass", 0.0),
        (checks.unbounded_attack_wins(0.05), "pass", 0.05),
        (checks.unbounded_attack_wins(0.06), "fail", 0.06),
        (checks.step_doubling(torch.tensor([T, F]), torch.tensor([T, F]), 0.1), "pass", 0.0),
        (checks.step_doubling(torch.tensor([T, F]), torch.tensor([F, F]), 0.1), "pass", 0.0),
        (checks.step_doubling(torch.tensor([T, F]), torch.tensor([F, T]), 0.1), "warn", 0.5),
        (checks.noise_loses(torch.tensor([T, F]), torch.tensor([T, F]), 0.1), "pass", 0.0),
        (checks.noise_loses(torch.tensor([T, F]), torch.tensor([F, T]), 0.1), "fail", 0.5),
        (checks.losses_agree("fgsm", 0.9, 0.80, 0.76, 0.1), "pass", 0.04),
        (checks.losses_agree("fgsm", 0.9, 0.80, 0.70, 0.1), "warn", 0.1),
        (checks.losses_agree("fgsm", 0.9, 0.70, 0.80, 0.1), "pass", 0.0),
        (checks.certified_is_never_fooled(torch.tensor([T, F]), torch.tensor([F, T]), 0.1), "pass", 0.0),
        (checks.certified_is_never_fooled(torch.tensor([T, T]), torch.tensor([F, T]), 0.1), "fail", 1.0),
        (checks.invalid_outputs(0), "pass", 0.0),
        (checks.invalid_outputs(3), "fail", 3.0),
    ],
)
def test_verdicts_follow_the_figures(check: Check, verdict: str, figure: float) -> None:
    assert check.verdict == verdict
    assert check.figure == pytest.approx(figure)


def test_a_record_without_gradient_is_counted_alone() -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x[:, :1] > 0, x, x.detach().round())

    x, y = torch.tensor([[1.0, 2.0], [-1.0, 2.0], [1.0, 3.0], [2.0, 3.0]]), torch.tensor([0, 0, 1, 1])
    found = {check.rule: check for check in checks.model_behaviour(Half().eval(), x, y)}
    assert (found["zero_gradients"].figure, found["zero_gradients"].verdict) == (0.25, "fail")


def test_logits_that_happen_to_sum_to_one_are_no_probabilities() -> None:
    class Signed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, 1 - x], dim=1)

    y = torch.zeros(3, dtype=torch.long)
    outside, inside = torch.tensor([[0.2], [2.0], [0.5]]), torch.tensor([[0.2], [0.9], [0.5]])
    for x, verdict in ((outside, "pass"), (inside, "warn")):
        found = {check.rule: check for check in checks.model_behaviour(Signed().eval(), x, y)}
        assert found["probability_outputs"].verdict == verdict


def test_every_verdict_can_be_stored_whatever_the_model_answers() -> None:
    class Endless(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.tensor([math.inf, math.nan])

    x, y = torch.ones(3, 2), torch.zeros(3, dtype=torch.long)
    rows = [check.measurement() for check in checks.model_behaviour(Endless().eval(), x, y)]
    assert len(rows) == 4
