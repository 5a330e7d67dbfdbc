"""Testing with concept activation vectors (TCAV; Kim et al. 2018, arXiv:1711.11279), against random concepts.

A concept is a set of records that share something, such as X-rays with a tube. Its vector, at a named layer, is the
direction that separates it from random records, by logistic regression. Its score is the share of the examined records
whose scalar rises in that direction.

Scores alone mislead. Behind the layer a network may be nearly linear: then every direction, a random one too, has a
score near 0 or near 1. So each concept is compared with random concepts, which are sets of random records treated in
the same way. The p-value is the rank of its alignment (mean cosine between gradient and vector) among theirs, which
knows what a score of 1.0 does not: how far the direction is one that matters. The unit of this test is the set. Many
scores of one concept against many random sets, as usual, are not independent of each other.

Where activations are correlated, what separates a concept best is not what it changes: logistic regression prefers
directions in which random records vary little. ``kind="difference"`` takes the change itself.

    sets = random_sets(pool, size=50, count=50, seed=0)
    found = concept_scores(model, "network.4", x, target, {"tube": tubes}, sets)
    found.concepts["tube"].score, found.concepts["tube"].p_holm
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from assay import seeds
from assay.explain.global_.concept_layers import activations_at, gradients_at
from assay.explain.scalars import Scalar, log_odds
from assay.intervals import LEVEL
from assay.statistics import holm

VectorKind = Literal["logistic", "difference"]
"""``logistic``: the direction that separates a concept best, by logistic regression (Kim et al. 2018); ``difference``:
that by which a concept moves the mean activation, with its length (a pattern; Pahde et al. 2022, arXiv:2202.03482)."""
_FEWEST_SETS = 10
"""Random sets below which no rank says anything."""


@dataclass(frozen=True, kw_only=True)
class ConceptScore:
    """What a model makes of one concept."""

    score: float
    """Share of the records whose scalar rises in the direction of the concept; one that does not change counts half."""
    alignment: float
    """Mean cosine, over the records, between the gradient of the scalar and the vector of the concept, both in standard
    deviations of the activations."""
    effect: float
    """Mean change of the scalar, to first order, where a record moves by the whole vector."""
    p: float
    """Two-sided p-value: the share of random concepts, this one included, whose alignment (of ``difference`` vectors,
    whose effect) is as far from 0."""
    p_holm: float
    """p after Holm's correction over the concepts."""
    rising: tuple[float, ...]
    """(n,) of each record: 1 where its scalar rises in the direction, 0 where it falls, 0.5 where it does neither."""


@dataclass(frozen=True, kw_only=True)
class ConceptVectors:
    """Directions at a layer, in standard deviations of its activations.

    The same network can be written with any unit of a hidden activation; a direction in standard deviations is the same
    in all of them.
    """

    concepts: dict[str, np.ndarray]
    """(d,) of each concept; of length 1 where it is a ``logistic`` one."""
    random: tuple[np.ndarray, ...]
    """Those of random concepts."""
    unit: np.ndarray
    """(d,) standard deviation of each activation over all random records; 1 where it does not vary."""
    kind: VectorKind
    """How they were learnt."""


@dataclass(frozen=True, kw_only=True)
class ConceptScores:
    """Scores of concepts, and of the random ones that they are compared with."""

    concepts: dict[str, ConceptScore]
    random: tuple[float, ...]
    """Score of each random concept."""
    random_mean: float
    low: float
    high: float
    """Ends of the 95 % binomial interval around 0.5 for as many scores; a mean of random concepts outside it means that
    the random sets differ from each other by more than chance."""

    @property
    def random_is_fair(self) -> bool:
        """Whether the mean score of random concepts lies within the interval."""
        return self.low <= self.random_mean <= self.high


def concept_scores(  # noqa: PLR0917
    model: nn.Module,
    layer: str,
    x: Tensor,
    target: Tensor,
    concepts: Mapping[str, Tensor],
    random: Sequence[Tensor],
    *,
    scalar: Scalar = log_odds,
) -> ConceptScores:
    """Scores concepts at a layer and tests them against random ones.

    Nothing is drawn: equal arguments give equal results, and the order of the concepts has no effect.

    Args:
        model: from records to logits.
        layer: name of a layer, as ``model.named_modules`` has it.
        x: (n, ...) examined records, usually of one class.
        target: (n,) class that is explained.
        concepts: records of each concept, (m, ...).
        random: sets of random records, each of about as many; see ``random_sets``. The least p-value is one over their
            number and one, so the number of concepts that can be found significant is about a twentieth of theirs.
        scalar: that is explained.

    Returns:
        The scores.

    Raises:
        ValueError: no concept, or too few random sets.
        ExplanationError: the layer runs twice, or its output is no tensor with one row a record.
    """
    vectors = concept_vectors(model, layer, concepts, random)
    return scored(vectors, gradients_at(model, layer, x, target, scalar))


