"""Each rule of evidence catches a model made to deceive, and leaves an honest one in peace."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks.pgd import PGD
from assay.data.base import Dataset
from assay.evaluations import checks, model_checks, robustness_checks
from assay.evaluations.certificates import Certificates
from assay.evaluations.robustness import Robustness
from assay.evaluations.subject import Subject
from assay.results import Check, Measurement, judged
from assay.threats import Bounds, Threat

Make = Callable[..., Subject]
One = Callable[..., Measurement]

RULES = (
    "clean_beside_robust",
    "clean_at_zero",
    "monotone_in_epsilon",
    "unbounded_attack",
    "stronger_attack",
    "true_slopes",
    "step_size",
    "boundary_reached",
    "black_box_against_white_box",
    "black_box_on_survivors",
    "finite_outputs",
    "gradient_masking",
    "certified_is_never_fooled",
    "zero_gradients",
    "probability_outputs",
    "randomised_forward",
    "batch_dependence",
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
    rows = [m for m in found if m.name.startswith("check.") and m.verdict != "pass"]
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
    assert {"zero_gradients", "unbounded_attack", "black_box_against_white_box"} <= raised(found)


def test_probabilities_instead_of_logits_are_caught(subject: Callable[..., Subject], trained: nn.Module) -> None:
    assert raised(measure(subject(After(lambda logits: logits.softmax(1), trained)))) >= {"probability_outputs"}


def test_a_randomised_layer_is_caught(subject: Callable[..., Subject], trained: nn.Module) -> None:
    torch.manual_seed(0)
    found = measure(subject(Before(lambda x: x + 0.5 * torch.randn_like(x), trained)))
    assert "randomised_forward" in raised(found)


def test_train_mode_is_caught(subject: Callable[..., Subject], trained: nn.Module) -> None:
    assert raised(measure(subject(trained), steps=20, training=True)) == {"train_mode"}


def test_a_model_that_answers_at_random_is_clean_at_zero_as_an_honest_one_is(
    subject: Callable[..., Subject], trained: nn.Module, one: One
) -> None:
    """Over single draws it would not be: a union over attacks counts the unlucky draws of each."""
    found = measure(subject(Before(lambda x: nn.functional.dropout(x, 0.5, training=True), trained)), steps=5)
    clean = one(found, "check.clean_at_zero")
    assert (clean.value, clean.verdict) == (0.0, "pass")
    single = {m.value for m in found if m.name == "robust_accuracy" and m.conditions["epsilon"] == 0}
    worst = one(found, "worst_case_accuracy", epsilon=0.0)
    assert single == {worst.value}
    assert worst.conditions["judged_by"] == "the mean of 16 passes"
    assert not any(m.name == "check.certified_is_never_fooled" for m in found)


def test_the_statistics_of_a_model_that_was_left_in_training_do_not_move(
    subject: Callable[..., Subject], trained: nn.Module
) -> None:
    norm = nn.BatchNorm1d(30)
    model = nn.Sequential(norm, trained)
    given = subject(model)
    used = measure(given)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    left = measure(given, training=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(layer.training for layer in model.modules())
    assert "train_mode" in raised(left)
    assert [m.value for m in left if m.name == "worst_case_accuracy"] == [
        m.value for m in used if m.name == "worst_case_accuracy"
    ]


def test_nothing_is_certified_of_a_model_that_answers_at_random(
    subject: Callable[..., Subject], trained: nn.Module
) -> None:
    given = subject(Before(lambda x: nn.functional.dropout(x, 0.5, training=True), trained).eval())
    for m in judged(Certificates(epsilons=(0.1,)).measure(given)):
        assert (m.status, m.warnings) == (
            "not_applicable",
            ("the model answers at random, so a bound of one answer holds for no other",),
        )


def test_an_attack_without_enough_steps_is_caught(waves: Subject) -> None:
    # One step of 1.5 leaps over the trough; a random start falls into it one time in three.
    assert "stronger_attack" in raised(measure(waves, epsilons=(1.5,), steps=1))
    assert "stronger_attack" not in raised(measure(waves, epsilons=(1.5,), steps=20))


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
        assert one(found, "check.gradient_masking", attack=attack).verdict == "warn"
        hidden = one(found, "robust_accuracy", attack=attack, epsilon=0.5)
        assert any("gradients are masked" in flag.message for flag in hidden.flags)
    assert one(found, "robust_accuracy", attack="pgd_margin", epsilon=0.5).warnings == ()


def test_a_broken_certificate_is_caught_and_stands_on_certified_accuracy(
    subject: Callable[..., Subject], trained: nn.Module, one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robustness_checks, "proven_right", lambda model, x, y, threat, task: torch.ones(len(x)).bool())
    given = subject(trained.eval())
    asked = Robustness(epsilons=(0.5,), carlini_wagner={"steps": 2, "search_steps": 1})
    found = judged([*asked.measure(given), *Certificates(epsilons=(0.5,)).measure(given)])
    check = one(found, "check.certified_is_never_fooled")
    assert (check.verdict, check.value > 0) == ("fail", True)
    assert any("certified records were fooled" in flag.message for flag in one(found, "certified_accuracy").flags)


def test_what_a_euclidean_attack_fools_within_the_radius_counts_against_a_certificate(
    subject: Callable[..., Subject], trained: nn.Module, one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = subject(trained.eval())
    clean = given.model(given.records(given.split.test)[0]).argmax(1) == given.records(given.split.test)[1]
    monkeypatch.setattr(robustness_checks, "proven_right", lambda model, x, y, threat, task: clean)
    monkeypatch.setattr(robustness_checks, "worst_case", lambda curves: dict.fromkeys((0.0, 3.0, float("inf")), ~clean))
    asked = Robustness(epsilons=(3.0,), carlini_wagner={"steps": 30, "search_steps": 3})
    assert one(judged(asked.measure(given)), "check.certified_is_never_fooled").verdict == "fail"


def test_a_curve_that_rises_again_is_caught(waves: Subject, one: One) -> None:
    # One step of 0.8 ends in the trough, one of 1.6 on the next crest.
    found = measure(waves, epsilons=(0.8, 1.6), steps=20)
    assert one(found, "check.monotone_in_epsilon", attack="fgsm").verdict == "warn"
    assert one(found, "check.monotone_in_epsilon", attack="pgd_margin").verdict == "pass"
    weak = one(found, "robust_accuracy", attack="fgsm", epsilon=1.6)
    assert any("accuracy under fgsm rises" in flag.message for flag in weak.flags)
    assert one(found, "worst_case_accuracy", epsilon=1.6).value == 0


def test_a_dip_of_one_attack_stands_beside_that_attack_alone(waves: Subject, one: One) -> None:
    found = measure(waves, epsilons=(0.8, 1.6), steps=20)
    assert one(found, "robust_accuracy", attack="pgd_margin", epsilon=1.6).warnings == ()


def test_warnings_stand_on_the_figure_they_concern(subject: Callable[..., Subject], trained: nn.Module) -> None:
    found = measure(subject(Before(quantised, trained)), epsilons=(1.0,), adaptive=False)
    worst = [m for m in found if m.name == "worst_case_accuracy"]
    for rule in ("zero_gradients", "unbounded_attack", "black_box_against_white_box"):
        rows = [m for m in found if m.name == f"check.{rule}"]
        failed = [m for m in rows if m.verdict == "fail"]
        assert failed
        assert {m.concerns for m in rows} == {("worst_case_accuracy",)}
        assert all(check.warnings[0] in [flag.message for flag in m.flags] for m in worst for check in failed)
    for curve in (m for m in found if m.name == "robust_accuracy"):
        # PGD says itself that it did not move; of its verdicts none stands on another attack.
        assert all(curve.conditions["attack"] in warning for warning in curve.warnings)


T, F = True, False


def some(count: int) -> Tensor:
    """The first so many of a hundred records."""
    return torch.arange(100) < count


@pytest.mark.parametrize(
    ("check", "verdict", "figure"),
    [
        (checks.clean_at_zero(0.9, [0.9, 0.9], records=100), "pass", 0.0),
        (checks.clean_at_zero(0.9, [0.9, 0.89], records=100), "pass", 0.01),
        (checks.clean_at_zero(0.9, [0.91, 0.89], records=100), "fail", 0.02),
        (checks.clean_at_zero(0.9, [0.9, 0.8], records=100), "fail", 0.1),
        (checks.clean_at_zero(0.8, [0.8, 0.9], records=100), "fail", 0.1),
        (checks.monotone("fgsm", [0.9, 0.5, 0.1]), "pass", 0.0),
        (checks.monotone("fgsm", [0.9, 0.5, 0.505]), "pass", 0.005),
        (checks.monotone("fgsm", [0.9, 0.5, 0.6, 0.4]), "warn", 0.1),
        (checks.monotone("fgsm", [0.9]), "pass", 0.0),
        (checks.unbounded_attack_wins(0.05), "pass", 0.05),
        (checks.unbounded_attack_wins(0.06), "fail", 0.06),
        (checks.black_box_loses("random_noise", some(50), some(50), 0.1), "pass", 0.0),
        (checks.black_box_loses("random_noise", some(50), some(51), 0.1), "fail", 0.01),
        (checks.black_box_loses("square", some(50), some(55), 0.1), "pass", 0.05),
        (checks.black_box_loses("square", some(50), some(56), 0.1), "warn", 0.06),
        (checks.black_box_loses("transfer", some(50), some(60), 0.1), "warn", 0.1),
        (checks.black_box_loses("transfer", some(50), some(61), 0.1), "fail", 0.11),
        (checks.black_box_loses("square", some(50), some(20), 0.1), "pass", 0.0),
        (checks.larger_step("pgd", some(50), some(50), 0.1), "pass", 0.0),
        (checks.larger_step("pgd", some(50), some(51), 0.1), "warn", 0.01),
        (checks.boundary_reached("pgd", torch.tensor([0.1, 0.6, 1.0]), 0.1), "pass", 0.6),
        (checks.boundary_reached("pgd", torch.tensor([0.1, 0.4, 1.0]), 0.1), "warn", 0.4),
        (checks.boundary_reached("pgd", torch.empty(0), 0.1), "pass", 1.0),
        (checks.clean_beside_robust({"pgd": [0.0, 0.1], "fgsm": [0.0]}), "pass", 0.0),
        (checks.clean_beside_robust({"pgd": [0.0, 0.1], "fgsm": [0.1], "square": []}), "fail", 2.0),
        (checks.unbounded_attack_wins(0.06, fixed=True), "warn", 0.06),
        (model_checks.randomised_forward(0.0), "pass", 0.0),
        (model_checks.randomised_forward(1e-6), "warn", 1e-6),
        (model_checks.batch_dependence(0.09, 0.0, 10.0), "pass", 0.09),
        (model_checks.batch_dependence(0.2, 0.0, 10.0), "fail", 0.2),
        (model_checks.batch_dependence(3.0, 1.5, 10.0), "pass", 0.0),
        (checks.losses_agree("fgsm", "cross_entropy", 0.9, {"cross_entropy": 0.80, "margin": 0.71}, 0.1), "pass", 0.09),
        (checks.losses_agree("fgsm", "cross_entropy", 0.9, {"cross_entropy": 0.80, "margin": 0.6}, 0.1), "warn", 0.2),
        (checks.losses_agree("fgsm", "cross_entropy", 0.9, {"cross_entropy": 0.70, "margin": 0.80}, 0.1), "pass", 0.0),
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
    found = {check.rule: check for check in model_checks.model_behaviour(Half().eval(), x, y)}
    assert (found["zero_gradients"].figure, found["zero_gradients"].verdict) == (0.25, "fail")


def test_logits_that_happen_to_sum_to_one_are_no_probabilities() -> None:
    class Signed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, 1 - x], dim=1)

    y = torch.zeros(3, dtype=torch.long)
    outside, inside = torch.tensor([[0.2], [2.0], [0.5]]), torch.tensor([[0.2], [0.9], [0.5]])
    for x, verdict in ((outside, "pass"), (inside, "warn")):
        found = {check.rule: check for check in model_checks.model_behaviour(Signed().eval(), x, y)}
        assert found["probability_outputs"].verdict == verdict


def test_every_verdict_can_be_stored_whatever_the_model_answers() -> None:
    class Endless(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.tensor([math.inf, math.nan])

    x, y = torch.ones(3, 2), torch.zeros(3, dtype=torch.long)
    rows = [check.measurement() for check in model_checks.model_behaviour(Endless().eval(), x, y)]
    assert len(rows) == 4


def test_a_certificate_that_holds_with_confidence_may_be_refuted_by_chance_and_no_more() -> None:
    verdicts = [
        checks.certified_is_never_fooled(
            some(100), some(refuted), 0.1, method="randomised smoothing", confidence=confidence
        ).verdict
        for refuted, confidence in ((0, 0.99), (3, 0.99), (6, 0.99), (1, 0.99999), (1, 1.0))
    ]
    assert verdicts == ["pass", "pass", "fail", "fail", "fail"]


def test_a_refuted_certificate_stands_beside_its_own_method() -> None:
    check = checks.certified_is_never_fooled(some(9), some(9), 0.1, method="randomised smoothing", confidence=0.99)
    mine, other = (
        Measurement(name="certified_accuracy", value=0.5, conditions={"method": method})
        for method in ("randomised smoothing", "interval bounds")
    )
    assert (check.judges(mine), check.judges(other)) == (True, False)


def test_a_confident_model_without_fault_is_not_blind() -> None:
    # Logits so far apart that cross-entropy has no gradient left in float32; their margin has.
    model, x, y = nn.Linear(2, 2).eval(), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0, 0])
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[500.0, 0.0], [0.0, 0.0]]))
    point = x.clone().requires_grad_(True)
    assert not torch.autograd.grad(torch.nn.functional.cross_entropy(model(point), y), point)[0].any()
    found = {check.rule: check for check in model_checks.model_behaviour(model, x, y)}
    assert (found["zero_gradients"].figure, found["zero_gradients"].verdict) == (0.0, "pass")


@pytest.mark.parametrize("behind", ["detach", "no_grad"])
def test_a_model_that_lets_nothing_through_is_a_finding_and_no_error(behind: str) -> None:
    class Closed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.set_grad_enabled(behind == "detach"):
                return x.detach() * 2

    found = {
        check.rule: check
        for check in model_checks.model_behaviour(Closed().eval(), torch.rand(4, 2), torch.zeros(4).long())
    }
    assert (found["zero_gradients"].figure, found["zero_gradients"].verdict) == (1.0, "fail")


@pytest.mark.parametrize(
    ("outputs", "verdict"),
    [
        (torch.tensor([[2.0, -1.0], [0.5, 3.0]]), "pass"),
        (torch.tensor([[2.0, -1.0], [0.5, 3.0]]).log_softmax(1), "pass"),
        (torch.tensor([[2.0, 1.0], [0.5, 3.0]]), "pass"),
        (torch.tensor([[2.0, -1.0], [0.5, 3.0]]).softmax(1), "warn"),
        (100 * torch.tensor([[2.0, -1.0], [0.5, 3.0]]).softmax(1), "warn"),
        (torch.tensor([[2.0, -1.0], [0.5, 3.0]]).sigmoid(), "warn"),
    ],
)
def test_probabilities_of_any_kind_are_told_from_logits_and_from_their_own_logarithms(
    outputs: Tensor, verdict: str
) -> None:
    assert model_checks.probability_outputs(outputs).verdict == verdict


def test_a_model_that_looks_at_its_batch_is_caught_without_a_flag() -> None:
    class Relative(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    x = torch.rand(10, 2, generator=torch.Generator().manual_seed(0))
    for model, verdict in ((Relative(), "fail"), (nn.Identity(), "pass")):
        found = {check.rule: check for check in model_checks.model_behaviour(model.eval(), x, torch.zeros(10).long())}
        assert found["batch_dependence"].verdict == verdict
        assert found["randomised_forward"].verdict == "pass"


BALL = Threat(norm="linf", epsilon=0.5, bounds=Bounds(low=torch.zeros(2), high=torch.ones(2)))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("relative_step", [0.1, 2.5])
def test_steps_that_cannot_cross_the_ball_are_seen_in_where_the_attack_stops(norm: str, relative_step: float) -> None:
    # A linear model that nothing in the ball fools, and one that any change of 0.3 does.
    x, y = torch.full((4, 2), 0.5), torch.zeros(4, dtype=torch.long)
    threat = replace(BALL, norm=norm)
    for bias, gain in ((9.0, 0.0), (0.3, 1.0 if relative_step < 1 else 0.0)):
        model = nn.Linear(2, 2)
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
            model.bias.copy_(torch.tensor([0.5 + bias, 0.0]))
        found = {
            check.rule: check
            for check in checks.steps_cross_the_ball(PGD(relative_step=relative_step), model, x, y, threat, seed=0)
        }
        assert found["step_size"].figure == gain
        if bias == 9.0 or gain:
            assert found["boundary_reached"].figure == pytest.approx(min(relative_step, 1.0), abs=0.05)


def test_one_input_at_the_edge_does_not_hide_that_the_others_are_not() -> None:
    x, y = torch.full((4, 4), 0.5), torch.zeros(4, dtype=torch.long)

    class Lame(PGD):
        def perturb(self, model: nn.Module, x: Tensor, *_: object) -> Tensor:
            return x + torch.tensor([0.5, 0.01, 0.01, 0.0])

    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([9.0, 0.0]))
    threat = replace(BALL, bounds=Bounds(low=torch.zeros(4), high=torch.ones(4)))
    (reached, _) = checks.steps_cross_the_ball(Lame(), model, x, y, threat, seed=0)
    assert (reached.figure, reached.verdict) == (pytest.approx(0.52 / 1.5), "warn")


def test_how_far_an_attack_may_go_is_what_the_bounds_leave() -> None:
    # In a corner, with one input that nobody can change: 0.2 is all that is allowed, and it is used.
    x, y = torch.full((4, 2), 0.8), torch.zeros(4, dtype=torch.long)
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        model.bias.copy_(torch.tensor([9.0, 0.0]))
    bounds = replace(BALL.bounds, low=torch.full((2,), 0.75), fixed=torch.tensor([False, True]))
    (reached, _) = checks.steps_cross_the_ball(PGD(), model, x, y, replace(BALL, bounds=bounds), seed=0)
    assert (reached.figure, reached.verdict) == (pytest.approx(1.0), "pass")
