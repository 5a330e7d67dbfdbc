"""Pairwise Shapley interactions of the features of a table, averaged over records."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from assay.devices import repeatable
from assay.explain.base import NotFiniteError
from assay.explain.methods.shapley import combinations, interactions
from assay.explain.references import Reference
from assay.explain.scalars import log_odds
from assay.explain.untouched import untouched
from assay.intervals import Interval, bootstrap_curve

MOST_FEATURES = 12
"""Greatest number of features: a record takes 2¹² answers of the model."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Interaction of two features over many records."""

    first: int
    second: int
    """Positions among the features that were asked for."""
    strength: Interval
    """Mean |interaction| of the log-odds: what the two do together beyond what each does alone."""
    direction: Interval
    """Mean interaction: positive where together they do more for the class than the sum of both."""


def pair_values(  # noqa: PLR0917
    model: nn.Module, x: Tensor, target: Tensor, reference: Reference, place: Tensor, features: list[int]
) -> np.ndarray:
    """Returns the Shapley interaction index of each pair of some features for each record (Grabisch & Roubens 1999).

    An absent feature has the value of the baseline. All features that are not asked for keep the record's own values:
    the interactions are those around the record.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, inputs) records of a table.
        target: (n,) class that is explained.
        reference: with the baseline.
        place: (inputs,) the feature to which each input belongs; the inputs of a category share one.
        features: at most 12 of these.

    Returns:
        (n, features, features) symmetric, with 0 on the diagonal.

    Raises:
        NotFiniteError: the model answers NaN or infinity for a combination.
        ValueError: there are more features than ``MOST_FEATURES``.
    """
    if len(features) > MOST_FEATURES:
        raise ValueError(
            f"{len(features)} features have {2 ** len(features)} combinations; give {MOST_FEATURES} or fewer"
        )
    groups = torch.full(place.shape, -1, dtype=torch.int64, device=x.device)
    for number, feature in enumerate(features):
        groups[place == feature] = number
    with untouched(model), repeatable():
        answers = combinations(model, x, target, reference.baseline(x), groups.expand_as(x), log_odds)
    if not bool(answers.isfinite().all()):
        bad = int((~answers.isfinite().all(1)).nonzero()[0])
        raise NotFiniteError(f"the model answers NaN or infinity for a combination of the features of record {bad}")
    return interactions(answers.cpu()).numpy()


def averaged_pairs(
    values: np.ndarray,
    *,
    generator: np.random.Generator,
    draws: int = 200,
    clusters: np.ndarray | None = None,
) -> list[Pair]:
    """Returns the mean |interaction| and the mean interaction of each pair over records, with bootstrap intervals.

    Args:
        values: (n, features, features) from ``pair_values``.
        generator: of the random draws.
        draws: number of bootstrap samples.
        clusters: (n,) records that count as one.

    Returns:
        Each pair once.
    """
    first, second = np.triu_indices(values.shape[1], k=1)
    own = values[:, first, second]
    both = np.concatenate([np.abs(own), own], axis=1)
    each = bootstrap_curve(
        lambda rows: both[rows].mean(0), len(both), generator=generator, draws=draws, groups=clusters
    )
    return [
        Pair(first=int(one), second=int(other), strength=each[number], direction=each[len(first) + number])
        for number, (one, other) in enumerate(zip(first, second, strict=True))
    ]
