"""Integrated gradients of three networks, one record and 32: ours, and Captum's at the same error of a value.

Accuracy comes first: the greatest error of a value relative to the record's greatest value, of 99 % of the records,
against 4,096 midpoints in float64. Captum explains the same log-odds from the same baseline, as it is (50
Gauss-Legendre points in one batch), and tuned: the fewest points whose error is no greater than ours, in pieces of the
best size.
"""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import IntegratedGradients as CaptumGradients
from torch import Tensor, nn

import assay.data  # noqa: F401
from assay.data.images.medmnist import PneumoniaMNIST
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.references import Reference
from assay.explain.scalars import log_odds
from assay.models.cnn import CNN
from assay.models.lstm import LSTM
from assay.models.mlp import MLP
from assay.recipes import Recipe
from assay.registry import build
from assay.training.build import build_trainer

ROUNDS = 5
EXACT = 4096
STEPS = (9, 16, 25, 36, 50, 75, 100, 150, 200, 300, 500)
PIECES = (16, 32, 64, 128, 512)
BAR_ONE, BAR_MANY = 1.0, 1.5
"""Captum's time, tuned to our error, over ours."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network with records that are explained."""

    model: nn.Module
    x: Tensor
    target: Tensor
    reference: Reference


def measure() -> dict[str, Any]:
    """Returns errors and seconds of both, and Captum's time over ours."""
    torch.set_num_threads(1)
    found, ratio, bar = {}, {}, {}
    for name, make in (("xray_cnn", xrays), ("wdbc_mlp", table), ("lstm", _texts)):
        case = make()
        for count in (1, 32):
            result = _compared(case, count)
            found[f"{name}_{count}"] = result
            ratio[f"{name}_{count}"] = round(result["captum_tuned_seconds"] / result["assay_seconds"], 3)
            bar[f"{name}_{count}"] = BAR_ONE if count == 1 else BAR_MANY
    return {"unit": "seconds, median of alternating rounds", "cases": found, "ratio": ratio, "bar": bar}


def _compared(case: Case, count: int) -> dict[str, Any]:
    x, target = case.x[:count], case.target[:count]
    double = copy.deepcopy(case.model).double()
    exact = IntegratedGradients(points=EXACT, most=EXACT).explain(double, x.double(), target, case.reference).values

    def error(values: Tensor) -> float:
        apart = (values.double() - exact).flatten(1).abs().amax(1) / exact.flatten(1).abs().amax(1)
        return float(apart.quantile(0.99))

    def ours() -> Tensor:
        return IntegratedGradients().explain(case.model, x, target, case.reference).values

    def captum(steps: int, method: str, piece: int | None) -> Callable[[], Tensor]:
        method_of = CaptumGradients(lambda given, which: log_odds(case.model(given), which))
        settings = {"n_steps": steps, "method": method, "internal_batch_size": piece}
        baseline = case.reference.baseline(x)
        return lambda: method_of.attribute(x, baseline, additional_forward_args=(target,), **settings)

    error_ours = error(ours())
    enough = [s for s in STEPS if error(captum(s, "riemann_middle", None)()) <= error_ours]
    if not enough:
        raise RuntimeError(f"no number of points up to {STEPS[-1]} has an error of at most {error_ours:.4f}")
    steps = enough[0]
    sizes = [size for size in PIECES if size >= count]
    piece = min(sizes, key=lambda size: seconds_of({"": captum(steps, "riemann_middle", size)}, rounds=2)[""])
    default = captum(50, "gausslegendre", None)
    tuned = captum(steps, "riemann_middle", piece)
    seconds = seconds_of({"assay": ours, "captum_default": default, "captum_tuned": tuned}, rounds=ROUNDS)
    return {
        "assay_error": round(error_ours, 4),
        "captum_default_error": round(error(default()), 4),
        "captum_tuned_error": round(error(tuned()), 4),
        "captum_tuned_points": steps,
        "captum_tuned_piece": piece,
        **{f"{name}_seconds": round(value, 5) for name, value in seconds.items()},
    }


def seconds_of(calls: dict[str, Callable[[], Tensor]], *, rounds: int) -> dict[str, float]:
    """Returns the median seconds of each call; the calls alternate."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def _trained(model: nn.Module, dataset: Any, epochs: int) -> nn.Module:
    recipe = Recipe.model_validate({"training": {"epochs": epochs, "batch_size": 64, "learning_rate": 0.002}})
    x, y = torch.from_numpy(dataset.x[:2000]), torch.from_numpy(dataset.y[:2000])
    build_trainer(model, recipe, x, y, bounds=dataset.bounds, seed=0).run()
    return model.eval()


def _of_dataset(model: nn.Module, dataset: Any, modality: Any) -> Case:
    background, x = torch.from_numpy(dataset.x[:100]), torch.from_numpy(dataset.x[-32:])
    with torch.no_grad():
        target = model(x).argmax(1)
    reference = Reference(modality=modality, background=background, source="100 records")
    return Case(model=model, x=x, target=target, reference=reference)


def xrays() -> Case:
    """A small network on X-rays, trained for three epochs."""
    dataset = PneumoniaMNIST().load()
    model = CNN(channels=(8, 16, 32)).build(dataset.shape, dataset.classes, seed=0)
    return _of_dataset(_trained(model, dataset, 3), dataset, "image")


def table() -> Case:
    """A perceptron on a table, trained for thirty epochs."""
    dataset: Any = build("dataset", "wdbc").load()  # type: ignore[attr-defined]
    model = MLP(hidden=(64, 32)).build(dataset.shape, dataset.classes, seed=0)
    return _of_dataset(_trained(model, dataset, 30), dataset, "tabular")


def _texts() -> Case:
    """Random word vectors: only the work is that of a text."""
    torch.manual_seed(0)
    model = LSTM(hidden=64).build((40, 50), 2, seed=0).eval()
    x = torch.randn(32, 40, 50)
    for row in range(32):
        x[row, 8 + row :] = 0
    with torch.no_grad():
        target = model(x).argmax(1)
    reference = Reference(modality="text", background=torch.zeros(1, 40, 50), source="words without a meaning")
    return Case(model=model, x=x, target=target, reference=reference)
