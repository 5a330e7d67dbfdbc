"""One round of Assay's strategies, by the worker's collection, the exact sum and the server's rule of its runtime."""

import math
import time
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from assay.errors import FederationError
from assay.federated.client import Report
from assay.federated.collected import Answer, Collected
from assay.federated.exact_sum import ExactSum, FixedPoint
from assay.federated.rules import RoundAnswers, rule_of
from assay.federated.state import ClientState
from assay.federated.strategies.base import Cohort, Contribution, Strategy
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
    made: Strategy, weights: Tensor, updates: Sequence[Tensor], records: Sequence[int], **given: Any
) -> Tensor:
    """New weights (d,) after one round from ``weights``; replies that a worker refuses are left out."""
    everybody = cohort(records, **given)
    bounds = [made.scale_limit(held, Recipe()) for held in records]
    total = ExactSum(len(weights), FixedPoint.of(weights=bounds, largest=_LARGEST))
    collected = Collected({"update": total}, single=made.needs_single_updates)
    accepted: list[Contribution] = []
    for contribution, update in zip(everybody.contributions, updates, strict=True):
        try:
            collected.add(_answer(contribution, update), made, since=time.perf_counter())
        except FederationError:
            continue
        accepted.append(contribution)
    replies = collected.close()
    names = {name for scalars in replies.scalars.values() for name in scalars}
    answers = RoundAnswers(
        cohort=Cohort(
            number=everybody.number, clients=everybody.clients, records=everybody.records, contributions=accepted
        ),
        update=None if made.needs_single_updates else total.sum(),
        singles=replies.singles,
        vectors={},
        scalars={name: math.fsum(replies.scalars[each.client][name] for each in accepted) for name in names},
    )
    return rule_of(made, Recipe()).step(weights.double(), answers)


def _answer(contribution: Contribution, update: Tensor) -> Answer:
    report = Report(
        client=contribution.client,
        steps=contribution.steps,
        learning_rate_sum=contribution.learning_rate_sum,
        first_loss=contribution.loss,
        last_loss=contribution.loss,
        seconds=0.0,
    )
    return Answer(state=ClientState(), report=report, contribution=contribution, values=update, minus=None, vectors={})
