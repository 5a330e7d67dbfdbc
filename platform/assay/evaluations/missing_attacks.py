"""Attacks that cannot be run on a model, the reasons, and their rows."""

from collections.abc import Iterable, Mapping, Sequence

from assay.attacks.base import Attack
from assay.attacks.hop_skip_jump import HopSkipJump
from assay.attacks.spsa import SPSA
from assay.attacks.square import Square
from assay.evaluations.attack_runs import AttackTarget
from assay.evaluations.subject import Subject
from assay.results import Measurement, ReasonCode, not_applicable
from assay.threats import Norm

QUANTILES = {"median": 0.5, "tenth_percentile": 0.1}
"""Quantiles of the distances that an attack reports which searches for the smallest change."""
SEARCHES: tuple[Attack, ...] = (HopSkipJump(), SPSA(), Square())
"""Attacks by queries alone, which give the worst case of a model without a gradient."""


Missing = tuple[str, ReasonCode]
"""Reason why an attack cannot be run, in words and as a code."""


def why_missing(attacks: Mapping[str, Attack], subject: Subject) -> dict[str, Missing]:
    """Returns why attacks cannot be run on a subject.

    Args:
        attacks: by label.
        subject: the model.

    Returns:
        Reasons by label; attacks that can be run are left out.
    """
    missing: dict[str, Missing] = {}
    for label, attack in attacks.items():
        if attack.needs_surrogate and subject.train is None:
            why = "the surrogate would be trained as the model was, and Assay did not train this model"
            missing[label] = why, "not_trained_here"
        elif subject.why_no_gradient and (attack.follows_gradient or attack.needs_surrogate):
            # A surrogate is the same network with other weights, so it has no gradient either.
            missing[label] = f"the attack needs a gradient: {subject.why_no_gradient}", "no_gradient"
    return missing


def rows_of_missing(
    attacks: Mapping[str, Attack], missing: Mapping[str, Missing], *, norm: Norm, epsilons: Sequence[float]
) -> list[Measurement]:
    """Returns rows without values in place of the figures of each missing attack.

    Args:
        attacks: by label, including the missing ones.
        missing: reasons, by label.
        norm: of the worst case; a minimal-norm attack in another norm has distances only.
        epsilons: radii of the curve.

    Returns:
        The rows.
    """
    rows = []
    for label, (why, reason) in missing.items():
        attack = attacks[label]
        if norm in attack.norms:
            at = {"attack": label, "norm": norm}
            rows += [not_applicable("robust_accuracy", why, reason=reason, **at, epsilon=e) for e in epsilons]
        if attack.minimal:
            about = {"attack": attack.label, "norm": norm if norm in attack.norms else attack.norms[0]}
            rows += [not_applicable(name, why, reason=reason, **about) for name in distance_names(attack)]
    return rows


def rows_of_failed(label: str, error: Exception, target: AttackTarget) -> list[Measurement]:
    """Returns the rows of an adaptive attack that failed.

    Args:
        label: of the attack.
        error: that it raised.
        target: with its radii.

    Returns:
        One failed row at each radius.
    """
    why = f"checks called for this attack, and it could not be run: {type(error).__name__}: {error}"
    about = {"attack": label, "norm": target.base.norm, "units": target.subject.space}
    return [
        Measurement(
            name="robust_accuracy",
            status="failed",
            reason="error",
            conditions={**about, "epsilon": epsilon},
            warnings=(why,),
        )
        for epsilon in target.radii
    ]


def distance_names(attack: Attack) -> Iterable[str]:
    """Returns the names of the figures of an attack that searches for the smallest change.

    Args:
        attack: with its label.

    Returns:
        The name of its success, then that of each quantile.
    """
    return (f"{attack.label}_success", *(f"{attack.label}_{quantile}_distance" for quantile in QUANTILES))
