"""Rows on LIME, LRP, concepts and counterfactuals, and on asking a model off the data."""

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

import assay.data  # noqa: F401
from assay.data.base import Dataset
from assay.evaluations.explained_records import reference_of
from assay.explain.global_.change_rules import change_rules
from assay.explain.global_.concepts import ConceptScores, concept_scores, random_sets
from assay.explain.global_.counterfactuals import Counterfactuals, nearest_counterfactuals
from assay.explain.methods.lime import Lime
from assay.explain.methods.lrp import Lrp
from assay.explain.off_data import nearest_neighbour, share_off_data
from assay.registry import build
from tests.benchmarks.known_answers.fooling import scaffold
from tests.benchmarks.known_answers.networks import DOUBLE, Score, drawn, layered
from tests.benchmarks.known_answers.row import Row, below, between, says
from tests.benchmarks.known_answers.systems import CLASS_1, captum, reference

CURVED = Score(lambda x: 3 * torch.tanh(x[:, 0]) + x[:, 1] * x[:, 2])
POINT = torch.tensor([[1.0, 0.5, -1.0, 2.0]], dtype=DOUBLE)


def _coverage() -> float:
    """Share of 200 seeds whose interval of the first coefficient holds the coefficient of very many samples."""
    about = reference(0 * POINT)

    def found(samples: int, seed: int) -> tuple[float, float]:
        draw = np.random.default_rng(seed)
        made = Lime(samples=samples, ridge=0.0).surrogate(CURVED, POINT, CLASS_1, about, draw)
        return float(made.coefficients[0, 0]), float(made.standard_error[0, 0])

    right = found(200_000, 1)[0]
    few = [found(300, 100 + seed) for seed in range(200)]
    return float(np.mean([abs(value - right) <= 1.96 * error for value, error in few]))


