"""Integrated gradients of four networks beside Captum's: time at equal error of a value, and memory.

Accuracy comes first. The error is the greatest error of a value relative to the record's greatest value, of 99 % of 32
records, against 4,096 midpoints in float64 (1,024 for the residual network, which would take four times as long as all
else here), by a plain loop over the points. Captum explains the same log-odds from the same baseline.

- ``..._tuned_5%``, ``..._tuned_1%``: each takes the fewest midpoints whose error meets this target, and Captum the
  ``internal_batch_size`` that is fastest here. Neither pays for being more accurate than asked.
- ``..._one_5%``: the same, for records that are explained one by one, as a served model does. The points are those
  that 32 records need: nobody can tune them for a record whose exact values are unknown.
- ``..._default``: Captum's default call (50 Gauss-Legendre points, one batch) against ours with the fewest points whose
  error is no greater than that of Captum.
- ``..._memory``: bytes that this default call held at once over those of ours.
- ``..._flat``: 1.1 times what ours holds with 16 points, over what it holds with 1,024.

``by_tolerance`` lists, without a bar, what ours does when it is given the target alone and finds the number of points
of each record itself, as it does by default.

Seconds are processor time on one thread, the median of rounds in which all take turns, since other programs on the
machine disturb it less than wall time.
"""

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from captum.attr import IntegratedGradients as CaptumGradients
from torch import Tensor, nn

import assay.data  # noqa: F401
from assay.cluster.memory import keep_freed_memory
from assay.data.images.medmnist import PneumoniaMNIST
from assay.explain.base import gradient_of
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.references import Reference
from assay.explain.scalars import log_odds
from assay.models.cnn import CNN
from assay.models.lstm import LSTM
from assay.models.mlp import MLP
from assay.models.resnet import Basic, ResNet
from assay.recipes import Recipe
from assay.registry import build
from assay.training.build import build_trainer
from tests.allocations import peak_bytes

ROUNDS = 7
RECORDS, ALONE = 32, 8
"""Records that are explained together, and how many of them one by one."""
TARGETS = {"5%": 0.05, "1%": 0.01}
COUNTS = (
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    12,
    14,
    16,
    18,
    20,
    23,
    26,
    30,
    34,
    38,
    43,
    50,
    57,
    64,
    75,
    86,
    100,
    114,
    128,
    160,
    200,
)
"""Numbers of midpoints that are tried."""
PIECES = (32, 64, 128, 512)
BARS = {"tuned_5%": 1.5, "tuned_1%": 1.5, "one_5%": 1.0, "default": 2.5, "memory": 8.0, "flat": 1.0}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network with records that are explained."""

    model: nn.Module
    x: Tensor
    target: Tensor
    reference: Reference
    exact: int = 4096
    """Midpoints of the values that count as exact."""

    def first(self, count: int) -> list["Case"]:
        """Returns some records, each alone."""
        rows = [slice(row, row + 1) for row in range(count)]
        return [
            Case(model=self.model, x=self.x[row], target=self.target[row], reference=self.reference) for row in rows
        ]


def measure() -> dict[str, Any]:
    """Returns errors, points, seconds and bytes of both, and Captum's over ours."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as every worker does
    found = {
        name: _measured(make())
        for name, make in (("wdbc_mlp", table), ("xray_cnn", xrays), ("lstm", _texts), ("resnet18", _residual))
    }
    return {
        "unit": "seconds of processor time (median of alternating rounds) and MiB",
        "cases": found,
        "ratio": {f"{name}_{key}": round(one["ratio"][key], 3) for name, one in found.items() for key in BARS},
        "bar": {f"{name}_{key}": bar for name in found for key, bar in BARS.items()},
    }


