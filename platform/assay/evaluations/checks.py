"""The rules of evidence for robustness: each is a function from figures to a verdict on a measurement.

After Carlini et al. 2019 (arXiv:1902.06705) and the checks of AutoAttack (Croce & Hein 2020, arXiv:2003.01690).
"""

from collections.abc import Collection, Mapping
from itertools import pairwise

import torch
from scipy import stats
from torch import Tensor, nn

from assay.attacks.base import Attack
from assay.results import Check, Verdict
from assay.threats import Threat

WORST = "worst_case_accuracy"
CURVE = "robust_accuracy"
ENOUGH_PATH = 2.0
"""Steps whose sum is this multiple of the radius lead from any record of a ball to any other."""


def clean_beside_robust(radii: Mapping[str, Collection[float]]) -> Check:
    """Checks that each attack was also measured at ε = 0, so that every robust figure has a clean one.

    Args:
        radii: by attack, where it was measured.

    Returns:
        The check.
    """
    alone = [attack for attack, measured in radii.items() if 0.0 not in measured]
    return _check(
        "clean_beside_robust",
        CURVE,
        "fail" if alone else "pass",
        float(len(alone)),
        f"attacks without a figure at ε = 0: {', '.join(alone) or 'none'}; a robust accuracy means nothing without "
        "the clean one: measure ε = 0 as well",
    )


def clean_at_zero(clean: float, at_zero: list[float], *, records: int) -> Check:
    """Checks that every attack leaves clean accuracy unchanged at ε = 0.

    A difference of one record passes: two machines, or one machine with two batch sizes, may break a tie differently.

    Args:
        clean: accuracy on the records themselves.
        at_zero: accuracy of each attack at ε = 0.
        records: how many there are.

    Returns:
        The check.
    """
    known = [clean, *at_zero]
    gap = max(known) - min(known)
    return _check(
        "clean_at_zero",
        WORST,
        "fail" if gap * records > 1.5 else "pass",
        gap,
        f"accuracies at ε = 0 and clean accuracy differ by {gap:.4f} (limit: one record of {records}); they must not",
    )


def monotone(attack: str, accuracies: list[float]) -> Check:
    """Checks that the success of an attack does not fall as ε grows; where it does, an iterative attack is too weak.

    The check cannot fail where records that are fooled at one radius stay fooled at the next: on the warm curve of PGD,
    and for attacks on survivors only. It is for attacks that run anew at each radius.

    Args:
        attack: its label.
        accuracies: at each radius, ascending.

    Returns:
        The check.
    """
    rise = max((after - before for before, after in pairwise(accuracies)), default=0.0)
    return _check(
        "monotone_in_epsilon",
        CURVE,
        "warn" if rise > 0.01 else "pass",
        max(rise, 0.0),
        f"accuracy under {attack} rises by up to {max(rise, 0):.1%} as ε grows (limit 1 point): "
        "a larger ball holds the smaller, so the attack is too weak there; trust the worst case",
        attack=attack,
    )


def unbounded_attack_wins(accuracy: float, *, fixed: bool = False, gradients: bool = True) -> Check:
    """Checks that an attack without a radius fools nearly every record.

    Args:
        accuracy: share of records that withstood it.
        fixed: whether some inputs cannot be changed; these alone may decide a record, so a failure is only a warning.
        gradients: whether the attack followed gradients; otherwise it was a search by queries.

    Returns:
        The check.
    """
    lost: Verdict = "warn" if fixed else "fail"
    why = "gradients are masked" if gradients else "the search finds no way to them"
    held = f"inputs that nobody can change hold them, or {why}" if fixed else why
    return _check(
        "unbounded_attack",
        WORST,
        lost if accuracy > 0.05 else "pass",
        accuracy,
        f"{accuracy:.1%} of the records withstand an attack without a radius (limit 5 %): {held}; "
        "trust adaptive attacks alone",
    )


def larger_step(attack: str, given: Tensor, larger: Tensor, epsilon: float) -> Check:
    """Checks that the same number of larger steps, whose sum crosses the ball, changes less than one point.

    Args:
        attack: its label.
        given: (n,) bool, records that it fooled.
        larger: (n,) bool, records that it fooled with larger steps.
        epsilon: radius of both.

    Returns:
        The check.
    """
    gain = float((given | larger).double().mean() - given.double().mean())
    return _check(
        "step_size",
        CURVE,
        "warn" if gain >= 0.01 else "pass",
        gain,
        f"larger steps of {attack} fool {gain:.1%} more of the records at ε = {epsilon:g} (limit 1 point): its steps "
        "are too small to cross the ball; raise relative_step",
        attack=attack,
        epsilon=epsilon,
    )