def _normed() -> nn.Sequential:
    network = layered(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    network[1].running_mean.copy_(drawn(5, seed=5))
    network[1].running_var.copy_(drawn(5, seed=6).abs() + 0.5)
    return network


def _merged() -> nn.Sequential:
    """The same network with the batch normalisation in the weights of the layer before."""
    whole = _normed()
    gain = whole[1].weight / (whole[1].running_var + whole[1].eps).sqrt()
    network = layered(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        network[0].weight.copy_(whole[0].weight * gain[:, None])
        network[0].bias.copy_((whole[0].bias - whole[1].running_mean) * gain + whole[1].bias)
        network[2].load_state_dict(whole[3].state_dict())
    return network.eval()


ROWS_OF_SIX, TARGETS = drawn(4, 6, seed=7), torch.ones(4, dtype=torch.long)


def _relevance(model: nn.Module) -> Tensor:
    return Lrp().relevance(model, ROWS_OF_SIX, TARGETS).values


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / one.abs().max())


def _lost() -> float:
    """Relevance that is lost on the way, relative to the score."""
    found = Lrp().relevance(_normed(), ROWS_OF_SIX, TARGETS)
    return float(((found.values.sum(1) + found.kept - found.score).abs() / found.score.abs()).max())


class Directed(nn.Module):
    """The class depends on the first of twelve numbers, through a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 12, bias=False).to(DOUBLE)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(12))

    def forward(self, x: Tensor) -> Tensor:
        value = (self.layer(x)[:, 0] / 2).tanh()
        return torch.stack([-value, value], dim=1)


@cache
def _concepts(turned: bool = False) -> ConceptScores:
    planted = drawn(40, 12, seed=3) + 3 * torch.eye(12, dtype=DOUBLE)[0]
    concepts = {"planted": planted, "nothing": drawn(40, 12, seed=4)}
    given = dict(reversed(concepts.items())) if turned else concepts
    sets = random_sets(drawn(400, 12, seed=2), size=40, count=40, seed=0)
    return concept_scores(Directed(), "layer", drawn(60, 12, seed=1), torch.ones(60, dtype=torch.long), given, sets)


WEIGHTS = torch.tensor([1.5, -2.0, 0.5, 1.0])


def _changed(*, immutable: tuple[str, ...] = (), digits: int = 6) -> tuple[Tensor, Counterfactuals]:
    """Counterfactuals of a linear model of four numbers, rounded as they are reported."""
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    data = Dataset(
        name="made", x=np.zeros((4, 4), np.float32), y=np.arange(4) % 2, class_names=("no", "yes"),
        feature_names=tuple("abcd"), low=np.full(4, -10, np.float32), high=np.full(4, 10, np.float32),
        units="units", epsilons=(0.0,),
    )  # fmt: skip
    model = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.stack([0 * WEIGHTS, WEIGHTS]))
    rules = change_rules(data, immutable=list(immutable), digits=digits)
    return x, nearest_counterfactuals(model, x, rules, lambda logits: logits.argmax(1))


def _distance() -> float:
    x, found = _changed()
    right = ((x @ WEIGHTS).abs() / WEIGHTS.norm()).numpy()
    return float(np.max(np.abs(found.exact - right) / right)) if found.found.all() else np.inf


def _immutable() -> str:
    x, found = _changed(immutable=("b",))
    return "equal bits" if (found.values[:, 1] == x[:, 1].numpy()).all() and found.found.all() else "changed"


def _flips_after_rounding() -> float:
    """Share of the counterfactuals that change the class with two digits."""
    x, found = _changed(digits=2)
    after = torch.from_numpy(found.values) @ WEIGHTS > 0
    return float((after != (x @ WEIGHTS > 0)).float().mean())


def _off_data() -> float:
    """Share of what Kernel SHAP asks about the scaffold that is unlike the data."""
    subject = scaffold()
    x = subject.records(subject.split.test[:10])[0]
    known = subject.records(subject.split.train)[0]
    shares = share_off_data(
        build("explainer", "kernel_shap"), subject.model, x, subject.model(x).argmax(1),  # type: ignore[arg-type]
        reference_of(subject), nearest_neighbour(known),
    )  # fmt: skip
    return float(shares.mean())


ROWS = (
    Row(
        fault="A16",
        name="interval_of_a_coefficient",
        input="LIME of a curved model: share of 200 intervals that hold the coefficient of very many samples",
        right="0.95, from 0.9 to 0.99",
        accepts=between(0.9, 0.99),
        assay=_coverage,
    ),
    Row(
        fault="A19",
        name="planted_concept",
        input="concept in the direction that decides: its score",
        right="1",
        accepts=between(1.0, 1.0),
        assay=lambda: _concepts().concepts["planted"].score,
    ),
    Row(
        fault="A19",
        name="concept_of_nothing",
        input="a concept of random records: corrected p",
        right="above 0.05",
        accepts=between(0.0500001, 1.0),
        assay=lambda: _concepts().concepts["nothing"].p_holm,
    ),
    Row(
        fault="A19",
        name="order_of_concepts",
        input="the same concepts in another order: are scores those of their concepts?",
        right="equal",
        accepts=says("equal"),
        assay=lambda: "equal" if _concepts().concepts == _concepts(turned=True).concepts else "different",
    ),
    Row(
        fault="A20",
        name="distance_of_a_counterfactual",
        input="nearest counterfactual of a linear model: distance against |margin| ÷ ‖w‖, relative",
        right="at most 0.1 %",
        accepts=below(0.001),
        assay=_distance,
    ),
    Row(
        fault="A20",
        name="immutable_column",
        input="a column that may not change",
        right="equal bits",
        accepts=says("equal bits"),
        assay=_immutable,
    ),
    Row(
        fault="A20",
        name="class_after_rounding",
        input="share of counterfactuals whose class is changed after rounding to two digits",
        right="1",
        accepts=between(1.0, 1.0),
        assay=_flips_after_rounding,
    ),
    Row(
        fault="A21",
        name="lrp_sums",
        input="LRP of a network with batch normalisation: relevance and shares of biases against the score, relative",
        right="at most 1e-6",
        accepts=below(1e-6),
        assay=_lost,
    ),
    Row(
        fault="A21",
        name="lrp_of_the_merged_network",
        input="LRP of a network with batch normalisation, and of the merged one: change of a value, relative",
        right="at most 1e-6",
        accepts=below(1e-6),
        assay=lambda: _apart(_relevance(_normed()), _relevance(_merged())),
        captum=lambda: _apart(*(captum("LRP", model, ROWS_OF_SIX.clone()) for model in (_normed(), _merged()))),
    ),
    Row(
        fault="C1",
        name="asked_off_the_data",
        input="the scaffold under Kernel SHAP: share of what is asked that is unlike the data",
        right="at least 0.5, and it is told",
        accepts=between(0.5, 1.0),
        assay=_off_data,
    ),
)
