"""Rows on networks that keep their accuracy and were given other explanations: scaffolds and ripples."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.data.planted.table import PlantedTable
from assay.evaluations.explained_records import measured_records, reference_of
from assay.evaluations.explanations import Explanations
from assay.evaluations.subject import Subject
from assay.explain.measures.base import MeasuredMap
from assay.explain.measures.stability import MaxSensitivity
from assay.registry import build
from assay.results import Finding
from tests.benchmarks.known_answers.deceivers import verdict
from tests.benchmarks.known_answers.row import Row, between, says
from tests.benchmarks.known_answers.trained import Trainer, accuracy, split_of, subject_of

QUICK = {"records": 60, "measured": 50, "control_draws": 6, "steps": 10, "draws": 50, "retrained": False}
PAIRS = 10


class Scaffold(nn.Module):
    """Decides by feature 0 and its copy on real records, and by feature 1 and its copy wherever pairs do not fit.

    Slack et al. (2020, arXiv:1911.02508): methods that ask about perturbed records see the second rule.
    """

    def forward(self, x: Tensor) -> Tensor:
        real = (x[:, :PAIRS] - x[:, PAIRS:]).abs().amax(1) <= 0.8
        biased, innocent = (4 * (x[:, place] + x[:, PAIRS + place]) for place in (0, 1))
        score = torch.where(real, biased, innocent)
        return torch.stack([0 * score, score], 1)


@cache
def scaffold() -> Subject:
    """The scaffold on ten pairs of features that are nearly copies of each other."""
    generator = np.random.default_rng(0)
    half = generator.normal(size=(1000, PAIRS))
    x = np.concatenate([half, half + 0.2 * generator.normal(size=half.shape)], 1).clip(-4, 4).astype(np.float32)
    data: Dataset = replace(PlantedTable().load(), x=x, y=(x[:, 0] + x[:, PAIRS] > 0).astype(np.int64))
    split = split_of(data, seed=3, test=200, train=600)
    return Subject(model=Scaffold().eval(), dataset=data, split=split, recipe=None, log=None, seed=3)


def _innocent() -> str:
    """What the evaluation says of the map of a perturbing method, if that map is fooled at all."""
    subject, method = scaffold(), "permutation_shapley"
    x = subject.records(subject.split.test[:50])[0]
    target = subject.model(x).argmax(1)
    values = build("explainer", method).explain(subject.model, x, target, reference_of(subject)).values  # type: ignore[attr-defined]
    size = values.abs().mean(0)
    assert size[1] > size[0], "the scaffold does not fool the method"
    return verdict(list(Explanations(methods=(method,), **QUICK).measure(subject)), "holds_on_the_data", method)


class Ripple(nn.Module):
    """A network and a wave in one feature, so low that no answer changes and so short that it rules the gradient."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        wave = 0.05 * torch.sin(2000 * x[:, 0])
        return self.network(x) + torch.stack([0 * wave, wave], 1)


@cache
def both() -> tuple[Subject, Subject]:
    """A network on the planted table, and the same with a ripple in a feature that enters no score."""
    source = PlantedTable(draw=2)
    assert not source.truth()[0, 0]
    trainer = Trainer(data=source.load(), model={"name": "mlp", "hidden": (32,)}, seed=3, training={"epochs": 12})
    honest = subject_of(trainer, split_of(trainer.data, seed=3, test=200, train=600))
    fooled = replace(honest, model=Ripple(honest.model).eval(), train=None)
    assert accuracy(fooled) == accuracy(honest)
    return honest, fooled


def _said(which: int) -> str:
    found: list[Finding] = list(Explanations(**QUICK).measure(both()[which]))
    return verdict(found, "values_agree", "integrated_gradients")


def _sensitivity(subject: Subject) -> float:
    """Mean greatest change of the gradient over changes of a record by 2 % of the ranges."""
    records = measured_records(subject, subject.split.test[:50], reference_of(subject))
    method: Any = build("explainer", "saliency")
    again = lambda model, x: method.explain(model, x, records.target, records.reference).values
    values = again(subject.model, records.x)
    return float(MaxSensitivity().score(records, MeasuredMap(values=values, again=again)).nanmean())


ROWS = (
    Row(
        fault="C1",
        name="scaffold",
        input="a rule that decides by another feature wherever a record is perturbed: Shapley values by permutations",
        right="warn: explained off the data",
        accepts=says("warn"),
        assay=_innocent,
    ),
    Row(
        fault="C2",
        name="ripple_values",
        input="a network with a short wave in a feature of noise, same accuracy: do two rules of a value agree?",
        right="warn",
        accepts=says("warn"),
        assay=lambda: _said(1),
    ),
    Row(
        fault="C2",
        name="no_ripple_values",
        input="the same network without the wave",
        right="pass",
        accepts=says("pass"),
        assay=lambda: _said(0),
    ),
    Row(
        fault="C2",
        name="ripple_sensitivity",
        input="sensitivity of the gradient of the network with the wave, over that without",
        right="at least 5",
        accepts=between(5.0, np.inf),
        assay=lambda: _sensitivity(both()[1]) / _sensitivity(both()[0]),
    ),
)
