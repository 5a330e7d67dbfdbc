"""Rows on gradients along a line: how far a value is right, what is stated of its error, and what it takes."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.benchmarks.known_answers.networks import DOUBLE, Score, drawn, linear
from tests.benchmarks.known_answers.row import Row, below, between, listed, numbers_near
from tests.benchmarks.known_answers.systems import assay, captum

KINKS = Score(lambda x: (x[:, 0] - 0.7).relu() - (x[:, 1] - 0.7).relu())
TWO, NONE = torch.ones(1, 2, dtype=DOUBLE), torch.zeros(1, 2, dtype=DOUBLE)
VALUE = 0.3
BENDS = Score(lambda x: (functional.softplus(80 * (x - 0.7)) / 80) @ torch.tensor([1.0, -1.0], dtype=DOUBLE))
"""Kinks that are rounded a little: no slope of a kink is averaged there."""


def _kinks() -> list[float]:
    return assay("integrated_gradients", KINKS, TWO, NONE).values[0].tolist()


def _stated_over_actual(points: int) -> float:
    """The stated error of a value over the actual one, both relative to the greatest value."""
    settings = {"name": "integrated_gradients", "points": points, "most": 2 * points + 1}
    found = assay(settings, BENDS, TWO, NONE)
    greatest = float(found.values.abs().max())
    actual = float((found.values[0, 0] - VALUE).abs()) / greatest
    return float(found.value_error) / max(actual, 1e-12)


def _stated_over_actual_in_captum(points: int) -> float:
    from captum.attr import IntegratedGradients

    values, delta = IntegratedGradients(BENDS).attribute(
        TWO, target=1, n_steps=points, return_convergence_delta=True
    )  # fmt: skip
    return float(delta.abs()) / float((values[0, 0] - VALUE).abs())


CUBE = Score(lambda x: 20 * x[:, 0] ** 3)
ENDS = torch.tensor([[0.0], [0.5]], dtype=DOUBLE)
RUNS = 200


def _variance_of_expected_gradients() -> float:
    """The squared stated error of a mean over its actual variance, over seeds."""
    found = [assay("gradient_shap", CUBE, TWO[:, :1], ENDS, seed=seed) for seed in range(RUNS)]
    values = np.array([float(one.values) for one in found])
    stated = np.array([float(one.value_error) for one in found]) * np.abs(values)
    return float((stated**2).mean() / values.var())


def _variance_in_shap() -> float:
    import shap

    explainer = shap.GradientExplainer(CUBE, ENDS)
    values, stated = [], []
    for seed in range(40):
        mean, deviation = explainer.shap_values(TWO[:, :1], nsamples=200, rseed=seed, return_variances=True)
        values.append(float(np.asarray(mean).reshape(-1, 2)[0, 1]))
        stated.append(float(np.asarray(deviation).ravel()[-1]))
    return float(np.mean(stated) / np.var(values))


class Largest(nn.Module):
    """Notes the greatest number of entries that the network was asked about at once."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.last, self.most = nn.Flatten(), nn.Linear(4096, 2).to(DOUBLE), 0

    def forward(self, x: Tensor) -> Tensor:
        self.most = max(self.most, x.numel())
        return self.last(self.flat(x))


BIG = drawn(4, 1, 64, 64)


def _growth() -> float:
    most = []
    for points in (16, 1024):
        model = Largest()
        assay({"name": "integrated_gradients", "points": points, "most": points}, model, BIG, 0 * BIG, None, "image")
        most.append(model.most)
    return most[1] / most[0]


def _growth_in_captum() -> float:
    most = []
    for points in (16, 1024):
        model = Largest()
        captum("IntegratedGradients", model, BIG, n_steps=points)
        most.append(model.most)
    return most[1] / most[0]


EXACT = linear(1.0, -2.0, 1 / 3)
POINT = torch.tensor([[0.1, 0.7, -1.3]], dtype=DOUBLE)


def _linear_error(values: Tensor) -> float:
    right = torch.tensor([0.1, -1.4, -1.3 / 3], dtype=DOUBLE)
    return float((values[0] - right).abs().max())


ROWS = (
    Row(
        fault="A2",
        name="kinks",
        input="relu(x₁ − 0.7) − relu(x₂ − 0.7) at (1, 1) from 0, default settings; the sum is right with any points",
        right="(0.3, −0.3) to 5 %",
        accepts=numbers_near(VALUE, -VALUE, tolerance=0.05 * VALUE),
        assay=_kinks,
        captum=lambda: listed(captum("IntegratedGradients", KINKS, TWO)[0]),
    ),
    *(
        Row(
            fault="A2",
            name=f"stated_error_of_{points}_points",
            input=f"the same with rounded kinks and {points} points to begin with: stated error of the first value "
            "over its actual error",
            right="at least 0.5: the error is stated",
            accepts=between(0.5, math.inf),
            assay=lambda points=points: _stated_over_actual(points),
            captum=lambda points=points: _stated_over_actual_in_captum(points),
        )
        for points in (2, 4)
    ),
    Row(
        fault="A4",
        name="stated_variance",
        input="20·x³ by gradients at random points: stated variance of the mean over the actual one, over seeds",
        right="1, within a factor of 2",
        accepts=between(0.5, 2.0),
        assay=_variance_of_expected_gradients,
        shap=_variance_in_shap,
    ),
    Row(
        fault="A17",
        name="memory_of_points",
        input="four images of 64 × 64: greatest number of entries asked about at once, 1,024 points over 16 points",
        right="at most 1.1",
        accepts=below(1.1),
        assay=_growth,
        captum=_growth_in_captum,
    ),
    Row(
        fault="A18",
        name="double_precision",
        input="integrated gradients of a linear model in float64: greatest error of a value",
        right="at most 1e-12",
        accepts=below(1e-12),
        assay=lambda: _linear_error(assay("integrated_gradients", EXACT, POINT, 0 * POINT).values),
        captum=lambda: _linear_error(captum("IntegratedGradients", EXACT, POINT)),
    ),
    Row(
        fault="B6",
        name="completeness_can_be_passed",
        input="integrated gradients of a linear model: is the sum accepted?",
        right="accepted",
        accepts=lambda given: given == "accepted",
        assay=lambda: (
            "accepted" if float(assay("integrated_gradients", EXACT, POINT, 0 * POINT).error) < 1e-9 else "refused"
        ),
    ),
)
