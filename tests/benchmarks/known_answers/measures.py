"""Rows on measures of maps: cascades, infidelity, sensitivity, blur."""

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.explain.measures.base import MeasuredMap
from assay.explain.measures.controls.blurred_map import BlurredMap
from assay.explain.measures.curves import AreaBetween
from assay.explain.measures.randomisation import Cascade
from assay.explain.measures.sparseness import Sparseness
from assay.explain.measures.stability import MaxSensitivity
from assay.explain.measures.subsets import CorrelationOfSums, Infidelity
from tests.benchmarks.known_answers.curves import measured
from tests.benchmarks.known_answers.networks import DOUBLE, Score, drawn, linear, perceptron
from tests.benchmarks.known_answers.row import Row, below, between
from tests.benchmarks.known_answers.systems import assay

FIVE = torch.arange(1.0, 6.0)


def permutation_with(correlation: float) -> list[float]:
    """An order of 1 … 5 whose rank correlation with the rising one is given, a multiple of 0.1."""
    wanted = round((1 - correlation) * 20)
    return next(
        [float(place + 1) for place in order]
        for order in itertools.permutations(range(5))
        if sum((place - rank) ** 2 for rank, place in enumerate(order)) == wanted
    )


def _cascade() -> float:
    """The measure where the maps of the two random networks agree by 0.2 and 0.1 with that of the trained one."""
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    maps = iter([permutation_with(0.2), permutation_with(0.1)])
    again = lambda network, x: torch.tensor([next(maps)])
    records = measured(model, FIVE[None], FIVE[None])
    return float(Cascade().score(records, MeasuredMap(values=FIVE[None], again=again)))


WEIGHTS = (1.0, -2.0, 0.5, 3.0, -1.0, 0.0)
LINEAR = linear(*WEIGHTS)
X, POOL, ZERO = drawn(6, 6), drawn(30, 6, seed=1), torch.zeros(6, 6, dtype=DOUBLE)


def _infidelity(kind: Any, factor: float = 1.0, measure: Any = Infidelity) -> float:
    slopes = torch.tensor(WEIGHTS, dtype=DOUBLE).expand_as(X)
    values = factor * (slopes if kind == "slopes" else slopes * X)
    explained = MeasuredMap(
        values=values, entries=values, kind=kind, baseline=ZERO if kind == "contributions" else None
    )  # fmt: skip
    return float(measure().score(measured(LINEAR, X, POOL), explained).max())


def _noise(x: Tensor) -> tuple[Tensor, Tensor]:
    noise = 0.1 * torch.randn(x.shape, dtype=x.dtype)
    return noise, x - noise


def _infidelity_in_captum(kind: str, factor: float = 1.0) -> float:
    from captum.metrics import infidelity

    torch.manual_seed(0)
    slopes = torch.tensor(WEIGHTS, dtype=DOUBLE).expand_as(X)
    values = factor * (slopes if kind == "slopes" else slopes * X)
    return float(infidelity(LINEAR, _noise, X, values, target=1, n_perturb_samples=20).max())


def _units(system: str) -> float:
    """Sensitivity of input times gradient where the data are in units that are a thousand times smaller, quotient."""
    found = []
    for unit in (1.0, 1000.0):
        net = perceptron()
        model = _InUnits(net, unit)
        x, pool = unit * X, unit * POOL
        again = lambda network, given: assay("input_times_gradient", network, given, 0 * given[:1]).values
        if system == "assay":
            records = measured(model, x, pool)
            vars(records.reference)["spread"] = pool.amax(0, keepdim=True) - pool.amin(0, keepdim=True)
            found.append(
                float(MaxSensitivity().score(records, MeasuredMap(values=again(model, x), again=again)).mean())
            )
        else:
            from captum.attr import InputXGradient
            from captum.metrics import sensitivity_max

            torch.manual_seed(0)
            given = x.clone().requires_grad_()
            found.append(float(sensitivity_max(InputXGradient(model).attribute, given, target=1).mean()))
    return found[1] / found[0]


class _InUnits(nn.Module):
    def __init__(self, network: nn.Module, unit: float) -> None:
        super().__init__()
        self.network, self.unit = network, unit

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x / self.unit)


SIGN = Score(lambda x: 100 * x[:, 0].abs() * torch.where(x[:, 0] > 0, 1.0, -1.0))
AT_BORDER = torch.tensor([[0.01, 1.0]], dtype=DOUBLE)


def _beyond_the_border(system: str) -> float:
    """Sensitivity of a map that is (1, 0) on one side of the decision and (0, 1) on the other."""

    def values(given: Tensor) -> Tensor:
        return torch.where(given[:, :1] > 0, torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])).to(given)

    if system == "assay":
        records = measured(SIGN, AT_BORDER, drawn(20, 2))
        vars(records.reference)["spread"] = torch.full((1, 2), 4.0, dtype=DOUBLE)
        explained = MeasuredMap(values=values(AT_BORDER), again=lambda network, given: values(given))
        return float(MaxSensitivity(copies=30).score(records, explained))
    from captum.metrics import sensitivity_max

    torch.manual_seed(0)
    return float(
        sensitivity_max(lambda given: (values(given[0]),), (AT_BORDER,), perturb_radius=0.08, n_perturb_samples=30)
    )