def boundary_reached(attack: str, travelled: Tensor, epsilon: float) -> Check:
    """Checks that an attack moved the records that it failed to fool far enough; most losses rise up to the boundary.

    On a curve the attack starts warm and seldom stops before the boundary; this check uses a run of its own.

    Args:
        attack: its label.
        travelled: (m,) how far it moved the records that withstood it, as a share of the allowed distance.
        epsilon: radius.

    Returns:
        The check.
    """
    share = float(travelled.double().median()) if len(travelled) else 1.0
    return _check(
        "boundary_reached",
        CURVE,
        "warn" if share < 0.5 else "pass",
        share,
        f"{attack} moved the {len(travelled)} records that withstood it by {share:.0%} of what ε = {epsilon:g} allows "
        "(median; limit 50 %): its steps are too small or its gradients vanish; raise relative_step or steps",
        attack=attack,
        epsilon=epsilon,
    )


def steps_cross_the_ball(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    seed: int,
    through: nn.Module | None = None,
    label: str = "",
) -> list[Check]:
    """Runs an attack on a few records at one radius, and checks whether its steps are large enough.

    Args:
        attack: any that searches within a radius; one with a ``relative_step`` is also tried with larger steps.
        model: the model that is judged.
        x: (n, ...) valid records.
        y: (n,) their labels.
        threat: of finite radius above 0. One that about half of the records withstand shows most.
        seed: of the attack's draws.
        through: the network that the attack looks at instead of the model, if any.
        label: of the attack in the checks; its own by default.

    Returns:
        One or two checks.
    """
    label = label or attack.label
    found = attack.run(model, x, y, threat, seed=seed, through=through)
    held = ~found.fooled
    checks = [boundary_reached(label, _travelled(found.x[held], x[held], threat), threat.epsilon)]
    path = getattr(attack, "relative_step", None)
    if path is not None:
        larger = found.fooled
        if path < ENOUGH_PATH:
            longer = attack.model_copy(update={"relative_step": 1.25 * ENOUGH_PATH})
            larger = longer.run(model, x, y, threat, seed=seed, through=through).fooled
        checks.append(larger_step(label, found.fooled, larger, threat.epsilon))
    return checks


