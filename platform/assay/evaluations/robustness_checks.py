"""Checks of attacks against each other, against certificates, and of the gradients that they follow."""

from collections.abc import Collection, Mapping

from assay import seeds
from assay.attacks.adaptive import LogitsOfProbabilities
from assay.attacks.base import Judged
from assay.bounds.interval import UnboundableError
from assay.evaluations import checks, model_checks
from assay.evaluations.attack_facts import (
    first_records,
    fooled_by_any,
    is_white_box,
    radius_that_half_withstand,
    worst_of,
)
from assay.evaluations.attack_runs import AttackRun, AttackTarget, Curves, worst_case
from assay.evaluations.certificates import proven_right
from assay.evaluations.probe import attack_survivors
from assay.evaluations.slopes import true_slopes
from assay.models.batches import respond
from assay.results import Check
from assay.seeds import Draw


def attack_checks(
    target: AttackTarget,
    runs: Mapping[str, AttackRun],
    curves: Curves,
    unbounded: Judged,
) -> list[Check]:
    """Checks attacks against each other and, where some follow gradients, these gradients.

    Args:
        target: the model and its records.
        runs: of the attacks, by label.
        curves: what they found at each radius, by label.
        unbounded: result of an attack without a limit.

    Returns:
        The checks.
    """
    white_box = {name for name, run in runs.items() if is_white_box(run) and name in curves}
    fixed = target.base.bounds.fixed is not None
    return [
        checks.clean_beside_robust({name: list(curve) for name, curve in curves.items()}),
        checks.clean_at_zero(target.clean, [curve[0.0].accuracy for curve in curves.values()], records=len(target.x)),
        *(checks.monotone(name, [curves[name][e].accuracy for e in target.radii]) for name in sorted(white_box)),
        checks.unbounded_attack_wins(unbounded.accuracy, fixed=fixed, gradients=bool(white_box)),
        *(_of_gradients(target, runs, curves, white_box) if white_box else []),
        checks.invalid_outputs(sum(a.invalid for curve in curves.values() for a in curve.values())),
    ]


def _of_gradients(
    target: AttackTarget, runs: Mapping[str, AttackRun], curves: Curves, white_box: Collection[str]
) -> list[Check]:
    """Returns checks of attacks that follow gradients, and of these gradients.

    Args:
        white_box: names of these attacks.
    """
    return [
        *_masking(target, curves),
        *attack_survivors(target, worst_case(list(curves.values()))),
        *_slopes(target, curves),
        *(
            worst_of(
                [
                    checks.black_box_loses(name, fooled_by_any(curves, white_box, e), curves[name][e].fooled, e)
                    for e in target.radii
                ]
            )
            for name in curves
            if name not in white_box
        ),
        *_step_sizes(target, runs, curves),
    ]


def _step_sizes(target: AttackTarget, runs: Mapping[str, AttackRun], curves: Curves) -> list[Check]:
    """Checks the usual PGD, and every attack whose steps are too short to cross the ball.

    One start each, on a few records, at the radius that about half of all records withstand.
    """
    x, y = first_records(target)
    found: list[Check] = []
    for name, curve in curves.items():
        attack = runs[name].attack
        path = getattr(attack, "relative_step", None)
        usual = name in ("pgd_cross_entropy", "pgd_margin")
        if path is None or runs[name].through is not None or not (usual or path < checks.ENOUGH_PATH):
            continue
        epsilon = radius_that_half_withstand(target, curve)
        if epsilon is None:
            continue
        found += checks.steps_cross_the_ball(
            attack.model_copy(update={"restarts": 1}) if hasattr(attack, "restarts") else attack,
            target.judge,
            x,
            y,
            target.base.at(epsilon),
            seed=target.subject.seed,
            through=target.subject.model if target.passes > 1 else None,
            label=name,
        )
    return found


def _slopes(target: AttackTarget, curves: Curves) -> list[Check]:
    """Checks whether gradients hold at the scale of the radius that about half of all records withstand.

    A randomised model is not checked, because its answers differ without a step.
    """
    epsilon = radius_that_half_withstand(target, curves["pgd_margin"])
    if epsilon is None or target.passes > 1:
        return []
    (x, y), model = first_records(target), target.subject.model
    if model_checks.probability_outputs(respond(alone := target.subject.network_alone, x)).verdict != "pass":
        # A probability is no straight line even where its logit is.
        model = LogitsOfProbabilities(alone)
    draw = Draw(seeds.stream(target.subject.seed, "slopes"), len(x))
    return [true_slopes(model, x, y, target.base.at(epsilon), draw)]


def _masking(target: AttackTarget, curves: Curves) -> list[Check]:
    """Checks each attack at the radius where another loss finds most that its own loss does not."""
    return [
        worst_of(
            [
                checks.losses_agree(
                    name,
                    loss,
                    curves[name][e].accuracy,
                    {of: curves[f"pgd_{of}"][e].accuracy for of in ("cross_entropy", "margin")},
                    e,
                )
                for e in target.radii
            ]
        )
        for name, loss in (("fgsm", "cross_entropy"), ("pgd_cross_entropy", "cross_entropy"))
    ]


def certificate_checks(target: AttackTarget, curves: Curves, nearest: Mapping[str, Judged]) -> list[Check]:
    """Compares certificates by interval bounds with the attacks, record by record, at every radius.

    A change that is shorter than ε in L2 is also shorter in L∞, so attacks in either norm count. A randomised model
    has no certificate.

    Args:
        target: the model and its records.
        curves: what attacks found at each radius, by label.
        nearest: smallest changes that attacks found, by label.

    Returns:
        One check; none for a network that has no bounds.
    """
    if target.passes > 1:
        return []
    subject = target.subject
    try:
        proven = {
            e: proven_right(subject.model, target.x, target.y, target.base.at(e), task=subject.task)
            for e in target.radii
        }
    except UnboundableError:
        return []
    worst = worst_case(list(curves.values()))
    found = []
    for epsilon in target.radii:
        fooled = worst[epsilon]
        for judged in nearest.values():
            fooled = fooled | (judged.fooled & (judged.distance <= epsilon))
        found.append(checks.certified_is_never_fooled(proven[epsilon].cpu(), fooled, epsilon))
    return [worst_of(found)]
