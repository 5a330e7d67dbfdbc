"""Concepts: a planted direction is found, random ones are not, and equal calls give equal results."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from assay.errors import UserError
from assay.explain.base import ExplanationError
from assay.explain.global_.concept_layers import activations_at, gradients_at
from assay.explain.global_.concepts import (
    ConceptScores,
    concept_scores,
    concept_vector,
    concept_vectors,
    random_sets,
    scored,
)
from assay.explain.scalars import log_odds

DOUBLE = torch.float64
WIDTH = 12


class Planted(nn.Module):
    """The class depends on a direction of the records, through a layer that is curved in it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(WIDTH, WIDTH, bias=False).to(DOUBLE)
        self.other = nn.Linear(WIDTH, 1).to(DOUBLE)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.layer(x)
        value = (hidden[:, 0] / 2).tanh() + 0.05 * self.other(hidden.sin()).squeeze(1)
        return torch.stack([-value, value], dim=1)


def records(n: int, seed: int) -> Tensor:
    return torch.randn(n, WIDTH, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


MODEL, X = Planted(), records(80, 1)
TARGET = torch.ones(80, dtype=torch.long)
SETS = random_sets(records(400, 2), size=40, count=60, seed=0)
PLANTED = records(40, 3) + 3 * torch.eye(WIDTH, dtype=DOUBLE)[0]
CONCEPTS = {"planted": PLANTED, "nothing": records(40, 4), "unused": records(40, 5) + 3 * torch.eye(WIDTH).double()[5]}


def found(concepts: dict[str, Tensor] = CONCEPTS) -> ConceptScores:
    return concept_scores(MODEL, "layer", X, TARGET, concepts, SETS)


FOUND = found()


def test_a_planted_direction_scores_one_and_is_significant() -> None:
    planted = FOUND.concepts["planted"]
    assert planted.score == 1.0
    assert planted.alignment > 0.8
    assert planted.p == pytest.approx(1 / 61)
    assert planted.p_holm == pytest.approx(3 / 61) and planted.p_holm < 0.05


def test_what_the_model_does_not_use_is_not_significant() -> None:
    assert FOUND.concepts["nothing"].p_holm > 0.05
    assert FOUND.concepts["unused"].p_holm > 0.05


def test_random_concepts_score_a_half_within_the_binomial_interval() -> None:
    assert FOUND.random_is_fair
    assert (FOUND.low * 60, FOUND.high * 60) == stats.binom.interval(0.95, 60, 0.5)
    assert len(FOUND.random) == 60
    assert np.mean(FOUND.random) == pytest.approx(FOUND.random_mean)


def test_a_random_concept_is_significant_as_often_as_stated() -> None:
    concepts = {str(seed): records(40, 100 + seed) for seed in range(60)}
    ps = [each.p for each in found(concepts).concepts.values()]
    low, high = stats.binom.interval(0.999, 60, 0.2)
    assert low <= sum(p <= 0.2 for p in ps) <= high


def test_the_order_of_concepts_does_not_matter_and_equal_calls_are_equal() -> None:
    assert found() == FOUND
    other = found(dict(reversed(CONCEPTS.items())))
    assert other.concepts == FOUND.concepts
    alone = found({"planted": PLANTED}).concepts["planted"]
    assert (alone.score, alone.alignment, alone.p) == (1.0, FOUND.concepts["planted"].alignment, 1 / 61)
    assert alone.p_holm == alone.p, "a single concept needs no correction"


def test_the_opposite_of_a_concept_scores_nothing() -> None:
    score = found({"opposite": records(40, 3) - 3 * torch.eye(WIDTH, dtype=DOUBLE)[0]}).concepts["opposite"]
    assert score.score == 0.0
    assert score.alignment < -0.8
    assert score.p < 0.05


def test_gradients_at_a_layer_are_those_of_the_rest_of_the_network() -> None:
    rest = gradients_at(MODEL, "layer", X, TARGET, log_odds)
    point = X.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(log_odds(MODEL(point), TARGET).sum(), point)
    np.testing.assert_allclose(rest, expected, atol=1e-12)
    np.testing.assert_allclose(activations_at(MODEL, "layer", X), X)


def test_the_vector_does_not_depend_on_the_units_of_an_activation() -> None:
    concept, others = PLANTED.numpy(), records(200, 6).numpy()
    units = np.logspace(-2, 2, WIDTH)
    one, other = concept_vector(concept, others), concept_vector(concept * units, others * units)
    assert np.linalg.norm(one) == pytest.approx(1)
    np.testing.assert_allclose(other * units / np.linalg.norm(other * units), one, atol=1e-4)


def test_scores_do_not_depend_on_the_units_of_hidden_activations() -> None:
    """A network that computes the same function with a hidden layer in other units."""
    units = torch.logspace(-2, 2, WIDTH, dtype=DOUBLE)

    class Rescaled(Planted):
        def __init__(self) -> None:
            super().__init__()
            with torch.no_grad():
                self.layer.weight.mul_(units[:, None])
            self.back = nn.Linear(WIDTH, WIDTH, bias=False).to(DOUBLE)
            with torch.no_grad():
                self.back.weight.copy_(torch.diag(1 / units))

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.back(self.layer(x))
            value = (hidden[:, 0] / 2).tanh() + 0.05 * self.other(hidden.sin()).squeeze(1)
            return torch.stack([-value, value], dim=1)

    other = concept_scores(Rescaled(), "layer", X, TARGET, CONCEPTS, SETS)
    for name, score in FOUND.concepts.items():
        assert (other.concepts[name].score, other.concepts[name].p) == (score.score, score.p)
        assert other.concepts[name].alignment == pytest.approx(score.alignment, abs=1e-3)
    assert other.random == FOUND.random


class Correlated(nn.Module):
    """Answers by the sum of activations that all move together, but for a little."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        value = (self.layer(x).mean(1) / 2).tanh()
        return torch.stack([-value, value], dim=1)


def test_the_difference_finds_a_concept_in_correlated_activations() -> None:
    draw = torch.Generator().manual_seed(7)

    def together(n: int) -> Tensor:
        common = torch.randn(n, 1, dtype=DOUBLE, generator=draw)
        return common + 0.1 * torch.randn(n, WIDTH, dtype=DOUBLE, generator=draw)

    sets = random_sets(together(600), size=40, count=100, seed=0)
    sideways = torch.zeros(WIDTH, dtype=DOUBLE)
    sideways[0], sideways[1] = 0.4, -0.4  # changes the sum of nothing, and separates perfectly
    examples = {"moves": together(40) + 1.5 + sideways, "sideways": together(40) + sideways}
    model, x = Correlated(), together(60)
    target = torch.ones(60, dtype=torch.long)
    gradients = gradients_at(model, "layer", x, target, log_odds)
    vectors = concept_vectors(model, "layer", examples, sets, others=10, kind="difference")
    found = scored(vectors, gradients).concepts
    assert found["moves"].score == 1.0 and found["moves"].p_holm < 0.05
    assert found["sideways"].p_holm > 0.05
    # The effect is the change itself: 2 · (mean shift) · slope of tanh, by hand.
    slope = (1 - (x.mean(1) / 2).tanh() ** 2).mean()
    shift = float((examples["moves"].mean() - torch.cat(sets[:10]).mean()) * slope)
    assert found["moves"].effect == pytest.approx(shift, rel=1e-9)
    separated = scored(concept_vectors(model, "layer", examples, sets, others=10), gradients).concepts
    assert abs(separated["moves"].alignment) < abs(found["moves"].alignment), "it prefers what varies little"


def test_a_random_concept_by_differences_is_significant_as_often_as_stated() -> None:
    concepts = {str(seed): records(40, 100 + seed) for seed in range(60)}
    vectors = concept_vectors(MODEL, "layer", concepts, SETS, others=10, kind="difference")
    result = scored(vectors, gradients_at(MODEL, "layer", X, TARGET, log_odds))
    low, high = stats.binom.interval(0.999, 60, 0.2)
    assert low <= sum(each.p <= 0.2 for each in result.concepts.values()) <= high
    assert result.random_is_fair


def test_an_activation_that_only_the_concept_moves_counts() -> None:
    """A detector that is silent on all random records, as of a marker that they lack."""

    class Silent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.layer(x)
            value = (3 * hidden[:, 0]).tanh() + 0.1 * hidden[:, 1:].sin().sum(1)
            return torch.stack([-value, value], dim=1)

    def silent(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, 0] = -1.0
        return x

    sets = random_sets(silent(records(400, 2)), size=40, count=60, seed=0)
    marked = silent(records(40, 3))
    marked[:, 0] = 2.0
    model = Silent()
    examined = silent(X)
    gradients = gradients_at(model, "layer", examined, TARGET, log_odds)
    vectors = concept_vectors(model, "layer", {"marker": marked}, sets, others=10, kind="difference")
    (found,) = scored(vectors, gradients).concepts.values()
    assert found.score == 1.0 and found.p == pytest.approx(1 / 61)


def test_a_vector_learnt_against_few_sets_is_compared_with_such_vectors() -> None:
    vectors = concept_vectors(MODEL, "layer", CONCEPTS, SETS, others=5)
    few = scored(vectors, gradients_at(MODEL, "layer", X, TARGET, log_odds))
    assert few.concepts["planted"].score == 1.0 and few.concepts["planted"].p == pytest.approx(1 / 61)
    assert few.concepts["unused"].p_holm > 0.05 and few.random_is_fair


def test_the_score_is_the_share_of_rising_records() -> None:
    for score in FOUND.concepts.values():
        assert np.mean(score.rising) == pytest.approx(score.score)
        assert len(score.rising) == len(X) and set(score.rising) <= {0.0, 0.5, 1.0}


def test_the_model_and_the_global_generators_are_as_before() -> None:
    model = Planted().train()
    before = (torch.get_rng_state(), [w.clone() for w in model.parameters()], len(model.layer._forward_hooks))
    concept_scores(model, "layer", X[:5], TARGET[:5], {"planted": PLANTED}, SETS[:10])
    assert model.training and all(w.requires_grad and w.grad is None for w in model.parameters())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert len(model.layer._forward_hooks) == before[2]


def test_an_unknown_layer_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="layr"):
        concept_scores(MODEL, "layr", X, TARGET, CONCEPTS, SETS)


def test_a_layer_that_runs_twice_or_not_at_all_is_refused() -> None:
    class Twice(Planted):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(self.layer(x))

    with pytest.raises(ExplanationError, match="layer runs 2 times"):
        activations_at(Twice(), "layer", X)

    class Never(Planted):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :2]

    with pytest.raises(ExplanationError, match="layer runs 0 times"):
        activations_at(Never(), "layer", X)


def test_too_few_random_sets_or_records_are_refused() -> None:
    with pytest.raises(ValueError, match="10 or more random sets"):
        concept_scores(MODEL, "layer", X, TARGET, CONCEPTS, SETS[:9])
    with pytest.raises(ValueError, match="sets of 40 from 70 records"):
        random_sets(X[:70], size=40, count=10, seed=0)
