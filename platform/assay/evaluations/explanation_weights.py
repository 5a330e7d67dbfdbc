"""Does a map depend on what the network has learnt? Its likeness to maps of networks with random weights.

One network of random weights is one sample: signs of its map agree with those of any other map by chance, in a table of
30 columns by a correlation of about 0.2 up or down. So several are drawn, and the error of their mean counts both the
records and the draws.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from assay import intervals, seeds
from assay.evaluations.explained_records import keeps_records_away
from assay.evaluations.explanation_checks import CONCERNED
from assay.evaluations.shares import estimated
from assay.evaluations.subject import Subject
from assay.explain.base import Explainer, ExplanationError
from assay.explain.measures.base import MeasuredRecords
from assay.explain.measures.randomisation import randomised, rank_agreement
from assay.models.batches import respond
from assay.results import Check, Finding, Measurement, not_applicable

_NETWORKS = 5
"""Networks of random weights."""
_FEWEST_NETWORKS = 2
"""Networks of random weights with usable maps: of one, the error of the mean over draws is unknown."""
_ALPHA = 0.05
_MOST_SIMILAR = 0.95
"""Greatest likeness to maps of random weights: beyond, the ranking is that of the record, even where that of another
seed is more alike still. Where no second network can be trained, less likeness proves nothing: inputs of different
sizes are ranked alike by any network."""

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
    networks = _random_networks(subject)
    drawn = [_agreement(values, values_of, network, records, signed=signed) for network in networks]
    known = [agreement for agreement in drawn if agreement is not None]
    of_random = {**about, "network": "random weights"}
    rows: list[Finding] = []
    check: list[Finding] = []
    if len(known) < _FEWEST_NETWORKS:
        rows.append(_not_tested(len(known), of_random))
    else:
        random = np.stack(known)
        rows.append(_alike(intervals.mean_over_draws(random, clusters).interval, len(values), of_random))
        answers = answers_alike(records, networks) if np.nanmean(random) > _MOST_SIMILAR else None
        check.append(weights_check(explainer.name, random, again, clusters, answers=answers))
    if again is not None:
        interval = intervals.mean(again, clusters).interval
        rows.append(_alike(interval, len(values), {**about, "network": "another seed"}))
    return [*rows, *check]


@torch.no_grad()
def answers_alike(records: MeasuredRecords, networks: Sequence[nn.Module]) -> float:
    """Returns how alike the answers of a network and of others are, whatever the size and the mean of the answers.

    Args:
        records: with the network.
        networks: the others.

    Returns:
        The mean correlation of the logits, which count from their mean over classes, over records and classes; 0 for
        answers that do not vary.
    """

    def contrasts(network: nn.Module) -> Tensor:
        logits = respond(network, records.x).double()
        logits = logits - logits.mean(1, keepdim=True)
        return (logits - logits.mean(0)).flatten()

    trained = contrasts(records.model)
    alike = [float(functional.cosine_similarity(trained, contrasts(network), dim=0)) for network in networks]
    return float(np.nan_to_num(alike).mean())


def weights_check(
    method: str,
    random: np.ndarray,
    again: np.ndarray | None,
    clusters: np.ndarray | None = None,
    *,
    answers: float | None = None,
) -> Check:
    """Returns the check, from how alike the maps of other networks are.

    A map depends on what was learnt where the map of another seed is more like it than maps of random weights are, and
    these are no near copies of it: with a likeness of 0.98 to random weights and 0.99 to another seed, the weights
    hardly matter. If the answers are the same with any weights, too, such maps may be right, and nothing is told. It
    does not depend on it where that is not shown and maps of random weights have more in common with it than chance:
    with signs, their correlation is 0 on average for any map that depends on the weights, because the last layer is as
    likely to be drawn with the other sign. Where neither is shown, the map changes with the weights, but the recipe
    does not determine it.

    Args:
        method: its name.
        random: (draws, n) correlations with maps of random weights, two draws or more.
        again: (n,) correlations with the map of another seed, and then both are signed; None where there is none.
        clusters: (n,) records that count as one.
        answers: correlation of the answers of the network and of those of random weights; None where it is not known.

    Returns:
        The check.
    """
    likeness = float(np.nanmean(random))
    if again is None:
        told = (
            f"with random weights the ranking of inputs keeps a correlation of {likeness:.2f} (limit {_MOST_SIMILAR})"
        )
        if likeness > _MOST_SIMILAR:
            return _hardly_depends(method, likeness, answers, told)
        return _check(method, "pass", likeness, told)
    beyond = intervals.mean_over_draws(again - random, clusters).interval
    kept = intervals.mean_over_draws(random, clusters)
    told = (
        f"the ranking of inputs is more like that of a network of another seed than those of {len(random)} networks of "
        f"random weights by {beyond.value:.2f} of correlation (must be above 0, with its interval from "
        f"{beyond.low:.2f}); those of random weights have {kept.interval.value:.2f} in common with it"
    )
    if beyond.low > 0 and likeness > _MOST_SIMILAR:
        return _hardly_depends(method, likeness, answers, f"{told} (limit {_MOST_SIMILAR})")
    if beyond.low > 0:
        return _check(method, "pass", beyond.value, told)
    if kept.p_above < _ALPHA:
        return _check(method, "warn", beyond.value, f"{told}, more than chance (p = {kept.p_above:.3g})")
    undecided = "inconclusive: the map changes with the weights, but another seed gives another map"
    return _check(method, "inconclusive", beyond.value, f"{undecided}; {told} (p = {kept.p_above:.3g})")


def _hardly_depends(method: str, likeness: float, answers: float | None, told: str) -> Check:
    """Returns the check of a map that random weights leave as it is; inconclusive if they leave the answers, too."""
    if answers is not None and answers > _MOST_SIMILAR:
        why = f"inconclusive: random weights leave the answers as they are, too (correlation {answers:.2f}); {told}"
        return _check(method, "inconclusive", likeness, why)
    return _check(method, "warn", likeness, f"the map hardly depends on the weights: {told}")


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
        agreement = rank_agreement(values, values_of(network), records.features, signed=signed)
    except ExplanationError:
        return None
    return agreement if np.isfinite(agreement).any() else None


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