def _measured(case: Case) -> dict[str, Any]:
    exact = _exact(case)

    def error(values: Tensor) -> float:
        apart = (values.double() - exact).flatten(1).abs().amax(1) / exact.flatten(1).abs().amax(1)
        return float(apart.quantile(0.99))

    ours = _Fewest(lambda count: error(_assay(case, points=count, most=count)()))
    theirs = _Fewest(lambda count: error(_captum(case, count, "riemann_middle", 128)()))
    ratio: dict[str, float] = {}
    told: dict[str, Any] = {"by_tolerance": {}}
    for name, target in TARGETS.items():
        told[f"tuned_{name}"], ratio[f"tuned_{name}"] = _tuned(case, ours.points(target), theirs.points(target))
        searched = _assay(case, tolerance=target)
        told["by_tolerance"][name] = {"error": round(error(searched()), 4), "seconds": seconds_of({"": searched})[""]}
    told["one_5%"], ratio["one_5%"] = _one_by_one(case, ours.points(0.05), theirs.points(0.05))
    default = _captum(case, 50, "gausslegendre", None)
    of_default = error(default())
    count = ours.points(of_default)
    told["default"], ratio["default"] = _against_default(case, default, count, of_default)
    bytes_of = {"captum_default": peak_bytes(default)}
    bytes_of |= {f"assay_{n}": peak_bytes(_assay(case, points=n, most=n)) for n in (16, count, 1024)}
    told["mib"] = {name: round(size / 2**20, 2) for name, size in bytes_of.items()}
    ratio["memory"] = bytes_of["captum_default"] / bytes_of[f"assay_{count}"]
    ratio["flat"] = 1.1 * bytes_of["assay_16"] / bytes_of["assay_1024"]
    told["error_of_points"] = {"assay": ours.told(), "captum": theirs.told()}
    return {**told, "ratio": ratio}


class _Fewest:
    """The fewest midpoints that meet a target.

    Args:
        error: by a number of midpoints.
    """

    def __init__(self, error: Callable[[int], float]) -> None:
        self._error = error
        self._errors: dict[int, float] = {}

    def points(self, target: float) -> int:
        """Returns the first of ``COUNTS`` whose error is no greater."""
        for count in COUNTS:
            if count not in self._errors:
                self._errors[count] = self._error(count)
            if self._errors[count] <= target:
                return count
        raise RuntimeError(f"no number of points up to {COUNTS[-1]} has an error of at most {target:.4f}")

    def told(self) -> dict[int, float]:
        """Returns the error of each number that was tried."""
        return {count: round(value, 4) for count, value in sorted(self._errors.items())}


def _exact(case: Case) -> Tensor:
    """Returns the mean gradient at ``case.exact`` midpoints in float64, one after the other, times the difference."""
    model, start = copy.deepcopy(case.model).double(), case.reference.baseline(case.x).double()
    difference = case.x.double() - start
    total = torch.zeros_like(start)
    for number in range(case.exact):
        between = start + (number + 0.5) / case.exact * difference
        total += gradient_of(model, between, case.target, log_odds)
    return total / case.exact * difference


def _tuned(case: Case, count: int, of_captum: int) -> tuple[dict[str, Any], float]:
    """Compares both with their numbers of midpoints, Captum in pieces of the best size."""
    captum = {size: _captum(case, of_captum, "riemann_middle", size) for size in PIECES}
    tried = seconds_of({str(size): call for size, call in captum.items()}, rounds=3)
    piece = min(PIECES, key=lambda size: tried[str(size)])
    seconds = seconds_of({"assay": _assay(case, points=count, most=count), "captum": captum[piece]})
    told = {"points": {"assay": count, "captum": of_captum}, "captum_piece": piece, "seconds": seconds}
    return told, seconds["captum"] / seconds["assay"]


def _one_by_one(case: Case, count: int, of_captum: int) -> tuple[dict[str, Any], float]:
    alone = case.first(ALONE)
    ours = [_assay(one, points=count, most=count) for one in alone]
    captum = [_captum(one, of_captum, "riemann_middle", None) for one in alone]
    calls = {"assay": lambda: [call() for call in ours], "captum": lambda: [call() for call in captum]}
    seconds = {name: round(value / ALONE, 6) for name, value in seconds_of(calls, rounds=5 * ROUNDS).items()}
    told = {"points": {"assay": count, "captum": of_captum}, "seconds_a_record": seconds}
    return told, seconds["captum"] / seconds["assay"]


