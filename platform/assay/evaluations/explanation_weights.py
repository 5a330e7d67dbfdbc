"""Does a map depend on what the network has learnt? Its likeness to maps of networks with random weights.

One network of random weights is one sample: signs of its map agree with those of any other map by chance, in a table of
30 columns by a correlation of about 0.2 up or down. So several are drawn, and the error of their mean counts both the
records and the draws.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from assay import intervals, seeds
from assay.evaluations.explained_records import keeps_records_away
from assay.evaluations.explanation_checks import CONCERNED
from assay.evaluations.shares import estimated
from assay.evaluations.subject import Subject
from assay.explain.base import Explainer, ExplanationError
from assay.explain.measures.base import MeasuredRecords
from assay.explain.measures.randomisation import randomised, rank_agreement
from assay.results import Check, Finding, Measurement, not_applicable

_NETWORKS = 5
"""Networks of random weights."""
_FEWEST_NETWORKS = 2
"""Networks of random weights with usable maps: of one, the error of the mean over draws is unknown."""
_ALPHA = 0.05
_MOST_SIMILAR = 0.95
"""Greatest likeness to a map of random weights where no second network can be trained: beyond, the ranking is that of
the record. Less likeness proves nothing: inputs of different sizes are ranked alike by any network."""

ValuesOf = Callable[[nn.Module], Tensor]
"""From a network to the maps of the same records, by feature."""


def depends_on_weights(  # noqa: PLR0917
    explainer: Explainer,
    subject: Subject,
    records: MeasuredRecords,
    values: Tensor,
    values_of: ValuesOf,
    second: nn.Module | None,
    clusters: np.ndarray | None,
    about: Mapping[str, object],
) -> list[Finding]:
    """Checks that random weights change the map more than another seed does; else it explains the data.

    Args:
        explainer: the method.
        subject: whose network is drawn again.
        records: that are explained.
        values: (n, ...) by feature.
        values_of: explains the records by another network.
        second: network that the recipe trained from another seed; None where it may not be trained.
        clusters: (n,) records that count as one.
        about: conditions of the rows.

    Returns:
        How alike the maps are, and the check; a row without a value in place of both where fewer than two networks of
        random weights have usable maps.
    """
    again = None if second is None else _agreement(values, values_of, second, records, signed=True)
    # Without a second network sizes are compared: a limit of their likeness is all there is.
    signed = again is not None
    drawn = [_agreement(values, values_of, network, records, signed=signed) for network in _random_networks(subject)]
    known = [one for one in drawn if one is not None]
    random = np.stack(known) if known else None
    found: list[Finding] = []
    of_random = {**about, "network": "random weights"}
    if random is None or len(random) < _FEWEST_NETWORKS:
        found.append(_not_tested(len(known), of_random))
    else:
        found.append(_alike(intervals.mean_over_draws(random, clusters).interval, len(values), of_random))
    if again is not None:
        interval = intervals.mean(again, clusters).interval
        found.append(_alike(interval, len(values), {**about, "network": "another seed"}))
    if random is None or len(random) < _FEWEST_NETWORKS:
        return found
    return [*found, weights_check(explainer.name, random, again, clusters)]


def weights_check(
    method: str, random: np.ndarray, again: np.ndarray | None, clusters: np.ndarray | None = None
) -> Check:
    """Returns the check, from how alike the maps of other networks are.

    A map depends on what was learnt where the map of another seed is more like it than maps of random weights are. It
    does not where that is not shown and maps of random weights have more in common with it than chance: with signs,
    their correlation is 0 on average for any map that depends on the weights, because the last layer is as likely to be
    drawn with the other sign. Where neither is shown, the map changes with the weights, but the recipe does not
    determine it.

    Args:
        method: its name.
        random: (draws, n) correlations with maps of random weights, two draws or more.
        again: (n,) correlations with the map of another seed, and then both are signed; None where there is none.
        clusters: (n,) records that count as one.

    Returns:
        The check.
    """
    if again is None:
        figure = float(random.mean())
        told = f"with random weights the ranking of inputs keeps a correlation of {figure:.2f} (limit {_MOST_SIMILAR})"
        return _check(method, "warn" if figure > _MOST_SIMILAR else "pass", figure, told)
    beyond = intervals.mean_over_draws(again - random, clusters).interval
    kept = intervals.mean_over_draws(random, clusters)
    told = (
        f"the ranking of inputs is more like that of a network of another seed than those of {len(random)} networks of "
        f"random weights by {beyond.value:.2f} of correlation (must be above 0, with its interval from "
        f"{beyond.low:.2f}); those of random weights have {kept.interval.value:.2f} in common with it"
    )
    if beyond.low > 0:
        return _check(method, "pass", beyond.value, told)
    if kept.p_above < _ALPHA:
        return _check(method, "warn", beyond.value, f"{told}, more than chance (p = {kept.p_above:.3g})")
    undecided = "inconclusive: the map changes with the weights, but another seed gives another map"
    return _check(method, "inconclusive", beyond.value, f"{undecided}; {told} (p = {kept.p_above:.3g})")


def second_network(subject: Subject) -> nn.Module | None:
    """Trains the recipe with another seed.

    Args:
        subject: the model with its data.

    Returns:
        The network; None where it cannot be trained, would tell more than ε allows, or reads vectors of other words;
        nor for a federated recipe, whose training records are never in one place.
    """
    if subject.train is None or keeps_records_away(subject.recipe) or not len(subject.split.train):
        return None
    if subject.dataset.modality == "text":  # each network has word vectors of its own, and the records are vectors
        return None
    return subject.train(subject.split.train, "second network").eval()


def _random_networks(subject: Subject) -> list[nn.Module]:
    purposes = (f"random weights {number}" for number in range(_NETWORKS))
    return [randomised(subject.model, seeds.torch_seed(subject.seed, purpose)) for purpose in purposes]


def _agreement(
    values: Tensor, values_of: ValuesOf, network: nn.Module, records: MeasuredRecords, *, signed: bool
) -> np.ndarray | None:
    """Returns how alike the maps of another network are, (n,); None where it gives no numbers."""
    try:
        found = rank_agreement(values, values_of(network), records.features, signed=signed)
    except ExplanationError:
        return None
    return found if np.isfinite(found).any() else None


def _alike(interval: intervals.Interval, n: int, about: Mapping[str, object]) -> Finding:
    return estimated("network_agreement", interval, n=n, unit="Spearman correlation", conditions=about)


def _not_tested(usable: int, about: Mapping[str, object]) -> Measurement:
    """Returns the row about networks of random weights of which too few have usable maps."""
    why = (
        f"whether the map depends on the weights is not tested: {usable} of {_NETWORKS} networks of random weights "
        f"have a map of finite numbers, and {_FEWEST_NETWORKS} are needed"
    )
    return not_applicable("network_agreement", why, reason="no_finite_answers", **about)


def _check(method: str, verdict: Any, figure: float, told: str) -> Check:
    return Check(
        rule="randomised_weights",
        concerns=CONCERNED,
        verdict=verdict,
        figure=figure,
        message=told,
        conditions={"method": method},
    )
