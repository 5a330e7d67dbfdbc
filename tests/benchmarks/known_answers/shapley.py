"""Rows on Shapley values: all features, a named reference, exact interactions."""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from assay.data.base import Dataset
from assay.explain.methods.shapley import combinations, interactions
from assay.explain.scalars import log_odds
from assay.registry import build
from tests.benchmarks.known_answers.deep import brute_force
from tests.benchmarks.known_answers.networks import DOUBLE, Score, drawn, linear, perceptron
from tests.benchmarks.known_answers.row import Row, below, listed, numbers_near, says
from tests.benchmarks.known_answers.systems import CLASS_1, assay, captum, shap_kernel

PRODUCT = Score(lambda x: x[:, 0] * x[:, 1])
ONES = torch.ones(1, 2, dtype=DOUBLE)
PAIR = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=DOUBLE)


@cache
def _wdbc() -> Tensor:
    data = build("dataset", "wdbc").load()  # type: ignore[attr-defined]
    assert isinstance(data, Dataset)
    return torch.from_numpy(data.x[:60]).to(DOUBLE)


WEIGHTS = torch.linspace(-1, 1, 30, dtype=DOUBLE)


def _wrong_of_thirty(values: Tensor) -> int:
    """How many of the 30 values of one patient miss wᵢ(xᵢ − mean) by more than 1 % of the greatest."""
    right = WEIGHTS * (_wdbc()[0] - _wdbc()[10:].mean(0))
    return int(((values[0] - right).abs() > 0.01 * right.abs().max()).sum())


def _thirty(kind: str) -> int:
    model, x, background = linear(*WEIGHTS.tolist()), _wdbc()[:1], _wdbc()[10:]
    if kind == "assay":
        return _wrong_of_thirty(assay("kernel_shap", model, x, background).values)
    if kind == "shap":
        return _wrong_of_thirty(shap_kernel(model, x, background))
    return _wrong_of_thirty(captum("KernelShap", model, x, baselines=background.mean(0, keepdim=True)))


def _reference_is_named() -> str:
    """Whether the values are those of the reference that the result names, the mean."""
    found = assay("exact_shapley", PRODUCT, ONES, PAIR)
    of_mean = torch.tensor([[0.375, 0.375]], dtype=DOUBLE)
    if torch.allclose(found.values, of_mean) and math.isclose(float(found.change), 0.75):
        return "of the mean, change 0.75"
    return "unnamed"


def _marginal() -> list[float]:
    return assay({"name": "kernel_shap", "absent": "background"}, PRODUCT, ONES, PAIR).values[0].tolist()


FOUR = drawn(1, 4, seed=3)
NET = perceptron(4)


def _error(values: Tensor) -> float:
    exact = brute_force(NET, FOUR, 0 * FOUR)
    return float((values[0] - exact).abs().max() / exact.abs().max())


def _interaction() -> list[float]:
    x = torch.ones(1, 3, dtype=DOUBLE)
    model = Score(lambda x: x[:, 0] * x[:, 1] + x[:, 2])
    found = interactions(combinations(model, x, CLASS_1, 0 * x, torch.arange(3)[None], log_odds))[0]
    return [float(found[0, 1]), float(found[0, 2]), float(found[1, 2])]


def _difference(model: object, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.as_tensor(x))  # type: ignore[operator]
    return (logits[:, 1] - logits[:, 0]).numpy()


def _exact_by_shap() -> float:
    import shap

    made = shap.ExactExplainer(lambda x: _difference(NET, x), np.zeros((1, 4)))
    return _error(torch.as_tensor(made(FOUR.numpy(), silent=True).values))


ROWS = (
    Row(
        fault="A7",
        name="thirty_features",
        input="Shapley values of a linear model of the 30 features of wdbc, default settings",
        right="0 of 30 values are wrong by more than 1 % of the greatest",
        accepts=lambda given: given == 0,
        assay=lambda: _thirty("assay"),
        captum=lambda: _thirty("captum"),
        shap=lambda: _thirty("shap"),
    ),
    Row(
        fault="A8",
        name="named_reference",
        input="x₁x₂ at (1, 1), records (0, 0) and (1, 1): exact Shapley values against the mean",
        right="(0.375, 0.375), with the change from the mean, 0.75",
        accepts=says("of the mean, change 0.75"),
        assay=_reference_is_named,
    ),
    Row(
        fault="A8",
        name="marginal_reference",
        input="x₁x₂ at (1, 1), background (0, 0) and (1, 1), each record in turn",
        right="(0.25, 0.25)",
        accepts=numbers_near(0.25, 0.25, tolerance=1e-3),
        assay=_marginal,
        captum=lambda: listed(captum("KernelShap", PRODUCT, ONES, baselines=PAIR.mean(0, keepdim=True))[0]),
        shap=lambda: listed(shap_kernel(PRODUCT, ONES, PAIR)[0]),
    ),
    Row(
        fault="A8",
        name="all_orders",
        input="exact Shapley values of a ReLU network of four inputs: greatest error against all orders, relative",
        right="at most 1e-6",
        accepts=below(1e-6),
        assay=lambda: _error(assay("exact_shapley", NET, FOUR, 0 * FOUR).values),
        captum=lambda: _error(
            captum("ShapleyValues", NET, FOUR, target=1) - captum("ShapleyValues", NET, FOUR, target=0)
        ),
        shap=_exact_by_shap,
    ),
    Row(
        fault="A8",
        name="interaction_of_a_product",
        input="x₁x₂ + x₃ at (1, 1, 1) from 0: interactions of the pairs (1, 2), (1, 3), (2, 3)",
        right="(1, 0, 0)",
        accepts=numbers_near(1.0, 0.0, 0.0),
        assay=_interaction,
    ),
)
