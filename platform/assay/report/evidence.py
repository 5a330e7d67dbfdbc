"""The columns of the scorecard: which measurement each shows, at which conditions, and how to read it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.threats import radius_text

_NORMS = {"linf": "L∞", "l2": "L2"}


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
    """Whether it may be asked of a part of the test records: then the part is told."""


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
    return (
        *_of_answers(),
        *_of_attacks(at),
        *_of_poison(),
        *_of_failing_safe(at.risk, at.alpha),
        *_of_privacy(at.lira),
        *_of_the_rest(),
    )


def _of_answers() -> tuple[Evidence, ...]:
    return (
        Evidence(
            key="accuracy",
            title="Accuracy",
            name="accuracy",
            meaning="Share of test records classified correctly.",
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
            "each against the rest; 0.5 is a coin.",
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
            meaning="Share of the records of class 0 left in peace, at the same operating point.",
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
    return (
        Evidence(
            key="robust",
            sampled=True,
            title=f"Worst case{radius}",
            name="worst_case_accuracy",
            where=threat,
            meaning="Share of records classified correctly whatever attack of this threat model is tried on them.",
        ),
        Evidence(
            key="fgsm",
            sampled=True,
            title=f"FGSM{radius}",
            name="robust_accuracy",
            where={"attack": "fgsm", **threat},
            meaning="The same under one gradient step alone: what a weak attack flatters, and where masking shows.",
        ),
        Evidence(
            key="certified",
            sampled=True,
            title=f"Certified{radius}",
            name="certified_accuracy",
            where={"method": "interval bounds", **threat},
            meaning="Share of records proven to be classified correctly within ε, whatever attack is ever invented.",
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
