"""Metrics of the evaluation ``robustness``."""

from typing import Any

from assay.evaluations.balanced import metrics_by_class
from assay.evaluations.subgroups import subgroup_metrics
from assay.metrics import AT_RADIUS, POSITIVE, Metric, ScorecardColumn, after_radius

_TEXTS = {"epsilon": after_radius}
_OF_CLASSES: dict[str, Any] = {
    "group": "attack",
    "where": AT_RADIUS,
    "texts": _TEXTS,
    "sampled": True,
    "optional": True,
    "from_zero": True,
}
"""Settings of columns by class: a defence may keep specificity and lose sensitivity at the same accuracy."""

ROBUSTNESS_METRICS = (
    Metric(
        name="worst_case_accuracy",
        title="Worst case",
        meaning="Share of records classified correctly under every attack of this threat model that was tried.",
        better="higher",
        of_sample=True,
        against_accuracy=True,
        columns=(
            ScorecardColumn(
                key="robust",
                group="attack",
                place=10,
                title="Worst case{epsilon}",
                where=AT_RADIUS,
                texts=_TEXTS,
                sampled=True,
            ),
        ),
    ),
    *metrics_by_class(
        "worst_case",
        "that stay right whatever attack is tried on them",
        columns={
            "balanced_accuracy": ScorecardColumn(
                key="robust_balanced",
                place=20,
                title="Worst case, balanced{epsilon}",
                meaning="Mean over classes of the share of their records that stay right in the worst case; a constant "
                "answer, which no attack changes, has one over the number of classes.",
                **_OF_CLASSES,
            ),
            "sensitivity": ScorecardColumn(
                key="robust_sensitivity",
                place=30,
                title="Worst-case sensitivity{epsilon}",
                meaning="Share of the records of class 1 that are found under every attack that was tried. The answer "
                "is the likelier class, not that of the operating point, so compare it with sensitivity at ε = 0.",
                **_OF_CLASSES,
            ),
            "specificity": ScorecardColumn(
                key="robust_specificity",
                place=40,
                title="Worst-case specificity{epsilon}",
                meaning="The same share of the records of class 0.",
                **_OF_CLASSES,
            ),
        },
    ),
    *subgroup_metrics(
        "worst_case_accuracy",
        "Share of records classified correctly whatever attack is tried on them.",
        (
            ScorecardColumn(
                key="robust_worst_subgroup",
                place=45,
                title="Worst case, worst subgroup{epsilon}",
                **_OF_CLASSES,
            ),
        ),
    ),
    Metric(
        name="robust_accuracy",
        title="Accuracy under one attack",
        meaning="Share of records classified correctly under one attack alone: no less than in the worst case.",
        better="higher",
        of_sample=True,
        against_accuracy=True,
        columns=(
            ScorecardColumn(
                key="fgsm",
                group="attack",
                place=60,
                title="FGSM{epsilon}",
                meaning="Accuracy under one gradient step: a weak attack, whose figure is too high where gradients are "
                "masked.",
                where={"attack": "fgsm", **AT_RADIUS},
                texts=_TEXTS,
                sampled=True,
                beside="robust",
            ),
        ),
    ),
    Metric(
        name="worst_case_before_adaptive",
        title="Worst case before adaptive attacks",
        meaning="The worst case over the attacks that were asked for, without adaptive attacks.",
        better="higher",
        of_sample=True,
    ),
    Metric(
        name="carlini_wagner_median_distance",
        title="C&W distance",
        meaning="Median Euclidean change that flips a correct answer, in the units of the data.",
        unit="",
        better="higher",
        limits=POSITIVE,
        columns=(ScorecardColumn(key="cw", group="attack", place=100, shown="number"),),
    ),
    Metric(
        name="*_distance",
        title="Distance",
        meaning="A quantile of the smallest changes that an attack found, over records that were right without it.",
        unit="",
        better="higher",
        limits=POSITIVE,
    ),
    Metric(
        name="*_success",
        title="Success of an attack",
        meaning="Share of the records that were right without an attack for which an attack found a change that fools.",
        better="lower",
    ),
)
