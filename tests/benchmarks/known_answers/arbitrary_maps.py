"""Rows on networks that keep their answers and were given an arbitrary map, in directions in which no data vary."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from assay.data.base import Dataset
from assay.data.planted.table import PlantedTable
from assay.evaluations.explained_records import reference_of
from assay.evaluations.explanations import Explanations
from assay.evaluations.subject import Subject
from assay.registry import build
from assay.results import Check
from tests.benchmarks.known_answers import contrasts
from tests.benchmarks.known_answers.deceivers import verdict
from tests.benchmarks.known_answers.fine_tuned import Fooled, fine_tuned, location, map_of, top_k
from tests.benchmarks.known_answers.row import Row, says
from tests.benchmarks.known_answers.trained import Trainer, accuracy, split_of, subject_of

QUICK: dict[str, Any] = {"records": 60, "measured": 60, "control_draws": 3, "steps": 5, "draws": 50, "retrained": False}
RULE = "varies_with_the_data"
PAIRS, NEAR = 10, 0.01
"""Columns with a copy each, and the standard deviation of the difference between a column and its copy."""
SHOWN = (5, 6, 8)
"""Columns that are to be seen in the map, with their copies."""


@cache
def copied() -> Subject:
    """An honest network on ten columns of the planted table, each with a copy that differs from it by a little."""
    data = PlantedTable().load()
    x = np.asarray(data.x)
    strength = [abs(np.corrcoef(x[:, column], data.y)[0, 1]) for column in range(x.shape[1])]
    half = x[:, np.argsort(strength)[::-1][:PAIRS]]
    noise = NEAR * np.random.default_rng(0).normal(size=half.shape)
    both = np.concatenate([half, half + noise], 1).clip(-4, 4).astype(np.float32)
    return _trained(replace(data, x=both), train=600)


@cache
def digits() -> Subject:
    """An honest network on images of digits, whose outermost pixels hardly vary."""
    return _trained(build("dataset", "digits").load(), train=900)  # type: ignore[attr-defined]


def _trained(data: Dataset, *, train: int) -> Subject:
    split = split_of(data, seed=3, test=100, train=train)
    prepared = data.prepared(split.train, seed=3)
    trainer = Trainer(data=prepared, model={"name": "mlp", "hidden": (64,)}, seed=3, training={"epochs": 12})
    return subject_of(trainer, split)


class AcrossTheData(nn.Module):
    """A network and a linear term that is 0 wherever columns equal their copies (Anders et al. 2020).

    Args:
        network: with its answers.
        slopes: (pairs,) of each column; its copy has the opposite slope.
    """

    slopes: Tensor

    def __init__(self, network: nn.Module, slopes: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("slopes", slopes)

    def forward(self, x: Tensor) -> Tensor:
        apart = (x[:, :PAIRS] - x[:, PAIRS:]) @ self.slopes
        out: Tensor = self.network(x)
        return out + torch.stack([-apart, apart], 1)


@cache
def across() -> Subject:
    """The network on copied columns with another map across the data, the same for all records."""
    honest = copied()
    target = torch.zeros(PAIRS)
    target[list(SHOWN)] = torch.tensor([12.0, -10.0, 8.0])
    fooled = replace(honest, model=AcrossTheData(honest.model, target).eval(), train=None)
    return _same_answers(honest, fooled)


@cache
def relocated(method: Fooled) -> Subject:
    """A network that was fine-tuned to show other places: columns of a table, or the sides of images."""
    if method == "integrated_gradients":
        honest, shown = copied(), torch.zeros(2 * PAIRS)
        shown[[*SHOWN, *(PAIRS + column for column in SHOWN)]] = 1
        settings: dict[str, Any] = {"weight": 0.1, "steps": 2000}
    else:
        honest, sides = digits(), torch.zeros(8, 8)
        sides[:, [0, 7]] = 1
        shown, settings = sides.flatten(), {"weight": 0.1, "steps": 3000}
    network = fine_tuned(honest, location(shown), method=method, learning_rate=0.01, **settings)
    fooled = _same_answers(honest, replace(honest, model=network, train=None))
    assert _likeness(fooled, method, shown) > 2 * _likeness(honest, method, shown), "the map is not fooled"
    return fooled


@cache
def hidden_top() -> Subject:
    """A network that was fine-tuned to have no slope at the half of the pixels that ranked highest."""
    honest = digits()
    before = _maps(honest, "saliency").abs().mean(0)
    loss = top_k(before, 0.5)
    network = fine_tuned(honest, loss, method="saliency", weight=0.2, steps=800, learning_rate=0.01)
    fooled = _same_answers(honest, replace(honest, model=network, train=None))
    shares = [float(loss(_maps(subject, "saliency")).mean()) for subject in (honest, fooled)]
    assert shares[1] < shares[0] / 4, "the map is not fooled"
    return fooled


def _same_answers(honest: Subject, fooled: Subject) -> Subject:
    rows = honest.split.test
    same = (honest.logits(rows).argmax(1) == fooled.logits(rows).argmax(1)).mean()
    assert accuracy(fooled) > accuracy(honest) - 0.04 and same > 0.95, "the answers have changed"
    return fooled


def _maps(subject: Subject, method: Fooled) -> Tensor:
    x = subject.records(subject.split.test)[0]
    target = subject.model(x).argmax(1)
    return map_of(subject.model, x, target, reference_of(subject).baseline(x), method).detach()


def _likeness(subject: Subject, method: Fooled, shown: Tensor) -> float:
    return float(functional.cosine_similarity(_maps(subject, method).abs(), shown[None]).mean())


def checks_of(subject: Subject, method: Fooled) -> list[Check]:
    """Checks of the evaluation on one method.

    Args:
        subject: the model with its data.
        method: its name.

    Returns:
        The checks.
    """
    found = Explanations(methods=(method,), **QUICK).measure(subject)
    return [one for one in found if isinstance(one, Check) and one.conditions.get("method") == method]


def _said(subject: Subject, method: Fooled) -> str:
    return verdict(list(checks_of(subject, method)), RULE, method)


ROWS = tuple(
    Row(fault="C2", name=name, input=given, right=right, accepts=says(right), assay=ask)
    for name, given, right, ask in (
        (
            "slopes_across_copied_columns",
            "a linear term that is 0 where columns equal their copies gives a network another map (Anders et al.)",
            "warn",
            lambda: _said(across(), "integrated_gradients"),
        ),
        (
            "location_fooling_of_integrated_gradients",
            "a network on copied columns fine-tuned until its map shows three other columns (Heo et al.)",
            "warn",
            lambda: _said(relocated("integrated_gradients"), "integrated_gradients"),
        ),
        (
            "location_fooling_of_saliency",
            "a network on digits fine-tuned until its gradient shows the sides of the image (Heo et al.)",
            "warn",
            lambda: _said(relocated("saliency"), "saliency"),
        ),
        (
            "top_k_fooling_of_saliency",
            "a network on digits fine-tuned until the pixels that ranked highest have no gradient (Heo et al.)",
            "warn",
            lambda: _said(hidden_top(), "saliency"),
        ),
        (
            "copied_columns",
            "the honest network on copied columns",
            "pass",
            lambda: _said(copied(), "integrated_gradients"),
        ),
        (
            "digits_saliency",
            "the gradient of the honest network on digits",
            "pass",
            lambda: _said(digits(), "saliency"),
        ),
        (
            "difference_of_columns",
            "the difference of two columns with a correlation of 0.9 decides",
            "pass",
            lambda: _said(contrasts.difference(), "integrated_gradients"),
        ),
        (
            "learnt_differences",
            "a network has learnt differences of columns with a correlation of 0.9",
            "pass",
            lambda: _said(contrasts.trained(), "integrated_gradients"),
        ),
        (
            "edge_of_images",
            "the difference of two neighbouring columns of pixels decides, of images with details",
            "pass",
            lambda: _said(contrasts.filtered(0.2), "saliency"),
        ),
    )
)
