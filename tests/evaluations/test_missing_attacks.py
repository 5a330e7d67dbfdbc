"""Of a model without a gradient, attacks that follow one are not applicable, and searches carry the worst case."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.evaluations.robustness import Robustness
from assay.evaluations.subject import Subject
from assay.results import Measurement, judged

RADII = (0.0, 0.3)
SEARCHES = {"random_noise", "hop_skip_jump", "spsa", "square"}
FOLLOWING = {"fgsm", "pgd_cross_entropy", "pgd_margin", "targeted_pgd", "apgd_ce", "fab", "deepfool"}


class Sum(nn.Module):
    """The sum of two inputs against zero: a record falls to L∞ changes above half its distance, a √2th in L2."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            total = x.sum(1)
            return torch.stack([-total, total], 1)


class Noisy(Sum):
    """The same, and noise that is far smaller than any distance."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1e-6 * torch.randn(len(x), 2)


def ask(make: Callable[..., Subject], *, norm: str = "linf", model: nn.Module | None = None) -> list[Measurement]:
    x = np.linspace(-1, 1, 20)[:, None] * np.array([[0.75, 0.25]])
    attacks = ({"name": "apgd"}, {"name": "fab"}, {"name": "deepfool"}, {"name": "transfer"})
    asked = Robustness.model_validate(
        {"norm": norm, "epsilons": RADII, "attacks": attacks, "samples": 2, "adaptive": False}
    )
    return judged(asked.measure(make(model or Sum(), x, x.sum(1) > 0, train=(), about={"epsilons": RADII})))


def statuses(found: list[Measurement], name: str) -> dict[str, set[str]]:
    rows = [m for m in found if m.name == name]
    return {
        m.conditions["attack"]: {r.status for r in rows if r.conditions["attack"] == m.conditions["attack"]}
        for m in rows
    }


@pytest.mark.parametrize(("norm", "reach"), [("linf", 2.0), pytest.param("l2", 2**0.5, marks=pytest.mark.slow)])
def test_attacks_that_follow_a_gradient_are_not_applicable_and_the_others_carry_the_worst_case(
    make: Callable[..., Subject], one: Callable[..., Measurement], norm: str, reach: float
) -> None:
    found = ask(make, norm=norm)
    status = statuses(found, "robust_accuracy")
    assert {name for name, of in status.items() if of == {"measured"}} == SEARCHES
    also = {"transfer"} | ({"carlini_wagner"} if norm == "l2" else set())
    assert {name for name, of in status.items() if of == {"not_applicable"}} >= (FOLLOWING | also) - {"deepfool", "fab"}
    for m in found:
        if m.status == "not_applicable" and m.conditions.get("attack") in FOLLOWING:
            assert "leads back from the answers to a record" in m.warnings[0]
    for name in ("carlini_wagner_success", "carlini_wagner_median_distance"):
        assert one(found, name).status == "not_applicable"
    distances = np.abs(np.linspace(-1, 1, 20))
    for epsilon in RADII:
        worst = one(found, "worst_case_accuracy", epsilon=epsilon)
        assert worst.value == pytest.approx((distances / reach > epsilon).mean())
        assert set(worst.conditions["attacks"]) == SEARCHES
    checks = {m.name: m.verdict for m in found if m.name.startswith("check.")}
    assert checks["check.zero_gradients"] == "fail"
    assert checks["check.unbounded_attack"] == checks["check.clean_at_zero"] == "pass"
    unasked = {"check.stronger_attack", "check.true_slopes", "check.gradient_masking", "check.step_size"}
    assert not unasked & set(checks)


@pytest.mark.slow
def test_a_model_that_also_answers_at_random_is_measured(make: Callable[..., Subject]) -> None:
    found = ask(make, model=Noisy())
    status = statuses(found, "robust_accuracy")
    assert {name for name, of in status.items() if of == {"measured"}} >= SEARCHES
    assert all(of == {"not_applicable"} for name, of in status.items() if name.startswith(("pgd", "fgsm")))
