"""Rows on deceivers that one rule of the evaluation catches, and no other: what would be lost without it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from assay.data.planted.table import PlantedTable
from assay.evaluations.explanations import Explanations
from assay.evaluations.subject import Subject
from assay.explain.base import Explained, Explainer
from assay.explain.measures.controls.known_beforehand import Centre
from assay.explain.methods.deep_shap import DeepShap
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.methods.permutation import PermutationShapley
from assay.explain.references import Reference
from assay.results import RAISED, Check
from tests.benchmarks.known_answers.arbitrary_maps import relocated
from tests.benchmarks.known_answers.contrasts import smooth_score
from tests.benchmarks.known_answers.deceivers import images, registered
from tests.benchmarks.known_answers.fooling import both, scaffold
from tests.benchmarks.known_answers.model_free import table
from tests.benchmarks.known_answers.near_baseline import bumped
from tests.benchmarks.known_answers.row import Row, says
from tests.benchmarks.known_answers.trained import Trainer, split_of, subject_of

QUICK: dict[str, Any] = {"records": 60, "measured": 50, "control_draws": 6, "steps": 10, "draws": 50}


def warned(
    subject: Subject,
    method: str,
    *,
    kinds: Sequence[type[Explainer]] = (),
    retrained: bool = False,
) -> str:
    """Rules that do not pass for a method.

    Args:
        subject: the model with its data.
        method: its name.
        kinds: methods that are known by name meanwhile.
        retrained: whether a second network is trained.

    Returns:
        Their names, with commas.
    """
    with registered(*kinds):
        found = list(Explanations(methods=(method,), retrained=retrained, **QUICK).measure(subject))
    said = [one for one in found if isinstance(one, Check) and one.conditions.get("method") == method]
    return ", ".join(sorted(one.rule for one in said if one.verdict in RAISED))


class Cliff(nn.Module):
    """A network and a jump in its first feature, so steep that no point of a quadrature meets it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        jump = 4 * torch.sigmoid(1e6 * (x[:, 0] - 0.1234))
        return self.network(x) + torch.stack([0 * jump, jump], 1)