def _against_default(
    case: Case, default: Callable[[], Tensor], count: int, error: float
) -> tuple[dict[str, Any], float]:
    seconds = seconds_of({"assay": _assay(case, points=count, most=count), "captum": default})
    told = {"captum_error": round(error, 4), "points": count, "seconds": seconds}
    return told, seconds["captum"] / seconds["assay"]


def _assay(case: Case, **settings: Any) -> Callable[[], Tensor]:
    method = IntegratedGradients(**settings)
    return lambda: method.explain(case.model, case.x, case.target, case.reference).values


def _captum(case: Case, steps: int, method: str, piece: int | None) -> Callable[[], Tensor]:
    of_odds = CaptumGradients(lambda given, which: log_odds(case.model(given), which))
    settings = {"n_steps": steps, "method": method, "internal_batch_size": piece}
    baseline = case.reference.baseline(case.x)
    return lambda: of_odds.attribute(case.x, baseline, additional_forward_args=(case.target,), **settings)


def seconds_of(calls: Mapping[str, Callable[[], object]], *, rounds: int = ROUNDS) -> dict[str, float]:
    """Returns the median processor time of each call; the calls alternate."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time()
            call()
            taken[name].append(time.process_time() - began)
    return {name: round(statistics.median(values), 6) for name, values in taken.items()}


def _trained(model: nn.Module, dataset: Any, epochs: int) -> nn.Module:
    recipe = Recipe.model_validate({"training": {"epochs": epochs, "batch_size": 64, "learning_rate": 0.002}})
    x, y = torch.from_numpy(dataset.x[:2000]), torch.from_numpy(dataset.y[:2000])
    build_trainer(model, recipe, x, y, bounds=dataset.bounds, seed=0).run()
    return model.eval()


def _of_dataset(model: nn.Module, dataset: Any, modality: Any) -> Case:
    background, x = torch.from_numpy(dataset.x[:100]), torch.from_numpy(dataset.x[-RECORDS:])
    with torch.no_grad():
        target = model(x).argmax(1)
    reference = Reference(modality=modality, background=background, source="100 records")
    return Case(model=model, x=x, target=target, reference=reference)


def xrays() -> Case:
    dataset = PneumoniaMNIST().load()
    model = CNN(channels=(8, 16, 32)).build(dataset.shape, dataset.classes, seed=0)
    return _of_dataset(_trained(model, dataset, 3), dataset, "image")


def table() -> Case:
    dataset: Any = build("dataset", "wdbc").load()  # type: ignore[attr-defined]
    model = MLP(hidden=(64, 32)).build(dataset.shape, dataset.classes, seed=0)
    return _of_dataset(_trained(model, dataset, 30), dataset, "tabular")


def _residual() -> Case:
    """ResNet-18 with group norm on X-rays, with a quarter of the usual channels."""
    dataset = PneumoniaMNIST().load()
    torch.manual_seed(0)
    model = ResNet(Basic, (2, 2, 2, 2), 1, dataset.classes, norm="group", stem="small", width=16)
    return replace(_of_dataset(_trained(model, dataset, 2), dataset, "image"), exact=1024)


def _texts() -> Case:
    """Random word vectors, of texts of 8 to 39 words in no order: only the work is that of a text."""
    torch.manual_seed(0)
    model = LSTM(hidden=64).build((40, 50), 2, seed=0).eval()
    x = torch.randn(RECORDS, 40, 50)
    for row, words in enumerate(torch.randperm(RECORDS).tolist()):
        x[row, 8 + words :] = 0
    with torch.no_grad():
        target = model(x).argmax(1)
    reference = Reference(modality="text", background=torch.zeros(1, 40, 50), source="words without a meaning")
    return Case(model=model, x=x, target=target, reference=reference)
