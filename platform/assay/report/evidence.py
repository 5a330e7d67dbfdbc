"""The columns of the scorecard: which measurement each shows, at which conditions, and how to read it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from assay.threats import radius_text

_NORMS = {"linf": "L∞", "l2": "L2"}
_SAMPLED = {
    **dict.fromkeys(("robust_accuracy", "worst_case_accuracy", "worst_case_before_adaptive"), "robustness"),
    **dict.fromkeys(
        (f"worst_case_{kind}" for kind in ("balanced_accuracy", "sensitivity", "specificity", "recall")), "robustness"
    ),
    **dict.fromkeys(
        (f"certified_{kind}" for kind in ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "recall")),
        "certificates",
    ),
    **dict.fromkeys(("smoothed_accuracy", "smoothed_robust_accuracy"), "smoothing"),
    **dict.fromkeys(("shifted_accuracy", "mean_corruption_error"), "shift"),
    "word_substitution_accuracy": "word_substitution",
}
"""By measurement, the evaluation that may ask it of a sample of the test records."""
_BY_METHOD = {"randomised smoothing": "smoothing"}


def rests_on_a_sample(name: str) -> bool:
    """Whether a measurement may rest on a sample of the test records; accuracy itself counts, as what it is held to."""
    return name == "accuracy" or name in _SAMPLED


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One column of the scorecard: a measurement, at one of its conditions, and how to read it."""

    key: str
    title: str
    name: str
    """Name of the measurement."""
    meaning: str
    where: Mapping[str, Any] = field(default_factory=dict)
    """Conditions that must hold."""
    better: str = "higher"
    """``higher``, ``lower`` or ``neither``."""
    unit: str = "percent"
    """``percent``, ``number`` or ``seconds``."""
    least: float = 0.0
    most: float = 1.0
    """The values that are possible at all: an interval from a t distribution is cut there."""
    estimated: bool = True
    """Whether an interval says anything: a budget that was spent is no estimate."""
    optional: bool = False
    """Whether the column is left out where no trial was asked for it, and where it applies to no recipe."""
    sampled: bool = False
    """Whether it may be asked of a part of the test records: then the part is told, with the accuracy on it."""
    from_zero: bool = False
    """Whether it is shown with its own value at ε = 0, on the same records and runs: accuracy would be no match."""
    group: str = ""
    """Under which heading it stands."""
    beside: "Evidence | None" = None
    """What is shown on the same runs, where this figure has fewer runs than that one: else means of different folds
    would stand side by side."""

    @property
    def evaluation(self) -> str:
        """The evaluation whose sample of the test records it rests on, where accuracy is a match for it; else empty."""
        if (not self.name.endswith("accuracy") and self.name != "mean_corruption_error") or "balanced" in self.name:
            return ""
        by_method = _BY_METHOD.get(str(self.where.get("method")), "certificates")
        found = _SAMPLED.get(self.name, "")
        return by_method if found == "certificates" else found


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The conditions at which the scorecard shows what was measured at several."""

    epsilon: float
    """Radius of robustness; NaN where none was measured."""
    norm: str = "linf"
    """Norm of that radius."""
    risk: float = 0.05
    """Share of wrong answers to which selective prediction is held."""
    alpha: float = 0.1
    """Miscoverage of the conformal sets."""
    patch: float = 0.05
    """Share of an image that an adversarial patch covers."""
    smoothed: float = math.nan
    """Radius (L2) of what randomised smoothing certifies; NaN where nothing was smoothed."""
    sigma: float = math.nan
    """Its noise; NaN where nothing was smoothed."""
    lira: str = "online"
    """Mode of the likelihood-ratio attack."""


def columns(at: Conditions) -> tuple[Evidence, ...]:
    """The scorecard's columns."""
    insertion, seconds = _of_the_rest()
    groups = {
        "answers": (*_of_answers(), *_of_failing_safe(at.risk, at.alpha)),
        "attack": (*_of_attacks(at), *_of_poison()),
        "privacy": _of_privacy(at.lira),
        "explanation": (insertion,),
        "cost": (seconds,),
    }
    return tuple(replace(column, group=group) for group, found in groups.items() for column in found)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Columns under one heading."""

    title: str
    columns: tuple[Evidence, ...]


def in_tables(evidence: Sequence[Evidence], *, together: int = 8) -> list[list[Group]]:
    """Columns in tables that fit a page: small groups side by side, large ones alone.

    Args:
        together: the most columns of groups that share a table.
    """
    names = list(dict.fromkeys(column.group for column in evidence))
    groups = [Group(title=name, columns=tuple(c for c in evidence if c.group == name)) for name in names]
    tables: list[list[Group]] = []
    for group in groups:
        taken = sum(len(one.columns) for one in tables[-1]) if tables else together
        if taken + len(group.columns) <= together:
            tables[-1].append(group)
        else:
            tables.append([group])
    return tables


def _of_answers() -> tuple[Evidence, ...]:
    return (
        Evidence(
            key="accuracy",
            title="Accuracy",
            name="accuracy",
            meaning="Share of test records classified correctly.",
        ),
        Evidence(
            key="majority",
            title="Majority",
            name="majority_baseline",
            better="neither",
            optional=True,
            meaning="Accuracy of answering the most frequent class of the test records to everything: accuracy, under "
            "attack too, says something only where it lies above.",
        ),
        Evidence(
            key="balanced",
            title="Balanced accuracy",
            name="balanced_accuracy",
            optional=True,
            meaning="Mean over classes of the share of their records that are classified correctly: of a constant "
            "answer one over the number of classes, whatever their shares.",
        ),
        Evidence(
            key="f1",
            title="F1",
            name="f1",
            unit="number",
            optional=True,
            meaning="Harmonic mean of precision and recall: of class 1 where there are two classes, and where there "
            "are more the mean over classes (macro), in which a rare class counts as much as a common one.",
        ),
        Evidence(
            key="auroc",
            title="AUROC",
            name="auroc",
            unit="number",
            meaning="Chance that a record of class 1 is ranked above another; of more than two classes the mean over "
            "each against the rest; 0.5 is chance.",
        ),
        Evidence(
            key="sensitivity",
            title="Sensitivity",
            name="sensitivity",
            meaning="Share of the records of class 1 found, at the operating point chosen on the validation split.",
        ),
        Evidence(
            key="specificity",
            title="Specificity",
            name="specificity",
            meaning="Share of the records of class 0 not taken for class 1, at the same operating point.",
        ),
        Evidence(
            key="calibration_error",
            title="Calibration error",
            name="calibration_error",
            unit="number",
            better="lower",
            meaning="Mean gap between the confidence that the model states and how often it is right.",
        ),
    )


def _of_attacks(at: Conditions) -> tuple[Evidence, ...]:
    threat = {"epsilon": at.epsilon, "norm": at.norm}
    radius = "" if math.isnan(at.epsilon) else f", ε = {radius_text(at.epsilon)}"
    worst = Evidence(
        key="robust",
        sampled=True,
        title=f"Worst case{radius}",
        name="worst_case_accuracy",
        where=threat,
        meaning="Share of records classified correctly whatever attack of this threat model is tried on them.",
    )
    return (
        worst,
        *_of_classes(threat, radius),
        Evidence(
            key="fgsm",
            sampled=True,
            title=f"FGSM{radius}",
            name="robust_accuracy",
            where={"attack": "fgsm", **threat},
            beside=worst,
            meaning="The same under one gradient step alone: what a weak attack flatters, and where masking shows.",
        ),
        Evidence(
            key="certified",
            sampled=True,
            title=f"Certified{radius}",
            name="certified_accuracy",
            where={"method": "interval bounds", **threat},
            beside=worst,
            meaning="Share of records proven to be classified correctly within ε, whatever the attack, known or not.",
        ),
        Evidence(
            key="smoothed",
            sampled=True,
            title=f"Certified when smoothed, L2 ε = {radius_text(at.smoothed)}, σ = {at.sigma:g}",
            name="certified_accuracy",
            where={"method": "randomised smoothing", "epsilon": at.smoothed, "sigma": at.sigma},
            optional=True,
            meaning="Share of records on which the smoothed model, which answers by a vote over noisy copies, is right "
            "and provably (with its confidence) stays so within that Euclidean radius. It says nothing of the model "
            "without noise.",
        ),
        Evidence(
            key="patch",
            sampled=True,
            title=f"Patch ({100 * at.patch:g} % of the area)",
            name="patch_accuracy",
            where={"attack": "adversarial_patch", "share": at.patch},
            optional=True,
            meaning="Share of records classified correctly with one printed patch, the same for all, in a random place "
            "and pose.",
        ),
        Evidence(
            key="cw",
            title="C&W distance",
            name="carlini_wagner_median_distance",
            unit="number",
            most=math.inf,
            meaning="Median Euclidean change that flips a correct answer, in the units of the data.",
        ),
    )


def _of_classes(threat: Mapping[str, Any], radius: str) -> tuple[Evidence, ...]:
    """Whom an attack costs: a defence may keep the healthy and lose the ill, at the same accuracy."""
    about: dict[str, Any] = {"sampled": True, "optional": True, "from_zero": True}
    return (
        Evidence(
            key="robust_balanced",
            title=f"Worst case, balanced{radius}",
            name="worst_case_balanced_accuracy",
            where=threat,
            meaning="Mean over classes of the share of their records that stay right in the worst case: a constant "
            "answer, which no attack changes, has one over the number of classes.",
            **about,
        ),
        Evidence(
            key="robust_sensitivity",
            title=f"Worst-case sensitivity{radius}",
            name="worst_case_sensitivity",
            where=threat,
            meaning="Share of the records of class 1 that are found whatever attack is tried on them. The answer is "
            "the likelier class, not that of the operating point, so compare it with sensitivity at ε = 0.",
            **about,
        ),
        Evidence(
            key="robust_specificity",
            title=f"Worst-case specificity{radius}",
            name="worst_case_specificity",
            where=threat,
            meaning="The same share of the records of class 0.",
            **about,
        ),
        Evidence(
            key="certified_balanced",
            title=f"Certified, balanced{radius}",
            name="certified_balanced_accuracy",
            where={"method": "interval bounds", **threat},
            meaning="Mean over classes of the share of their records that are proven to be classified correctly.",
            sampled=True,
            optional=True,
        ),
    )


def _of_poison() -> tuple[Evidence, ...]:
    return (
        Evidence(
            key="backdoor",
            title="Backdoor success",
            name="backdoor_success",
            better="lower",
            optional=True,
            meaning="Share of the test records of other classes that the attacker's trigger sends to the class that it "
            "asks for.",
        ),
        Evidence(
            key="collision",
            title="Collision success",
            name="collision_success",
            better="lower",
            optional=True,
            meaning="Share of the records that clean-label poison aims at that are taken for the attacker's class.",
        ),
    )


def _of_failing_safe(risk: float, alpha: float) -> tuple[Evidence, ...]:
    return (
        Evidence(
            key="corruption",
            title="Corruption error",
            name="mean_corruption_error",
            sampled=True,
            better="lower",
            most=1.0,
            optional=True,
            meaning="Share of wrong answers on corrupted records, mean over all corruptions and severities.",
        ),
        Evidence(
            key="abstains",
            title=f"Abstains (risk ≤ {100 * risk:g} %)",
            name="abstention_rate",
            where={"risk": risk},
            better="lower",
            optional=True,
            meaning=f"Share of records left to the clinician so that at most {100 * risk:g} % of the other answers are "
            "wrong; the threshold was chosen on records held out from training and test.",
        ),
        Evidence(
            key="conformal",
            title=f"Conformal coverage (≥ {100 * (1 - alpha):g} %)",
            name="conformal_coverage",
            where={"alpha": alpha, "method": "LAC"},
            better="neither",
            optional=True,
            meaning="Share of records whose true class lies in the set that the model names; sets are calibrated to "
            f"hold it for {100 * (1 - alpha):g} % of records like those of the calibration.",
        ),
    )


def _of_privacy(lira: str) -> tuple[Evidence, ...]:
    return (
        Evidence(
            key="epsilon",
            title="ε claimed",
            name="epsilon",
            unit="number",
            better="neither",
            estimated=False,
            meaning="Differential privacy by the RDP accountant, of one patient where records have patients and of one "
            "record elsewhere, or where the recipe asks for that; ∞ if training is not private.",
        ),
        Evidence(
            key="epsilon_pld",
            title="ε, 2nd accountant",
            name="epsilon_pld",
            unit="number",
            better="neither",
            estimated=False,
            meaning="The same run counted independently by a privacy loss distribution; must not exceed the claim.",
        ),
        Evidence(
            key="membership",
            title="Membership TPR",
            name="membership_tpr",
            where={"false_positive_rate": 0.1},
            better="lower",
            meaning="Share of training records that an attacker recognises while wrongly accusing 10 % of the others.",
        ),
        Evidence(
            key="lira",
            title=f"Membership TPR, LiRA {lira}",
            name="lira_tpr",
            where={"false_positive_rate": 0.1, "mode": lira},
            better="lower",
            optional=True,
            meaning="The same share under an attacker who trains shadow models by the same recipe, which the attack "
            "before does not: without them little is seen of what a model gives away of single records.",
        ),
    )


def _of_the_rest() -> tuple[Evidence, ...]:
    return (
        Evidence(
            key="insertion",
            sampled=True,
            title="Fidelity gain",
            name="insertion_gain",
            where={"method": "integrated_gradients"},
            unit="number",
            least=-1.0,
            meaning="How much faster the prediction returns when inputs are restored in the explanation's order, not "
            "at random; 0 means that the explanation is no better than chance.",
        ),
        Evidence(
            key="seconds",
            title="Training",
            name="training_seconds",
            unit="seconds",
            better="lower",
            most=math.inf,
            meaning="Wall time of one training.",
        ),
    )


def norm_text(norm: str) -> str:
    """A norm as the field writes it."""
    return _NORMS.get(norm, norm)
