"""Stronger attacks on a sample of the records that withstood every attack, to test whether the worst case was found."""

from collections.abc import Mapping, Sequence

import torch
from scipy import stats
from torch import Tensor

from assay.attacks.apgd import APGD
from assay.attacks.base import Attack
from assay.attacks.fab import FAB
from assay.attacks.square import Square
from assay.attacks.targeted_pgd import TargetedPGD
from assay.evaluations.attack_runs import AttackTarget
from assay.results import Check, Verdict

SAMPLE = 32
"""Greatest number of survivors that are attacked again."""
STRONGER: tuple[Attack, ...] = (
    TargetedPGD(steps=50),
    APGD(loss="dlr", steps=25),
    FAB(steps=10),
)
"""Attacks of three kinds, so that they seldom fail on the same records: more steps from other starts, another schedule
of steps, and a search for the nearest boundary.
"""
BLACK_BOX = Square(queries=100)
"""The attack without gradients."""


def attack_survivors(target: AttackTarget, worst: Mapping[float, Tensor]) -> list[Check]:
    """Attacks a sample of the survivors again, at one radius, by stronger attacks and by one without gradients.

    Args:
        target: the model and its n records.
        worst: by radius, (n,) bool, the records that were fooled there. The radius used is the one that about half of
            the correctly classified records withstand.

    Returns:
        Two checks.
    """
    radii = [e for e in target.radii if e > 0 and not bool(worst[e].all())]
    if not radii:
        return [_stronger(0, 0, 0, 0.0, 0, ()), _black_box(0, 0, 0, 0.0, 0)]
    epsilon = min(radii, key=lambda e: abs(float((~worst[e]).double().mean()) - target.clean / 2))
    survivors = (~worst[epsilon]).nonzero()[:, 0]
    sample = survivors[torch.linspace(0, len(survivors) - 1, min(SAMPLE, len(survivors))).round().long()]
    fooled, ran, failed = _fooled(target, sample, STRONGER, epsilon)
    fooled_without_gradient, _, black_box_failed = _fooled(target, sample, (BLACK_BOX,), epsilon)
    shown = (len(sample), len(survivors), epsilon, len(target.x))
    return [_stronger(fooled, *shown, ran, failed), _black_box(fooled_without_gradient, *shown, black_box_failed)]


def _fooled(
    target: AttackTarget, rows: Tensor, attacks: Sequence[Attack], epsilon: float
) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """Returns how many of the records any of these attacks fools, which were run, and which failed and why."""
    standing = rows.to(target.x.device)
    ran: list[str] = []
    failed: list[str] = []
    through = target.subject.model if target.passes > 1 else None
    for attack in attacks:
        if not len(standing) or (attack.minimal and target.base.norm not in attack.norms):
            continue
        x, y, threat = target.x[standing], target.y[standing], target.base.at(epsilon)
        try:
            found = attack.run(target.judge, x, y, threat, seed=target.subject.seed, through=through)
        except Exception as error:
            # A model that this attack cannot take: the figures stand without it, and the check says so.
            failed.append(f"{attack.label}: {type(error).__name__}: {error}")
            continue
        ran.append(attack.label)
        standing = standing[~found.fooled]
    return len(rows) - len(standing), tuple(ran), tuple(failed)


def _stronger(  # noqa: PLR0917
    fooled: int,
    sample: int,
    survivors: int,
    epsilon: float,
    records: int,
    attacks: tuple[str, ...],
    failed: tuple[str, ...] = (),
) -> Check:
    """Checks that stronger attacks do not lower the worst case by more than a point; all of them must run.

    Args:
        fooled: how many of the sample they fooled.
        sample: size of the sample; 0 where nothing withstood the attacks before.
        survivors: records that withstood everything before at ``epsilon``.
        records: all of them.
        attacks: labels of the stronger attacks that were run.
        failed: those that could not be run, and why.
    """
    points = fooled / sample * survivors / records if sample else 0.0
    # A sample shows more than a point only where a point alone would seldom show so much.
    allowed = min(1.0, 0.01 * records / survivors) if survivors else 1.0
    surely = bool(fooled) and float(stats.binom.sf(fooled - 1, sample, allowed)) < 0.05
    found = points >= 0.01 and surely
    said = (
        f"stronger attacks ({', '.join(attacks) or 'none was run'}) fool {fooled} of {sample} records drawn "
        f"from the {survivors} that withstood all others at ε = {epsilon:g}: about {points:.1%} of all (limit 1 "
        "point, p < 0.05)"
    )
    if found:
        said += ": the attacks have not converged; raise steps, or add stronger ones by attacks"
    if failed:
        said = f"{said}; not run: {'; '.join(failed)}" if found else _inconclusive(said, failed)
    return Check(
        rule="stronger_attack",
        concerns="worst_case_accuracy",
        verdict="warn" if found or failed else "pass",
        figure=points,
        message=said,
        conditions={"epsilon": epsilon, "sample": sample, "attacks": list(attacks), "failed": list(failed)},
    )


def _black_box(  # noqa: PLR0917
    fooled: int, sample: int, survivors: int, epsilon: float, records: int, failed: tuple[str, ...] = ()
) -> Check:
    """Checks that a search without gradients does not fool many records that withstood the gradient attacks.

    Args:
        fooled: as in ``_stronger``, like the other arguments.
    """
    beaten = fooled / sample * survivors / records if sample else 0.0
    verdict: Verdict = "pass" if beaten <= 0.05 else "warn" if beaten <= 0.1 else "fail"
    said = (
        f"{BLACK_BOX.label} fools {fooled} of {sample} records drawn from the {survivors} that withstood all others at "
        f"ε = {epsilon:g}: about {beaten:.1%} of all (limit 5 %)"
    )
    if failed:
        verdict = "warn"
        said = _inconclusive(f"{BLACK_BOX.label} was to attack {sample} records that withstood all others", failed)
    elif verdict != "pass":
        said += ": gradients mislead the attacks that follow them; attack through a stand-in"
    return Check(
        rule="black_box_on_survivors",
        concerns="worst_case_accuracy",
        verdict=verdict,
        figure=beaten,
        message=said,
        conditions={"black_box": BLACK_BOX.label, "epsilon": epsilon, "sample": sample, "failed": list(failed)},
    )


def _inconclusive(said: str, failed: Sequence[str]) -> str:
    """Returns the message of a check whose attacks could not all be run."""
    return f"inconclusive: {said}, but could not run {'; '.join(failed)}"
