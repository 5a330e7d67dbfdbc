"""Checks of maps: their sums and single values, and whether they depend on what was learnt."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from assay import intervals, seeds
from assay.evaluations.base import Subject, estimated
from assay.evaluations.explanation_metrics import SHARE, SHARE_OF_GREATEST
from assay.explain.base import Attribution, Explainer, ExplanationError
from assay.explain.measures.base import MeasuredRecords
from assay.explain.measures.randomisation import randomised, rank_agreement
from assay.explain.methods.attention import Attention
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.off_data import effects_on_data, nearest_neighbour, share_off_data
from assay.results import Check, Finding

_LARGEST_ERROR = 0.1
"""Greatest error of a sum, as a share of the change, and of a value, as a share of the greatest, without a warning."""
_NEARLY_ALL = 0.99
"""Share of the records whose errors must be below."""
_MOST_SIMILAR = 0.95
"""Greatest likeness to a map of random weights where no second network can be trained: beyond, the ranking is that of
the record. Less likeness proves nothing: inputs of different sizes are ranked alike by any network."""
_WATCHED = 5
"""Records whose explanation is watched for what it asks the model."""
_FEWEST_KNOWN = 20
"""Records that are needed to tell what is unlike them."""
_MOST_COLUMNS = 200
"""Columns of a table whose effects are measured one by one."""
_MOSTLY, _LEAST_EFFECT = 0.5, 0.1
"""Share of made-up records off the data, and the least effect of a map's first feature relative to the strongest."""
CONCERNED = ("faithfulness", "insertion_gain")
"""Measurements that the checks judge."""

ValuesOf = Callable[[nn.Module], Tensor]
"""From a network to the maps of the same records, by feature."""


def errors(
    explainer: Explainer, attribution: Attribution, clusters: np.ndarray | None, about: Mapping[str, object]
) -> list[Finding]:
    """Returns the errors of sums and of values, where the method has them, with a check of each.

    Args:
        explainer: the method.
        attribution: of n records.
        clusters: (n,) records that count as one; None where each counts by itself.
        about: conditions of the rows.

    Returns:
        Measurements and checks.
    """
    found: list[Finding] = []
    name, rule = sum_of(explainer)
    sums = (name, rule, attribution.error, SHARE, "the values miss the change that they explain by")
    what = "two rules of a value differ by"
    single = ("value_error", "values_agree", attribution.value_error, SHARE_OF_GREATEST, what)
    advice = "; raise points" if isinstance(explainer, IntegratedGradients) else ""
    for metric, check, error, unit, told in (sums, single):
        if bool(error.isnan().any()):
            continue
        worst = float(error.double().quantile(_NEARLY_ALL))
        limit = f"limit {_LARGEST_ERROR:.0%}"
        values = error.double().cpu().numpy()
        interval = intervals.mean(values, clusters).interval
        found.append(estimated(metric, interval, n=len(values), unit=unit, conditions=about))
        found.append(
            Check(
                rule=check,
                concerns=CONCERNED,
                verdict="warn" if worst > _LARGEST_ERROR else "pass",
                figure=worst,
                message=f"{told} at most {worst:.1%} for 99 % of the records ({limit}){advice}",
                conditions={"method": explainer.name},
            )
        )
    return found


def sum_of(explainer: Explainer) -> tuple[str, str]:
    """Returns the metric and the rule about the sum of a method's values.

    Args:
        explainer: the method.

    Returns:
        Both names.
    """
    return ("additivity_error", "additivity") if explainer.from_background else ("completeness_error", "completeness")


def off_the_data(
    explainer: Explainer, records: MeasuredRecords, values: Tensor, about: Mapping[str, object]
) -> list[Finding]:
    """Measures how many of the records that a method makes up are unlike the data, on a few records.

    Of tables it also checks that the feature that the maps name first matters on records like the data: a model can be
    built that decides by another feature wherever a record is made up (Slack et al. 2020, arXiv:1911.02508).

    Args:
        explainer: the method.
        records: that are explained; their pool says what data are like.
        values: (n, ...) their maps, by feature.
        about: conditions of the row.

    Returns:
        The row, and of tables the check; nothing for methods that ask no made-up records, for text, and for too small
        a pool.
    """
    some, x = slice(0, _WATCHED), records.x
    perturbs = not explainer.needs_gradient and not isinstance(explainer, Attention)
    if not perturbs or records.reference.modality == "text" or len(records.pool) < _FEWEST_KNOWN:
        return []
    detector = nearest_neighbour(records.pool.to(x))
    share = share_off_data(
        explainer, records.model, x[some], records.target[some], records.reference, detector, seed=records.seed
    )
    interval = intervals.mean(share.numpy()).interval
    found: list[Finding] = [estimated("off_the_data", interval, n=len(share), conditions=about)]
    if records.reference.modality == "tabular" and records.x[0].numel() <= _MOST_COLUMNS:
        found.append(_same_rule(explainer, records, values, interval.value))
    return found


