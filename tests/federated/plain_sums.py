"""Plain sums of a round, for tests, benchmarks and tools; a training sums exactly, on whatever workers it has."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from assay.federated.strategies.base import Cohort, ServerState, Strategy, Sums


def sums_of(strategy: Strategy, updates: Tensor, cohort: Cohort) -> Sums:
    """Returns what a strategy sees of a round, summed in float64 in the order of the clients.

    Args:
        strategy: gives scales and scalars.
        updates: (m, d) float64, in the order of ``cohort.contributions``.
        cohort: the round.

    Returns:
        The sums.
    """
    scales = [strategy.scale(contribution) for contribution in cohort.contributions]
    changes = torch.zeros_like(updates[0])
    scalars: dict[str, float] = {}
    for scale, contribution, update in zip(scales, cohort.contributions, updates, strict=True):
        changes += scale * update / strategy.divisor(contribution)
        for name, value in strategy.scalars(contribution, update).items():
            scalars[name] = scalars.get(name, 0.0) + value
    return Sums(changes=changes, scales=sum(scales), scalars=scalars)


def next_weights(
    strategy: Strategy,
    server: ServerState,
    weights: Tensor,
    updates: Tensor,
    cohort: Cohort,
    *,
    vectors: Sequence[Mapping[str, Tensor]] = (),
) -> Tensor:
    """Returns the weights after one round, in the order of calls that every runtime keeps.

    Args:
        strategy: of the federation.
        server: its state, which is advanced.
        weights: (d,) float64 weights that the clients were sent.
        updates: (m, d) float64, in the order of ``cohort.contributions``.
        cohort: the round.
        vectors: what ``RoundHook.end_round`` returned at each client; needed where the strategy has
            ``summed_vectors``.

    Returns:
        (d,) float64 new weights.
    """
    if strategy.needs_single_updates:
        change = strategy.combine(updates, cohort)
    else:
        change = strategy.combine_sum(sums_of(strategy, updates, cohort), cohort)
    if strategy.summed_vectors:
        scales = [strategy.vector_scale(contribution) for contribution in cohort.contributions]
        summed = {
            name: torch.stack([scale * sent[name] for scale, sent in zip(scales, vectors, strict=True)]).sum(0)
            for name in strategy.summed_vectors
        }
        server.receive(summed, cohort)
    return server.step(weights, change, cohort)
