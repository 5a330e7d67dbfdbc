"""The meaning of ε for each feature of a table, and whether its features share one scale."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from assay.evaluations.base import Evaluation
from assay.evaluations.subject import Subject
from assay.metrics import Metric
from assay.registry import register
from assay.results import TELLS_OF, Check, Finding, Measurement, not_applicable

_NAME = "feature_scale"
OWN_UNIT = "own unit of the feature"
"""Unit of a scale whose feature has no stated unit."""
_LIMIT = 100.0
"""Ratio of the largest feature to the smallest above which a network learns the large ones only."""
_MOST_SHOWN = 100
"""Greatest number of features whose scales are reported."""


@register("evaluation")
class FeatureScales(Evaluation):
    """The size of 1.0 of ε in each feature's own unit, and whether one ε suits all features.

    It runs with every accuracy of a table without being listed. Scales that a private recipe has learnt from training
    records are left out, because no ε pays for them; those of other recipes are marked, and stay with the curator.
    """

    looks_at = "probabilities"
    name: Literal["scales"] = "scales"
    needs_shared_model: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name=_NAME,
            title="Scale of a feature",
            meaning="What 1.0 of ε is of the feature, in its own unit.",
            unit="",
        ),
    )

    @property
    def of_training_records(self) -> bool:
        return False

    def measure(self, subject: Subject) -> Sequence[Finding]:
        dataset = subject.dataset
        if dataset.modality != "tabular" or len(dataset.shape) != 1 or not len(subject.split.test):
            why = f"these records are no table: {dataset.modality}, shape {dataset.shape}"
            return [not_applicable(_NAME, why, reason="other_kind_of_records")]
        checks = alike_in_scale(
            np.asarray(dataset.x[subject.split.test], np.float64), dataset.feature_names, dataset.immutable
        )
        return [*_scales(subject), *checks]


def _scales(subject: Subject) -> list[Finding]:
    dataset = subject.dataset
    fixed = np.zeros(dataset.shape, bool) if dataset.immutable is None else dataset.immutable
    private = subject.recipe is not None and subject.recipe.privacy is not None
    shown = [
        feature
        for feature, stays in zip(dataset.features, fixed, strict=bool(dataset.features))
        if not stays and not (private and feature.source != "stated")
    ]
    rows: list[Finding] = [
        Measurement(
            name=_NAME,
            value=feature.scale,
            unit=feature.unit or OWN_UNIT,
            n=len(dataset),
            conditions={
                "feature": feature.name,
                "center": feature.center,
                "source": feature.source,
                # A learnt scale is a deviation of training records.
                **({} if feature.source == "stated" else {TELLS_OF: "training records"}),
            },
        )
        for feature in shown[:_MOST_SHOWN]
    ]
    if len(shown) > _MOST_SHOWN:
        why = f"told of the first {_MOST_SHOWN} of {len(shown)} features alone"
        rows.append(not_applicable(_NAME, why, reason="too_many"))
    return rows


def alike_in_scale(x: np.ndarray, names: Sequence[str], immutable: np.ndarray | None) -> list[Check]:
    """Checks that the root mean squares of features differ by a factor of 100 at most.

    Args:
        x: (n, features) test records.
        names: of the features, if they have any.
        immutable: (features,) bool, which no attack may change.

    Returns:
        A check of the accuracy, and, where features that an attack may change differ more, one of the worst case.
    """
    sizes = np.sqrt((x**2).mean(0))
    fixed = np.zeros(len(sizes), bool) if immutable is None else immutable
    checks = [_check(sizes, np.arange(len(sizes)), names, "accuracy", "a network learns the large ones alone")]
    effect = "one ε is a trifle for the large ones and more than their range for the small ones"
    robust = _check(sizes, np.flatnonzero(~fixed), names, "worst_case_accuracy", effect)
    return checks if robust.verdict == "pass" else [*checks, robust]


def _check(sizes: np.ndarray, places: np.ndarray, names: Sequence[str], concerns: str, effect: str) -> Check:
    order = [int(place) for place in places[np.argsort(sizes[places])] if sizes[place] > 0]
    ratio = float(sizes[order[-1]] / sizes[order[0]]) if order else 1.0
    message = f"the largest feature is {ratio:.3g} times the smallest (root mean squares of test records)"
    if ratio >= _LIMIT:
        named = [f"{names[place] if names else f'feature {place}'} ({sizes[place]:.3g})" for place in order]
        message += (
            f": {', '.join(named[-3:][::-1])} beside {', '.join(named[:3])}, so that {effect}; scale every "
            "feature by a published deviation, or read the file as the data set table, which scales"
        )
    return Check(
        rule="features_of_one_scale",
        concerns=concerns,
        verdict="warn" if ratio >= _LIMIT else "pass",
        figure=ratio,
        message=message,
    )
