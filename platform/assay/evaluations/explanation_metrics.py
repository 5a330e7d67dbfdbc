"""Meaning, unit and place of the figures about explanations."""

from assay.metrics import Metric, ScorecardColumn

SHARE = "share of the change"
"""Unit: a part of the change of the log-odds between the record and the record without its features."""
SHARE_OF_GREATEST = "share of the greatest value"

EXPLANATION_METRICS = (
    Metric(
        name="insertion_gain",
        title="Fidelity gain",
        meaning="How much faster the prediction returns when inputs are restored in the explanation's order than "
        "in random order, as a share of the change of its log-odds; 0 means that the explanation is no better than "
        "chance.",
        unit=SHARE,
        better="higher",
        columns=(
            ScorecardColumn(
                key="insertion",
                group="explanation",
                place=10,
                where={"method": "integrated_gradients"},
                shown="number",
                sampled=True,
            ),
        ),
    ),
    Metric(
        name="deletion_gain",
        title="Deletion gain",
        meaning="How much faster the prediction falls when inputs are removed in the explanation's order than in "
        "random order, as a share of the change of its log-odds.",
        unit=SHARE,
        better="higher",
    ),
    Metric(
        name="insertion",
        title="Insertion",
        meaning="Mean share of the change of the log-odds that has returned while inputs are restored in the order of "
        "a map.",
        unit=SHARE,
    ),
    Metric(
        name="deletion",
        title="Deletion",
        meaning="Mean share of the change of the log-odds that is left while inputs are removed in the order of a map.",
        unit=SHARE,
    ),
    Metric(
        name="completeness_error",
        title="Completeness error",
        meaning="Difference between the sum of the attributions and the change from the baseline, relative to that, or "
        "to the greatest attribution where that is larger.",
        unit=SHARE,
        better="lower",
    ),
    Metric(
        name="additivity_error",
        title="Additivity error",
        meaning="Difference between the sum of the values and the change from the mean of the background, relative to "
        "that, or to the greatest value where that is larger.",
        unit=SHARE,
        better="lower",
    ),
    Metric(
        name="value_error",
        title="Error of a value",
        meaning="Greatest difference of an attribution between two rules of computing it, as a share of the record's "
        "greatest attribution. The sum may be right while the values are wrong.",
        unit=SHARE_OF_GREATEST,
        better="lower",
    ),
    Metric(
        name="explanation_agreement",
        title="Agreement of explanations",
        meaning="Rank correlation of a method and integrated gradients over the features of a record.",
        unit="Spearman correlation",
        better="higher",
    ),
    Metric(
        name="explanation_seconds",
        title="Time of an explanation",
        meaning="Wall time of explaining one record.",
        unit="seconds",
        better="lower",
    ),
)
