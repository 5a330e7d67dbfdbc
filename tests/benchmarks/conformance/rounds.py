"""One round of Assay's strategies over the exact sum of its runtime."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from assay.errors import FederationError
from assay.federated.exact_sum import ExactSum, FixedPoint
from assay.federated.strategies.base import Cohort, ServerState, Strategy, Sums
from assay.recipes import Recipe
from assay.registry import build
from tests.federated.quadratics import cohort

_LARGEST = 2.0**20
"""Greatest change of a weight that the sums accept."""


def strategy(name: str, **settings: Any) -> Strategy:
    """A strategy by name."""
    made = build("strategy", {"name": name, **settings})
    assert isinstance(made, Strategy)
    return made


def assay_round(
    made: Strategy,
    weights: Tensor,
    updates: Sequence[Tensor],
    records: Sequence[int],
    *,
    server: ServerState | None = None,
    **given: Any,
) -> Tensor:
    """New weights (d,) after one round; replies that the exact sum refuses are left out, as a runtime does."""
    everybody = cohort(records, **given)
    bounds = [made.scale_limit(held, Recipe()) for held in records]
    total = ExactSum(len(weights), FixedPoint.of(weights=bounds, largest=_LARGEST))
    accepted, scalars = [], []
    for contribution, update in zip(everybody.contributions, updates, strict=True):
        try:
            total.add(update, made.scale(contribution))
        except FederationError:
            continue
        accepted.append((contribution, update))
        scalars.append(made.scalars(contribution, update))
    taken = Cohort(
        number=everybody.number,
        clients=everybody.clients,
        records=everybody.records,
        contributions=[contribution for contribution, _ in accepted],
    )
    server = made.server() if server is None else server
    if made.needs_single_updates:
        change = made.combine(torch.stack([update.double() for _, update in accepted]), taken)
    else:
        names = scalars[0] if scalars else {}
        summed = {name: math.fsum(one[name] for one in scalars) for name in names}
        change = made.combine_sum(Sums(changes=total.sum(), scales=total.weight, scalars=summed), taken)
    return server.step(weights.double(), change, taken)
