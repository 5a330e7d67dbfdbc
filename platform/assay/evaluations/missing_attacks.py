"""Attacks that cannot be run on a model, why not, and the rows that say so."""

from collections.abc import Iterable, Mapping, Sequence

from assay.attacks.base import Attack
from assay.attacks.hop_skip_jump import HopSkipJump
from assay.attacks.spsa import SPSA
from assay.attacks.square import Square
from assay.evaluations.base import Subject
from assay.results import Measurement, not_applicable
from assay.threats import Norm

QUANTILES = {"median": 0.5, "tenth_percentile": 0.1}
"""Of the distances that an attack reports which looks for the smallest change."""
SEARCHES: tuple[Attack, ...] = (HopSkipJump(), SPSA(), Square())
"""Attacks that only ask: what carries the worst case of a model without a gradient."""


def why_missing(attacks: Mapping[str, Attack], subject: Subject) -> dict[str, str]:
    """Why attacks cannot be run on a subject, by label; those that can be are left out."""
    missing = {}
    for label, attack in attacks.items():
        if attack.needs_surrogate and subject.train is None:
            missing[label] = "the surrogate would be trained as the model was, and Assay did not train this model"
        elif subject.why_no_gradient and (attack.follows_gradient or attack.needs_surrogate):
            # A surrogate is the same network with other weights, so it has no gradient either.
            missing[label] = f"the attack needs a gradient: {subject.why_no_gradient}"
    return missing


def rows_of_missing(
    attacks: Mapping[str, Attack], missing: Mapping[str, str], *, norm: Norm, epsilons: Sequence[float]
) -> list[Measurement]:
    """What stands where the figures of each missing attack would.

    Args:
        attacks: by label, those that are missing among them.
        missing: why, by label.
        norm: of the worst case; a minimal-norm attack that works in another one has distances alone.
        epsilons: radii of the curve.
    """
    rows = []
    for label, why in missing.items():
        attack = attacks[label]
        if norm in attack.norms:
            rows += [not_applicable("robust_accuracy", why, attack=label, epsilon=e, norm=norm) for e in epsilons]
        if attack.minimal:
            about = {"attack": attack.label, "norm": norm if norm in attack.norms else attack.norms[0]}
            rows += [not_applicable(name, why, **about) for name in distance_names(attack)]
    return rows


def distance_names(attack: Attack) -> Iterable[str]:
    """Names of the figures of an attack that looks for the smallest change: its success, then each quantile."""
    return (f"{attack.label}_success", *(f"{attack.label}_{quantile}_distance" for quantile in QUANTILES))
