"""Meaning and unit of the figures about what a model does over all test records, and about its glass-box rival."""

from assay.metrics import POSITIVE, SIGNED, Metric, ScorecardColumn

LOG_ODDS = "log-odds"
DISTANCE = "standard deviations of the inputs"
INPUTS = "inputs"
RECORDS = "records"

GLOBAL_METRICS = (
    Metric(
        name="attribution_strength",
        title="Strength of a feature",
        meaning="Mean |attribution| of a feature over the test records of one predicted class: by how much it moves "
        "the log-odds of that class, in either direction.",
        unit=LOG_ODDS,
        limits=POSITIVE,
    ),
    Metric(
        name="attribution_direction",
        title="Direction of a feature",
        meaning="Mean attribution of a feature over the test records of one predicted class; negative where it speaks "
        "against the class that the model gives.",
        unit=LOG_ODDS,
    ),
    Metric(
        name="attribution_contrast",
        title="Difference between classes",
        meaning="Mean |attribution| of a feature for one predicted class minus that for the others, with Holm's "
        "correction over features and classes.",
        unit=LOG_ODDS,
    ),
    Metric(
        name="attribution_sum_error",
        title="Error of the sum of attributions",
        meaning="Difference between the sum of a record's attributions and the change of its log-odds that they "
        "explain, relative to that change, or to the greatest attribution where that is larger; mean over records.",
        unit="share of the change",
        better="lower",
    ),
    Metric(
        name="attribution_value_error",
        title="Numerical error of attributions",
        meaning="Greatest difference of an attribution of a record between two rules of computing it, as a share of "
        "the record's greatest attribution; mean over records.",
        unit="share of the greatest value",
        better="lower",
    ),
    Metric(
        name="word_attribution",
        title="Attribution of a word",
        meaning="Mean attribution of a word over the test texts of one predicted class that hold it.",
        unit=LOG_ODDS,
    ),
    Metric(
        name="interaction_strength",
        title="Interaction of two features",
        meaning="Mean |Shapley interaction| of two features: what the two do together beyond what each does alone.",
        unit=LOG_ODDS,
        limits=POSITIVE,
    ),
    Metric(
        name="surrogate_fidelity",
        title="Fidelity of a surrogate tree",
        meaning="Share of test records to which a small decision tree gives the model's answer. It counts above "
        "surrogate_baseline only.",
        better="higher",
    ),
    Metric(
        name="surrogate_baseline",
        title="Fidelity of one answer",
        meaning="Share of test records to which the model gives the answer that it gives most of the tree's learning "
        "records.",
    ),
    Metric(
        name="surrogate_gain",
        title="Fidelity above one answer",
        meaning="Fidelity of the tree minus that of one answer, on the same records.",
        better="higher",
        limits=SIGNED,
    ),
    Metric(
        name="counterfactual_validity",
        title="Counterfactuals found",
        meaning="Share of test records for which a change was found that keeps every rule and changes the decision "
        "after rounding; all others count as not found.",
    ),
    Metric(
        name="counterfactual_distance",
        title="Distance of counterfactuals",
        meaning="Mean Euclidean distance of the nearest counterfactual found, over the records that have one; each "
        "number counts in its standard deviation over the training records (of a private recipe, the test records).",
        unit=DISTANCE,
        limits=POSITIVE,
    ),
    Metric(
        name="counterfactual_changes",
        title="Inputs that change",
        meaning="Mean number of inputs that differ between a record and its nearest counterfactual.",
        unit=INPUTS,
        limits=POSITIVE,
    ),
    Metric(
        name="counterfactual_examples",
        title="Examples of counterfactuals",
        meaning="Number of changes that are shown; none unless everybody may publish records of the data set.",
        unit=RECORDS,
        limits=POSITIVE,
    ),
)

GLASS_BOX_METRICS = (
    Metric(
        name="glass_box_accuracy",
        title="Accuracy, glass box",
        meaning="Share of test records that an explainable boosting machine, trained on the same records as the "
        "network, classifies correctly.",
        better="higher",
        columns=(ScorecardColumn(key="glass_box", group="explanation", place=80, optional=True),),
    ),
    Metric(
        name="glass_box_auroc",
        title="AUROC, glass box",
        meaning="AUROC of that machine on the same test records.",
        unit="AUROC",
        better="higher",
    ),
    Metric(
        name="glass_box_difference",
        title="Network minus glass box",
        meaning="Accuracy of the network minus that of the glass box, paired by test record. A network that is not "
        "surely better gives up readability for nothing.",
        better="higher",
        limits=SIGNED,
    ),
    Metric(
        name="glass_box_auroc_difference",
        title="Network minus glass box, AUROC",
        meaning="AUROC of the network minus that of the glass box, on the same test records.",
        better="higher",
        limits=SIGNED,
    ),
    Metric(
        name="glass_box_strength",
        title="Strength of a term",
        meaning="Mean |contribution| of one of the glass box's own terms over the test records.",
        unit=LOG_ODDS,
        limits=POSITIVE,
    ),
    Metric(
        name="glass_box_epsilon",
        title="ε of the private glass box",
        meaning="ε that the training of the private glass box spends by itself, beyond that of the recipe.",
        unit="epsilon",
        better="lower",
    ),
)