def _travelled(moved: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """Returns how far records were moved, as a share of the allowed distance, (m,), for records that may be changed.

    In L∞ it is the mean over the inputs that were moved, each relative to the boundary on its side. In L2 it is the
    length of the change.
    """
    low, high = threat.bounds.box(x, threat.epsilon)
    farthest = torch.maximum(x - low, high - x)
    if threat.norm == "l2":
        gone, reach = threat.distance(moved, x), threat.distance(x + farthest, x).clamp(max=threat.epsilon)
    else:
        change = moved - x
        gone = change.abs().flatten(1).sum(1)
        reach = torch.where(change > 0, high - x, torch.where(change < 0, x - low, 0.0)).flatten(1).sum(1)
    allowed = (farthest.flatten(1) > 0).any(1)
    return (gone / reach.clamp_min(torch.finfo(x.dtype).tiny))[allowed]


def black_box_loses(attack: str, white_box: Tensor, black_box: Tensor, epsilon: float) -> Check:
    """Checks that an attack without gradients does not fool records that the gradient attacks could not fool.

    Random noise must not fool any such record. A search, or a record made for another network, can leave local maxima
    in which a gradient attack stays: on networks without masked gradients a search of 1,000 queries adds up to 4 points
    to PGD-20; with masked gradients it adds tens of points. So up to 5 points pass, and more than 10 fail.

    Args:
        attack: label of the black-box attack: ``random_noise``, ``square``, ``transfer``.
        white_box: (n,) bool, records that the white-box attacks fooled within ε.
        black_box: (n,) bool, records that this one fooled within ε.
        epsilon: radius of both.

    Returns:
        The check.
    """
    beaten = float((black_box & ~white_box).double().mean())
    limit, far = (0.0, 0.0) if attack == "random_noise" else (0.05, 0.1)
    return _check(
        "black_box_against_white_box",
        WORST,
        "pass" if beaten <= limit else "warn" if beaten <= far else "fail",
        beaten,
        f"{attack} fools {beaten:.1%} of the records at ε = {epsilon:g} that the white-box attack could not "
        f"(limit {limit:.0%}): gradients mislead it; add steps and restarts, or attack through a stand-in",
        black_box=attack,
        epsilon=epsilon,
    )


def losses_agree(attack: str, loss: str, said: float, by_loss: Mapping[str, float], epsilon: float) -> Check:
    """Checks that the same attack does not find much more with another loss; cross-entropy can vanish.

    Two losses lead to different corners of the ball even without masked gradients: on linear models of ten classes they
    differ by up to 6 points. So the limit is 10.

    Args:
        attack: label of an attack that maximises ``loss``.
        loss: a key of ``by_loss``.
        said: accuracy under that attack.
        by_loss: accuracy under PGD by its loss: ``cross_entropy``, ``margin``, ``dlr``.
        epsilon: radius of all.

    Returns:
        The check.
    """
    best = min(by_loss, key=by_loss.__getitem__)
    gap = by_loss[loss] - by_loss[best]
    return _check(
        "gradient_masking",
        CURVE,
        "warn" if gap > 0.1 else "pass",
        gap,
        f"{attack} leaves {said:.1%} at ε = {epsilon:g}; PGD leaves {by_loss[loss]:.1%} through {loss} and "
        f"{by_loss[best]:.1%} through {best} (limit 10 points apart): beyond that gradients are masked and {attack} "
        "shows no robustness; trust the margin loss",
        attack=attack,
        epsilon=epsilon,
    )


def certified_is_never_fooled(
    proven: Tensor, fooled: Tensor, epsilon: float, *, method: str = "interval bounds", confidence: float = 1.0
) -> Check:
    """Checks that no attack fools a certified record; otherwise the certificate or the attack is wrong.

    Args:
        proven: (n,) bool, records whose answer is proven correct within ε.
        fooled: (n,) bool, records that any attack on the certified model fooled within ε, in the certificate's norm.
        epsilon: radius.
        method: of the certificate that the check concerns.
        confidence: of each proof; below 1 a share of them may be refuted by chance, and only more than chance (p <
            0.01) fails.

    Returns:
        The check.
    """
    certified, refuted = int(proven.sum()), int((proven & fooled).sum())
    by_chance = float(stats.binom.sf(refuted - 1, certified, 1 - confidence))
    return _check(
        "certified_is_never_fooled",
        "certified_accuracy",
        "fail" if refuted and by_chance < 0.01 else "pass",
        float(refuted),
        f"{refuted} of {certified} certified records were fooled at ε = {epsilon:g}: "
        "the certificate or the attack is wrong",
        epsilon=epsilon,
        method=method,
    )


def adaptive_answer(before: float, after: float, *, epsilon: float, attacks: list[str], rules: list[str]) -> Check:
    """Checks whether adaptive attacks lower the worst case by more than a point, which confirms the suspicion.

    Args:
        before: worst-case accuracy under the attacks that were asked for.
        after: the same with the adaptive attacks.
        epsilon: radius at which they lowered it most.
        attacks: labels of the adaptive attacks.
        rules: the checks that called for them.

    Returns:
        The check.
    """
    drop = before - after
    return _check(
        "adaptive_answer",
        WORST,
        "warn" if drop > 0.01 else "pass",
        drop,
        f"{', '.join(rules)} called for {', '.join(attacks)}, which bring the worst case at ε = {epsilon:g} from "
        f"{before:.1%} to {after:.1%} (limit 1 point): trust the second figure, and no attack that was asked for",
        epsilon=epsilon,
    )


def invalid_outputs(count: int) -> Check:
    """Checks that the model returned finite numbers under attack.

    Args:
        count: answers of NaN or infinity.

    Returns:
        The check.
    """
    return _check(
        "finite_outputs",
        WORST,
        "fail" if count else "pass",
        float(count),
        f"the model answered NaN or infinity {count} times under attack; each counts as fooled",
    )


def _check(rule: str, concerns: str, verdict: Verdict, figure: float, message: str, **conditions: str | float) -> Check:
    return Check(rule=rule, concerns=concerns, verdict=verdict, figure=figure, message=message, conditions=conditions)
