"""Layers whose gradients are true, and useless at the scale of the radius: named by a check, and answered."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks.pgd import PGD
from assay.data.base import Dataset
from assay.evaluations.robustness import Robustness
from assay.evaluations.subject import Subject
from assay.results import Measurement, judged
from assay.threats import Threat

EPSILON = 0.5
WAVES = torch.randn(30, 30, generator=torch.Generator().manual_seed(0))


class Behind(nn.Module):
    """A network behind something done to its inputs."""

    def __init__(self, change: Callable[[Tensor], Tensor], network: nn.Module) -> None:
        super().__init__()
        self.change, self.network = change, network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.change(x))


UNTRUE: dict[str, Callable[[Tensor], Tensor]] = {
    "ripple": lambda x: x + 0.02 * torch.sin(x @ (200 * WAVES)),
    "coarse ripple": lambda x: x + 0.04 * torch.sin(x @ (10 * WAVES)),
    "multiplicative ripple": lambda x: x * (1 + 0.05 * torch.sin(2000 * x.sum(1, keepdim=True))),
    "phase of a neighbour": lambda x: x + 0.02 * torch.sin(3000 * x.roll(1, -1)),
    "hash": lambda x: x + 0.02 * torch.cos(1e4 * x).roll(2, -1),
}
FAST = ("ripple",)

Measure = Callable[[nn.Module], list[Measurement]]


@pytest.fixture
def measure(make: Callable[..., Subject], wdbc: Dataset) -> Measure:
    def ask(model: nn.Module) -> list[Measurement]:
        about = {"low": wdbc.low, "high": wdbc.high}
        quick = {"epsilons": (EPSILON,), "carlini_wagner": {"steps": 1, "search_steps": 1}}
        return judged(Robustness(**quick).measure(make(model.eval(), wdbc.x[::5], wdbc.y[::5], about=about)))

    return ask


def through_the_network_underneath(model: Behind, data: Dataset) -> float:
    """What PGD leaves that looks at the honest network and is judged on the other one."""
    x, y = torch.from_numpy(data.x[::5]), torch.from_numpy(data.y[::5])
    threat = Threat(norm="linf", epsilon=EPSILON, bounds=data.bounds)
    return PGD(steps=40, loss="margin").run(model, x, y, threat, seed=0, through=model.network).accuracy


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in UNTRUE]
)
def test_a_layer_with_useless_slopes_is_named_and_the_worst_case_is_that_of_the_network_underneath(
    name: str, measure: Measure, trained: nn.Module, wdbc: Dataset, one: Callable[..., Measurement]
) -> None:
    model = Behind(UNTRUE[name], trained.eval()).eval()
    found = measure(model)
    check = one(found, "check.true_slopes")
    assert check.verdict == "fail"
    worst = one(found, "worst_case_accuracy", epsilon=EPSILON)
    assert ("fail", check.warnings[0]) in [(flag.verdict, flag.message) for flag in worst.flags]
    assert worst.value <= through_the_network_underneath(model, wdbc) + 0.01
    assert {"spsa", "square", "hop_skip_jump"} <= set(worst.conditions["attacks"])


@pytest.mark.parametrize("mode", [torch.no_grad, pytest.param(torch.inference_mode, marks=pytest.mark.slow)])
def test_a_model_without_a_path_back_is_measured_by_attacks_that_need_none(
    mode: Callable[[], object],
    measure: Measure,
    trained: nn.Module,
    wdbc: Dataset,
    one: Callable[..., Measurement],
) -> None:
    class Closed(Behind):
        def forward(self, x: Tensor) -> Tensor:
            with mode():  # type: ignore[attr-defined]
                return self.network(x)

    model = Closed(lambda x: x, trained.eval()).eval()
    found = measure(model)
    assert one(found, "check.zero_gradients").verdict == "fail"
    assert one(found, "robust_accuracy", attack="pgd_margin", epsilon=EPSILON).status == "not_applicable"
    worst = one(found, "worst_case_accuracy", epsilon=EPSILON)
    assert worst.value <= through_the_network_underneath(model, wdbc) + 0.01


class Lookup(nn.Module):
    """Answers a record as the nearest of those it knows, by a table: no gradient, and no logit that rises."""

    def __init__(self, network: nn.Module, known: Tensor) -> None:
        super().__init__()
        with torch.no_grad():
            self.network, self.known, self.said = network, known, network(known).argmax(1)

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x, self.known).argmin(1)
        return nn.functional.one_hot(self.said[nearest], 2).float()


def test_a_lookup_falls_to_a_walk_towards_the_records_that_it_knows(
    make: Callable[..., Subject], trained: nn.Module, wdbc: Dataset, one: Callable[..., Measurement]
) -> None:
    known = torch.from_numpy(wdbc.x)
    model = Lookup(trained.eval(), known).eval()
    tested = np.arange(0, len(wdbc.x), 10)
    about = {"low": wdbc.low, "high": wdbc.high}
    subject = make(model, wdbc.x, wdbc.y, train=np.setdiff1d(np.arange(len(wdbc.x)), tested), about=about)
    quick = {"epsilons": (EPSILON,), "carlini_wagner": {"steps": 1, "search_steps": 1}}
    found = judged(Robustness(**quick).measure(subject))
    # By hand: towards each known record of the other class, as far as the radius allows.
    x, y = known[tested], torch.from_numpy(wdbc.y)[tested]
    left = model(x).argmax(1) == y
    for row in left.nonzero()[:, 0].tolist():
        others = known[model.said != y[row]]
        moved = wdbc.bounds.clip(torch.maximum(torch.minimum(others, x[row] + EPSILON), x[row] - EPSILON))
        left[row] = bool((model(moved).argmax(1) == y[row]).all())
    worst = one(found, "worst_case_accuracy", epsilon=EPSILON)
    assert worst.value <= float(left.double().mean()) + 0.01
    assert one(found, "robust_accuracy", attack="random_noise", epsilon=EPSILON).value > worst.value + 0.2