def _constant(system: str) -> float:
    values = torch.ones_like
    if system == "assay":
        explained = MeasuredMap(values=values(X), again=lambda network, given: values(given))
        return float(MaxSensitivity().score(measured(LINEAR, X, POOL), explained).max())
    from captum.metrics import sensitivity_max

    return float(sensitivity_max(lambda given: (values(given[0]),), (X,)).max())


def _blur_outranks() -> float:
    """Mean area of the true map of a linear model of scattered pixels, minus that of its blurred copy."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1, 1, 12, 12, generator=generator) * (torch.rand(1, 1, 12, 12, generator=generator) < 0.1)
    model = Score(lambda x: (x * weight.to(x)).flatten(1).sum(1))
    x = torch.rand(20, 1, 12, 12, generator=generator)
    records = measured(model, x, torch.rand(40, 1, 12, 12, generator=generator), "image")
    true = weight * (x - 0.5)
    copy = BlurredMap().draw(records, true, 0)
    found = [float(AreaBetween().score(records, MeasuredMap(values=each)).mean()) for each in (true, copy)]
    return found[0] - found[1]


def _gini() -> list[float]:
    model = linear(1.0, 1.0, 1.0, 1.0).float()
    x = torch.ones(2, 4) + torch.arange(2)[:, None]
    maps = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
    return [float(one) for one in Sparseness().score(measured(model, x, x), MeasuredMap(values=maps))]


ROWS = (
    Row(
        fault="B2",
        name="cascade_without_the_trained_network",
        input="maps of two random networks agree with the trained one's by 0.2 and 0.1: mean of the cascade",
        right="0.15: the trained network itself is not among them",
        accepts=between(0.1499, 0.1501),
        assay=_cascade,
    ),
    Row(
        fault="B5",
        name="infidelity_of_slopes",
        input="infidelity of the gradient of a linear model",
        right="0",
        accepts=below(1e-9),
        assay=lambda: _infidelity("slopes"),
        captum=lambda: _infidelity_in_captum("slopes"),
    ),
    Row(
        fault="B5",
        name="infidelity_of_contributions",
        input="infidelity of integrated gradients of a linear model",
        right="0",
        accepts=below(1e-9),
        assay=lambda: _infidelity("contributions"),
        captum=lambda: _infidelity_in_captum("contributions"),
    ),
    Row(
        fault="B5",
        name="infidelity_of_another_scale",
        input="infidelity of the gradient of a linear model times 100",
        right="0: the order and the proportions are right",
        accepts=below(1e-9),
        assay=lambda: _infidelity("slopes", 100.0),
        captum=lambda: _infidelity_in_captum("slopes", 100.0),
    ),
    Row(
        fault="B5",
        name="correlation_of_sums",
        input="correlation of sums of integrated gradients of a linear model",
        right="1",
        accepts=between(1 - 1e-9, 1 + 1e-9),
        assay=lambda: _infidelity("contributions", measure=CorrelationOfSums),
    ),
    Row(
        fault="B9",
        name="sensitivity_in_other_units",
        input="sensitivity of input times gradient, default radius: data in grams over the same data in kilograms",
        right="1, to 10 %: other random changes are drawn",
        accepts=between(0.9, 1.1),
        assay=lambda: _units("assay"),
        captum=lambda: _units("captum"),
    ),
    Row(
        fault="B9",
        name="sensitivity_beyond_the_decision",
        input="a map that changes at the border of the decision alone, a record beside it: sensitivity",
        right="0: where the decision changes, the map should",
        accepts=below(0.0),
        assay=lambda: _beyond_the_border("assay"),
        captum=lambda: _beyond_the_border("captum"),
    ),
    Row(
        fault="B9",
        name="sensitivity_of_a_constant_map",
        input="sensitivity of a map that is always the same",
        right="0",
        accepts=below(0.0),
        assay=lambda: _constant("assay"),
        captum=lambda: _constant("captum"),
    ),
    Row(
        fault="B10",
        name="blurred_copy",
        input="area of the true map of a linear model of scattered pixels, minus that of its blurred copy",
        right="above 0",
        accepts=between(1e-6, np.inf),
        assay=_blur_outranks,
    ),
    Row(
        fault="B8",
        name="gini",
        input="sparseness (Gini index) of (1, 1, 1, 1) and (1, 0, 0, 0)",
        right="(0, 0.75)",
        accepts=lambda given: np.allclose(given, [0, 0.75], atol=1e-6),
        assay=_gini,
    ),
)