def concept_vectors(
    model: nn.Module,
    layer: str,
    concepts: Mapping[str, Tensor],
    random: Sequence[Tensor],
    *,
    others: int | None = None,
    kind: VectorKind = "logistic",
) -> ConceptVectors:
    """Learns the vectors of concepts and of random ones at a layer.

    Args:
        model: from records to logits.
        layer: name of a layer.
        concepts: records of each concept, (m, ...).
        random: sets of random records, each of about as many.
        others: number of random sets that a concept, random or not, is separated from; all by default.
        kind: how vectors are learnt.

    Returns:
        The vectors.

    Raises:
        ValueError: no concept, or too few random sets.
        ExplanationError: the layer runs twice, or its output is no tensor with one row a record.
    """
    if not concepts or len(random) < _FEWEST_SETS:
        raise ValueError(
            f"{len(concepts)} concepts and {len(random)} random sets: give one concept or more, and {_FEWEST_SETS} or "
            "more random sets"
        )
    sets = [activations_at(model, layer, records) for records in random]
    deviation = np.concatenate(sets).std(0)
    unit = np.where(deviation > 0, deviation, 1.0)
    learn = concept_vector if kind == "logistic" else _difference
    sets = [own / unit for own in sets]
    # Each is compared with as many sets as the others, so that none of its own records stand on the other side.
    turned = [[*sets[place + 1 :], *sets[:place]][:others] for place in range(len(sets))]
    opposite = np.concatenate(sets[:others])
    return ConceptVectors(
        concepts={
            name: learn(activations_at(model, layer, records) / unit, opposite) for name, records in concepts.items()
        },
        random=tuple(learn(own, np.concatenate(rest)) for own, rest in zip(sets, turned, strict=True)),
        unit=unit,
        kind=kind,
    )


def scored(vectors: ConceptVectors, gradients: np.ndarray) -> ConceptScores:
    """Scores concepts by their vectors and tests them against the random ones.

    Args:
        vectors: at a layer.
        gradients: (n, d) of the scalar of each examined record, by the output of the layer.

    Returns:
        The scores.
    """
    count, gradients = len(vectors.random), gradients * vectors.unit
    of_random = [_measured(vector, gradients) for vector in vectors.random]
    found = {name: _measured(vector, gradients) for name, vector in vectors.concepts.items()}
    sized = vectors.kind == "difference"
    chance = np.abs([each.effect if sized else each.alignment for each in of_random])
    p = {
        name: (1 + int((chance >= abs(each.effect if sized else each.alignment)).sum())) / (1 + count)
        for name, each in found.items()
    }
    corrected = dict(zip(p, holm(list(p.values())), strict=True))
    low, high = (float(end) / count for end in stats.binom.interval(LEVEL, count, 0.5))
    scores = tuple(float(each.rising.mean()) for each in of_random)
    return ConceptScores(
        concepts={
            name: ConceptScore(
                score=float(each.rising.mean()),
                alignment=each.alignment,
                effect=each.effect,
                p=p[name],
                p_holm=corrected[name],
                rising=tuple(each.rising.tolist()),
            )
            for name, each in found.items()
        },
        random=scores,
        random_mean=float(np.mean(scores)),
        low=low,
        high=high,
    )


def random_sets(pool: Tensor, *, size: int, count: int, seed: int) -> list[Tensor]:
    """Draws sets of random records, each without replacement.

    Args:
        pool: (m, ...) records of the population.
        size: records of a set: about as many as a concept has.
        count: number of sets.
        seed: of random numbers.

    Returns:
        The sets, each (size, ...).

    Raises:
        ValueError: the pool has fewer than twice as many records: the sets would be nearly the same.
    """
    if len(pool) < 2 * size:
        raise ValueError(f"sets of {size} from {len(pool)} records are nearly the same: give {2 * size} or more")
    draw = seeds.stream(seed, "random concepts")
    return [pool[torch.from_numpy(draw.permutation(len(pool))[:size]).to(pool.device)] for _ in range(count)]


def concept_vector(concept: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the unit vector towards a concept, by logistic regression.

    Args:
        concept: (m, d) activations of its records.
        others: (k, d) those of random records, which weigh as much together.

    Returns:
        (d,) vector.
    """
    from sklearn.linear_model import LogisticRegression

    deviation = others.std(0)
    scale = np.where(deviation > 0, deviation, 1.0)
    points = (np.concatenate([concept, others]) - others.mean(0)) / scale
    labels = np.repeat([1, 0], [len(concept), len(others)])
    fitted = LogisticRegression(class_weight="balanced", max_iter=2000).fit(points, labels)
    # In the units of the activations: the gradient of the regression.
    direction: np.ndarray = fitted.coef_[0] / scale
    return direction / max(float(np.linalg.norm(direction)), np.finfo(float).tiny)


def _difference(concept: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the mean of the activations of a concept minus that of random records."""
    found: np.ndarray = concept.mean(0) - others.mean(0)
    return found


@dataclass(frozen=True, kw_only=True)
class _Along:
    """How the scalar of records changes in a direction."""

    rising: np.ndarray
    alignment: float
    effect: float


def _measured(vector: np.ndarray, gradients: np.ndarray) -> _Along:
    along = gradients @ vector
    length = np.linalg.norm(gradients, axis=1) * np.linalg.norm(vector)
    cosine = along / np.maximum(length, np.finfo(float).tiny)
    return _Along(rising=(np.sign(along) + 1) / 2, alignment=float(cosine.mean()), effect=float(along.mean()))