def _same_rule(explainer: Explainer, records: MeasuredRecords, values: Tensor, off: float) -> Check:
    """Checks that the feature that a map names first matters on the data, too, not only on made-up records."""
    effects = effects_on_data(records)
    size = values.flatten(1).abs().mean(0)
    # Columns of one group share a value: the group matters if one of them does.
    first = size >= (1 - 1e-5) * size.max()
    ratio = float(effects[first].max() / effects.max()) if bool((effects > 0).any()) else 1.0
    fooled = off > _MOSTLY and ratio < _LEAST_EFFECT
    told = (
        f"{off:.0%} of the records that it asks are unlike the data; on records like the data, the feature that it "
        f"names first has {ratio:.0%} of the effect of the strongest (limit {_LEAST_EFFECT:.0%})"
    )
    return Check(
        rule="holds_on_the_data",
        concerns=CONCERNED,
        verdict="warn" if fooled else "pass",
        figure=ratio,
        message=f"explained off the data: {told}" if fooled else told,
        conditions={"method": explainer.name},
    )


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
        How alike the maps are, and the check.
    """
    other = randomised(subject.model, seeds.torch_seed(subject.seed, "random weights"))
    signed = second is not None
    random = _agreement(values, values_of, other, records, signed=signed)
    again = None if second is None else _agreement(values, values_of, second, records, signed=signed)
    found = [_alike(random, clusters, {**about, "network": "random weights"})] if random is not None else []
    found += [_alike(again, clusters, {**about, "network": "another seed"})] if again is not None else []
    return [*found, _depends(explainer, random, again, clusters)]


def _alike(agreement: np.ndarray, clusters: np.ndarray | None, about: Mapping[str, object]) -> Finding:
    interval = intervals.mean(agreement, clusters).interval
    return estimated("network_agreement", interval, n=len(agreement), unit="Spearman correlation", conditions=about)


def _depends(
    explainer: Explainer, random: np.ndarray | None, again: np.ndarray | None, clusters: np.ndarray | None
) -> Check:
    """Returns the check, from how alike the maps of other networks are."""
    if random is None:
        told = "whether the map depends on the weights is not tested: random weights give no numbers"
        return _weights(explainer, "warn", 0.0, told)
    if again is None:
        figure = float(random.mean())
        told = f"with random weights the ranking of inputs keeps a correlation of {figure:.2f} (limit {_MOST_SIMILAR})"
        return _weights(explainer, "warn" if figure > _MOST_SIMILAR else "pass", figure, told)
    beyond = intervals.mean(again - random, clusters).interval
    told = (
        f"the ranking of inputs is more like that of a network of another seed than that of random weights by "
        f"{beyond.value:.2f} of correlation (must be above 0, with its interval from {beyond.low:.2f})"
    )
    return _weights(explainer, "pass" if beyond.low > 0 else "warn", beyond.value, told)


def _agreement(
    values: Tensor, values_of: ValuesOf, network: nn.Module, records: MeasuredRecords, *, signed: bool
) -> np.ndarray | None:
    """Returns how alike the maps of another network are, (n,); None where it gives no numbers."""
    try:
        return rank_agreement(values, values_of(network), records.features, signed=signed)
    except ExplanationError:
        return None


def _weights(explainer: Explainer, verdict: Any, figure: float, told: str) -> Check:
    return Check(
        rule="randomised_weights",
        concerns=CONCERNED,
        verdict=verdict,
        figure=figure,
        message=told,
        conditions={"method": explainer.name},
    )


def second_network(subject: Subject) -> nn.Module | None:
    """Trains the recipe with another seed.

    Args:
        subject: the model with its data.

    Returns:
        The network; None where it cannot be trained, would tell more than ε allows, or reads vectors of other words.
    """
    if subject.train is None or subject.is_private or not len(subject.split.train):
        return None
    if subject.dataset.modality == "text":  # each network has word vectors of its own, and the records are vectors
        return None
    return subject.train(subject.split.train, "second network").eval()
