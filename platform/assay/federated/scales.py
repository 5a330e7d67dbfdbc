"""The public scale of each exact sum of a federated training."""

from collections.abc import Sequence

from assay.errors import FederationError
from assay.federated.buffers import LARGEST_MOMENT
from assay.federated.exact_sum import FixedPoint
from assay.recipes import Recipe

LARGEST_CHANGE = 2.0**8
"""Greatest change of a weight, or element of a strategy's vector, that is accepted from a client in a round."""

_TOO_LARGE = (
    "a mean or mean square of a batch-norm layer is {value:g}, more than the limit {limit:g}: scale the inputs of the "
    "network, or use norm: group"
)


def scales_of(recipe: Recipe, units: Sequence[int], *, buffers: bool) -> dict[str, FixedPoint]:
    """Returns the scale of each sum, which depends on the server's own counts and no client's values.

    Args:
        recipe: with the strategy.
        units: of each client.
        buffers: whether statistics of batch norm are pooled.

    Returns:
        Scales by name: ``update``, the strategy's vectors, and ``buffers``.

    Raises:
        FederationError: no client has a record.
    """
    assert recipe.federation is not None
    strategy = recipe.federation.strategy
    if not sum(units):
        raise FederationError("no client has a record; deal at least one to each")
    limits = [strategy.scale_limit(each, recipe) for each in units]
    scales = {"update": FixedPoint.of(weights=limits, largest=LARGEST_CHANGE)}
    if strategy.summed_vectors:
        vectors = FixedPoint.of(weights=[max(1.0, float(each)) for each in units], largest=LARGEST_CHANGE)
        scales |= dict.fromkeys(strategy.summed_vectors, vectors)
    if buffers:
        scales["buffers"] = FixedPoint.of(weights=units, largest=LARGEST_MOMENT, what=_TOO_LARGE)
    return scales
