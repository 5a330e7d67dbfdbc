"""Meaning, unit and place of the figures about explanations."""

from assay.metrics import POSITIVE, Metric, ScorecardColumn

SHARE = "share of the change"
"""Unit: a part of the change of the log-odds between the record and the record without its features."""
SHARE_OF_GREATEST = "share of the greatest value"
SCALED = "share of the room above the controls"
"""Unit: 0 is the strongest control, 1 the best order that is known."""
P_VALUE = "p-value"
SHARE_LEFT = "share of the variance of the terms"
PAIRS_AGREED = "share of the pairs of methods"

EXPLANATION_METRICS = (
    Metric(
        name="faithfulness",
        title="Faithfulness",
        meaning="How far a map stands between the strongest control (0: an edge detector, another record's map, a "
        "random field of the same spectrum …) and the best order of the features that is known (1), by the area "
        "between the curves of insertion and deletion over a panel of replacements.",
        unit=SCALED,
        better="higher",
        columns=(
            ScorecardColumn(
                key="faithfulness",
                group="explanation",
                place=10,
                meaning="How far the map of the default method of these records stands between the strongest control "
                "(0: an edge detector, another record's map, a random field of the same spectrum …) and the best order "
                "of the features that is known (1), by the area between the curves of insertion and deletion over a "
                "panel of replacements.",
                where={"primary": True},
                shown="number",
                sampled=True,
            ),
        ),
    ),
    Metric(
        name="faithfulness_p",
        title="p of faithfulness",
        meaning="One-sided p of the hypothesis that a map has at most a tenth of the room between a control and the "
        "best known order, the greatest over the controls, after Holm's correction over methods.",
        unit=P_VALUE,
        better="lower",
        limits=(0.0, 1.0),
    ),
    Metric(
        name="measure_p",
        title="p of a further measure",
        meaning="One-sided p of the hypothesis that a measure scores a map no better than another record's map, after "
        "Holm's correction over methods and measures.",
        unit=P_VALUE,
        better="lower",
        limits=(0.0, 1.0),
    ),
    Metric(
        name="area_between",
        title="Area between the curves",
        meaning="Insertion minus deletion; 0 on average for a map that knows nothing.",
        unit=SHARE,
        better="higher",
    ),
    Metric(
        name="control_area",
        title="Area of a control",
        meaning="Area between the curves of a map that does not depend on the answer to the record.",
        unit=SHARE,
    ),
    Metric(
        name="oracle_area",
        title="Area of the best known order",
        meaning="Greatest area between the curves that greedy searches find for each record. The oracle of a map is "
        "this, or the map's own area where that is greater.",
        unit=SHARE,
    ),
    Metric(
        name="panel_agreement",
        title="Agreement of replacements",
        meaning="Share of the pairs of methods which some replacement tells apart by more than a tenth of the room, "
        "and which none puts in the opposite order; below 0.7 the order of the methods is inconclusive.",
        unit=PAIRS_AGREED,
        better="higher",
    ),
    Metric(
        name="insertion_gain",
        title="Insertion gain",
        meaning="How much faster the prediction returns when inputs are restored in the explanation's order than in "
        "random order, as a share of the change of its log-odds; 0 means that the explanation is no better than "
        "chance.",
        unit=SHARE,
        better="higher",
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
        name="network_agreement",
        title="Stability over networks",
        meaning="Rank correlation of a map with that of another network on the same record: of one that the recipe "
        "trained from another seed, which should be high, and of one with random weights, which should be low.",
        unit="Spearman correlation",
    ),
    Metric(
        name="off_the_data",
        title="Asked off the data",
        meaning="Share of the records that a method makes up, to take features away, which are unlike all data. The "
        "map rests on answers to these, which nothing has tested: a model can be built that answers otherwise there.",
        better="lower",
    ),
    Metric(
        name="left_on_the_data",
        title="Effects left on the data",
        meaning="Variance, over records of the data, of the sum of the effects that a map names, as a share of the sum "
        "of the variances of these effects. 1 for slopes of random signs, more where a network uses features that vary "
        "together; near 0 the effects cancel on the data: the decision is a small difference of large effects, or the "
        "effects do not matter to it. The check `varies_with_the_data` tells the two apart.",
        unit=SHARE_LEFT,
        better="higher",
    ),
    Metric(
        name="baseline_agreement",
        title="Agreement over baselines",
        meaning="Mean cosine of integrated gradients and of the maps by gradients on lines that keep away from the "
        "baseline. Low where the map rests on answers near the baseline, where there are no data: a network can be "
        "changed there alone.",
        unit="cosine",
        better="higher",
    ),
    Metric(
        name="explanation_seconds",
        title="Time of an explanation",
        meaning="Wall time of explaining one record.",
        unit="seconds",
        better="lower",
    ),
    Metric(
        name="group_value",
        title="Value of a named group",
        meaning="Mean |value| of a group of features that the study names, over the explained records: by how much the "
        "group as a whole moves the log-odds of the predicted class.",
        unit="log-odds",
        limits=POSITIVE,
    ),
    Metric(
        name="group_interaction",
        title="Interaction of two named groups",
        meaning="Mean |Shapley interaction| of two groups that the study names: what the two do together beyond what "
        "each does alone.",
        unit="log-odds",
        limits=POSITIVE,
    ),
    Metric(
        name="explanation_examples",
        title="Example maps",
        meaning="Number of test records that are kept with their maps, for readers; only where the licence of the data "
        "set lets everybody publish its records.",
        unit="records",
    ),
)