class Waves(nn.Module):
    """A network and two short waves that cancel, in a column and in its exact copy: sums stay right, values do not.

    Args:
        network: that reads all columns but the last, which copies the first.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        wave = 0.06 * (torch.sin(2000 * x[:, 0]) - torch.sin(2000 * x[:, -1]))
        return self.network(x) + torch.stack([0 * wave, wave], 1)


class TooLarge(Explainer):
    """Values of Deep SHAP, each a third too large."""

    name: Literal["too_large"] = "too_large"
    title: ClassVar[str] = "A third too large"
    scalar = DeepShap.scalar

    @property
    def from_background(self) -> bool:
        return True

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        return Explained(values=DeepShap().explain(model, x, target, reference).values * 4 / 3)


class Checkerboard(Explainer):
    """Integrated gradients at the white squares of a checkerboard of pixels, and 0 at the black ones.

    Where the values of neighbours are alike, a blur gives the black squares back what they had, and ranks all pixels as
    the whole map does. The map itself ranks one half of them right, more than any control.
    """

    name: Literal["checkerboard"] = "checkerboard"
    title: ClassVar[str] = "Checkerboard"
    adds_up: ClassVar[bool] = False

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        values = IntegratedGradients().explain(model, x, target, reference).values
        rows, columns = (torch.arange(size, device=x.device) for size in x.shape[-2:])
        return Explained(values=values * ((rows[:, None] + columns) % 2 == 0))


class ValuesAlone(Explainer):
    """Shapley values by permutations, without the second rule that tells their error."""

    name: Literal["values_alone"] = "values_alone"
    title: ClassVar[str] = "Values alone"
    adds_up: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        return Explained(values=PermutationShapley().explain(model, x, target, reference).values)


class InTheMiddle(Explainer):
    """Nearness to the middle of the image, whatever the model."""

    name: Literal["in_the_middle"] = "in_the_middle"
    title: ClassVar[str] = "Nearness to the middle"
    adds_up: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        return Explained(values=Centre().draw(None, x, 0))  # type: ignore[arg-type]


class WrittenRule(nn.Module):
    """Decides by a rule that stands in its code; its weights add next to nothing.

    Args:
        slopes: (features,) of the rule.
    """

    slopes: Tensor

    def __init__(self, slopes: Tensor) -> None:
        super().__init__()
        self.register_buffer("slopes", slopes)
        self.layer = nn.Linear(len(slopes), 2)
        with torch.no_grad():
            self.layer.weight.mul_(0.05)

    def forward(self, x: Tensor) -> Tensor:
        score = x @ self.slopes
        out: Tensor = self.layer(x)
        return out + torch.stack([-score, score], 1)


@cache
def written() -> Subject:
    """A network with a written rule; one of another seed has the same rule."""
    data = PlantedTable(draw=2).load()
    slopes = torch.linspace(-2, 2, data.shape[0])

    def network(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return WrittenRule(slopes).eval()

    split = split_of(data, seed=3, test=200, train=600)
    trainer = Trainer(data=data, model={"name": "mlp"}, seed=3)
    return replace(subject_of(trainer, split, network(0)), train=lambda *_: network(1))


def _with_waves() -> Subject:
    data = PlantedTable(draw=2).load()
    x = np.array(data.x)
    x[:, -1] = x[:, 0]
    split = split_of(data, seed=3, test=200, train=600)
    trainer = Trainer(data=replace(data, x=x), model={"name": "mlp", "hidden": (32,)}, seed=3, training={"epochs": 12})
    honest = subject_of(trainer, split)
    return replace(honest, model=Waves(honest.model).eval(), train=None)


def _with_a_cliff() -> Subject:
    honest = both()[0]
    return replace(honest, model=Cliff(honest.model).eval(), train=None)


ROWS = tuple(
    Row(fault="C", name=f"only_{rule}", input=given, right=rule, accepts=says(rule), assay=ask)
    for rule, given, ask in (
        (
            "completeness",
            "a jump so steep that no point of a quadrature meets it: which rules warn?",
            lambda: warned(_with_a_cliff(), "integrated_gradients"),
        ),
        (
            "additivity",
            "values of Deep SHAP, each a third too large: which rules warn?",
            lambda: warned(both()[0], "too_large", kinds=(TooLarge,)),
        ),
        (
            "values_agree",
            "two short waves that cancel, in a column and its exact copy: which rules warn?",
            lambda: warned(_with_waves(), "integrated_gradients"),
        ),
        (
            "randomised_weights",
            "a rule that stands in the code of a network, beside weights of no effect: which rules warn?",
            lambda: warned(written(), "integrated_gradients", retrained=True),
        ),
        (
            "better_than_controls",
            "nearness to the middle of an image given as a method: which rules warn?",
            lambda: warned(images(), "in_the_middle", kinds=(InTheMiddle,)),
        ),
        (
            "blur_does_not_win",
            "a smooth map of smooth images, shown at every other pixel alone: which rules warn?",
            lambda: warned(smooth_score(), "checkerboard", kinds=(Checkerboard,)),
        ),
        (
            "holds_on_the_data",
            "a scaffold that decides by another feature wherever a record is perturbed: which rules warn?",
            lambda: warned(scaffold(), "values_alone", kinds=(ValuesAlone,)),
        ),
        (
            "varies_with_the_data",
            "a network on copied columns fine-tuned to show three other columns: which rules warn?",
            lambda: warned(relocated("integrated_gradients"), "integrated_gradients"),
        ),
        (
            "rests_on_data",
            "a slope at the baseline of a network on a table, where no record is: which rules warn?",
            lambda: warned(bumped(table(), "slope", height=100.0), "integrated_gradients"),
        ),
    )
)
