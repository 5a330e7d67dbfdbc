"""Rows on models and maps that are made to deceive: what the evaluation of explanations says of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.data.planted.images import PlantedImages
from assay.evaluations.explained_records import reference_of
from assay.evaluations.explanations import Explanations
from assay.evaluations.subject import Subject
from assay.explain.base import Explained, Explainer
from assay.explain.measures.controls.known_beforehand import Centre, Edges
from assay.explain.measures.replacements.smooth import blurred
from assay.explain.measures.truth import enrichment
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.references import Reference
from assay.registry import _METHODS, register
from assay.results import Check, Finding, Measurement
from tests.benchmarks.known_answers.networks import DOUBLE, Score
from tests.benchmarks.known_answers.row import Row, below, between, listed, numbers_near, says
from tests.benchmarks.known_answers.systems import assay, captum, shap_gradient
from tests.benchmarks.known_answers.trained import Trainer, split_of, subject_of

CNN = {"name": "cnn", "channels": (8, 16), "hidden": 16, "pool": "average"}
QUICK = {"records": 40, "measured": 40, "control_draws": 3, "steps": 8, "draws": 50, "retrained": False}
"""Settings of the evaluation that answer in a few seconds."""


def half_size() -> Dataset:
    """The planted images at half of their size, to be quick."""
    data = PlantedImages().load()
    return replace(data, x=np.ascontiguousarray(np.asarray(data.x)[..., ::2, ::2]))


@cache
def images() -> Subject:
    """A network that finds the opacities of the planted images."""
    trainer = Trainer(data=half_size(), model=CNN, seed=0, training={"epochs": 12, "learning_rate": 0.01})
    return subject_of(trainer, split_of(trainer.data, seed=0, test=200, train=800))


class _Drawn(Explainer):
    """A map that needs no model."""

    adds_up: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False

    def map_of(self, x: Tensor, reference: Reference) -> Tensor:
        """The map of records, by feature."""
        raise NotImplementedError

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        return Explained(values=self.map_of(x, reference).expand_as(x))


class EdgeDetector(_Drawn):
    name: Literal["edge_detector"] = "edge_detector"
    title: ClassVar[str] = "Edges"

    def map_of(self, x: Tensor, reference: Reference) -> Tensor:
        return Edges().draw(_given(x, reference), x, 0)


class CentrePrior(_Drawn):
    name: Literal["centre_prior"] = "centre_prior"
    title: ClassVar[str] = "Centre"

    def map_of(self, x: Tensor, reference: Reference) -> Tensor:
        return Centre().draw(_given(x, reference), x, 0)


class OtherPatient(_Drawn):
    """Integrated gradients of another patient, of the background."""

    name: Literal["other_patient"] = "other_patient"
    title: ClassVar[str] = "Another patient's map"
    needs_gradient: ClassVar[bool] = True

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        known = reference.background.to(x)
        others = known[(1e4 * x.flatten(1).sum(1)).abs().long() % len(known)]
        return Explained(values=IntegratedGradients().explain(model, others, target, reference).values)


class BlurredCopy(Explainer):
    """Integrated gradients, blurred as the control of the measures is."""

    name: Literal["blurred_copy"] = "blurred_copy"
    title: ClassVar[str] = "Blurred map"
    adds_up: ClassVar[bool] = False
    width: float = 0.05
    """Standard deviation of the blur, as a share of each side."""

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        return Explained(values=blurred(IntegratedGradients().explain(model, x, target, reference).values, self.width))


def _given(x: Tensor, reference: Reference) -> Any:
    class Records:
        pass

    records = Records()
    records.x, records.reference = x, reference  # type: ignore[attr-defined]
    return records


def verdict(found: list[Finding], rule: str, method: str) -> str:
    """The verdict of a rule on a method; what else is said where there is none."""
    said = [
        one for one in found if isinstance(one, Check) and one.rule == rule and one.conditions.get("method") == method
    ]
    if said:
        return said[0].verdict
    absent = [one for one in found if isinstance(one, Measurement) and one.conditions.get("method") == method]
    return next((one.status for one in absent if one.name == "faithfulness"), "nothing")


@contextmanager
def registered(*kinds: type[Explainer]) -> Iterator[None]:
    """Makes methods known by name within the block."""
    try:
        for kind in kinds:
            register("explainer")(kind)
        yield
    finally:
        for kind in kinds:
            _METHODS.pop(("explainer", str(kind.model_fields["name"].default)), None)


@cache
def _of_images() -> list[Finding]:
    """What the evaluation says of maps that need no model, and of integrated gradients, on planted images."""
    kinds = (EdgeDetector, CentrePrior, OtherPatient, BlurredCopy)
    with registered(*kinds):
        names = tuple(str(kind.model_fields["name"].default) for kind in kinds)
        return list(Explanations(methods=names, **QUICK).measure(images()))


def _better(method: str) -> str:
    return verdict(_of_images(), "better_than_controls", method)


def _area(method: str) -> float:
    """Mean area between the curves of a method, over the panel."""
    where = {"method": method, "replacement": "panel"}
    rows = [one for one in _of_images() if isinstance(one, Measurement) and one.name == "area_between"]
    return next(one.value for one in rows if where.items() <= one.conditions.items())


def _blurred_away() -> str:
    """What the evaluation says of a map that is blurred over half of the image."""
    method = {"name": "blurred_copy", "width": 0.5}
    with registered(BlurredCopy):
        found = list(Explanations(methods=(method,), **QUICK | {"records": 200, "measured": 200}).measure(images()))
    return verdict(found, "better_than_controls", "blurred_copy")


class AnswersAtRandom(nn.Module):
    """Adds noise to the logits that is as great as they are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        return logits + logits.detach().std() * torch.randn_like(logits)


def _random_answers() -> str:
    subject = images()
    again = subject_of(subject.train, subject.split, AnswersAtRandom(subject.model))  # type: ignore[arg-type]
    return verdict(list(Explanations(**QUICK).measure(again)), "better_than_controls", "integrated_gradients")


@cache
def _marked() -> tuple[Subject, Tensor]:
    """A network on images of which those with an opacity have a bright corner too; the mask of the corner."""
    data = half_size()
    x = np.array(data.x)
    x[data.y == 1, :, :2, :2] = 1.0
    trainer = Trainer(data=replace(data, x=x), model=CNN, seed=0, training={"epochs": 12, "learning_rate": 0.01})
    subject = subject_of(trainer, split_of(trainer.data, seed=0, test=200, train=800))
    corner = torch.zeros(1, *data.shape[1:], dtype=torch.bool)
    corner[:, :2, :2] = True
    return subject, corner


def _corner() -> float:
    """Lower bound of the enrichment at the corner."""
    subject, corner = _marked()
    rows = subject.split.test
    rows = rows[subject.dataset.y[rows] == 1][:60]
    x = subject.records(rows)[0]
    about = reference_of(subject)
    target = torch.ones(len(x), dtype=torch.long)
    values = about.by_feature(IntegratedGradients().explain(subject.model, x, target, about).values)
    found = enrichment(values, corner.expand(values.shape)).numpy()
    return float(found.mean() - 1.96 * found.std() / np.sqrt(len(found)))


class Shifted(nn.Module):
    """Adds the brightness of the top row, many times, to both logits of a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) + 50 * x[:, 0, 0].mean(1, keepdim=True)


def _shifted(system: str) -> float:
    """Change of a map of a trained network by a shift of both logits, relative to the greatest value."""
    subject = images()
    x = subject.records(subject.split.test[:8])[0]
    about = reference_of(subject)
    target = torch.ones(len(x), dtype=torch.long)
    maps = []
    for model in (subject.model, Shifted(subject.model)):
        if system == "assay":
            maps.append(IntegratedGradients().explain(model, x, target, about).values)
        elif system == "captum":
            maps.append(captum("IntegratedGradients", model, x, baselines=about.baseline(x)))
        else:
            maps.append(shap_gradient(model, x, about.background))
    return float((maps[0] - maps[1]).abs().max() / maps[0].abs().max())


SATURATING = Score(lambda x: 10 * (1 - (1 - x[:, 0]).relu()) - 10)
BEYOND, NOTHING = torch.tensor([[3.0, 1.0]], dtype=DOUBLE), torch.zeros(1, 2, dtype=DOUBLE)


ROWS = (
    *(
        Row(
            fault="C3",
            name=f"control_{method}",
            input=f"the evaluation of {title} given as a method, on planted images",
            right="warn: no better than controls",
            accepts=says("warn"),
            assay=lambda method=method: _better(method),
        )
        for method, title in (
            ("edge_detector", "an edge detector"),
            ("centre_prior", "nearness to the centre"),
            ("other_patient", "another patient's map"),
        )
    ),
    Row(
        fault="C3",
        name="control_blurred_map",
        input="the evaluation of integrated gradients blurred over half of the image, given as a method",
        right="warn: no better than controls",
        accepts=says("warn"),
        assay=_blurred_away,
    ),
    Row(
        fault="C3",
        name="blurred_copy_does_not_outrank",
        input="area between the curves of integrated gradients and of their blurred copy: the copy's beyond the map's",
        right="at most 0",
        accepts=below(0.0),
        assay=lambda: _area("blurred_copy") - _area("integrated_gradients"),
    ),
    Row(
        fault="C3",
        name="integrated_gradients_beat_controls",
        input="the evaluation of integrated gradients of the same network",
        right="pass",
        accepts=says("pass"),
        assay=lambda: _better("integrated_gradients"),
    ),
    Row(
        fault="C4",
        name="corner_marker",
        input="images whose class is told by a bright corner: lower bound of the enrichment of the map there",
        right="above 3: the marker is found",
        accepts=between(3.0, np.inf),
        assay=_corner,
    ),
    Row(
        fault="C5",
        name="shift_of_a_trained_network",
        input="50 times the brightness of the top row added to both logits of a trained CNN: change of the map",
        right="at most 1 % of the greatest value",
        accepts=below(0.01),
        assay=lambda: _shifted("assay"),
        captum=lambda: _shifted("captum"),
        shap=lambda: _shifted("shap"),
    ),
    Row(
        fault="C6",
        name="saturated_unit",
        input="10·min(x₁, 1) at (3, 1), where the gradient is 0: values by the default path method",
        right="(10, 0), to 10 %",
        accepts=numbers_near(10.0, 0.0, tolerance=1.0),
        assay=lambda: listed(assay("integrated_gradients", SATURATING, BEYOND, NOTHING).values[0]),
        captum=lambda: listed(captum("IntegratedGradients", SATURATING, BEYOND)[0]),
        shap=lambda: listed(shap_gradient(SATURATING, BEYOND, torch.zeros(2, 2))),
    ),
    Row(
        fault="C7",
        name="answers_at_random",
        input="a network that adds noise to its answers: is its map called better than controls?",
        right="not applicable: a map would explain one draw",
        accepts=says("not_applicable"),
        assay=_random_answers,
    ),
)
