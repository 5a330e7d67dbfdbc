"""Facts about attacks that were run: which follow the model's own gradient, and which fooled which record."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from assay.attacks.adaptive import AdaptiveAttack
from assay.attacks.base import Judged
from assay.evaluations.attack_runs import SHARD, UNLIMITED, AttackRun, AttackTarget, Curve, Curves
from assay.evaluations.constant_answers import ModelAnswers
from assay.models.batches import respond
from assay.models.black_box import why_no_gradient
from assay.results import Check
from assay.seeds import generators_kept

_PROBED = 64
"""Greatest number of records on which checks run an attack's steps and look at its gradients."""


def answers_without_attack(target: AttackTarget) -> ModelAnswers | None:
    """Returns statistics of the model's answers to the records without an attack.

    Args:
        target: with n records.

    Returns:
        The statistics; None where the records have only one class.
    """
    decide = target.subject.task.decide
    answers = torch.cat([decide(respond(target.judge, x)) for x in target.x.split(SHARD)])
    names = target.subject.dataset.class_names
    return ModelAnswers.of(answers.cpu().numpy(), target.y.cpu().numpy(), class_names=names, clusters=target.groups)


def has_run(answer: AdaptiveAttack, runs: Collection[AttackRun]) -> bool:
    """Returns whether an attack with the same settings was run on the model itself.

    Args:
        answer: an adaptive attack.
        runs: attacks that were run.

    Returns:
        True if one of them has the same settings; labels are not compared.
    """
    return answer.through is None and any(
        run.through is None and run.attack == answer.attack and (run.attack.minimal or UNLIMITED not in run.radii)
        for run in runs
    )


def why_nothing_to_follow(target: AttackTarget, answer: AdaptiveAttack) -> str:
    """Returns why an adaptive attack has no gradient to follow on a model without one.

    Args:
        target: the model and its records.
        answer: the adaptive attack, with its stand-in.

    Returns:
        A reason; empty where the stand-in has a gradient.
    """
    if not target.subject.why_no_gradient or not answer.attack.follows_gradient:
        return ""
    if answer.through is None:
        return target.subject.why_no_gradient
    with generators_kept():
        return why_no_gradient(answer.through, target.x[:2])


def first_records(target: AttackTarget) -> tuple[Tensor, Tensor]:
    """Returns the first records and their labels: ``_PROBED`` of them, or as many as the model can take at once.

    Args:
        target: with n records.

    Returns:
        (k, ...) records and (k,) labels.
    """
    few = min(_PROBED, len(target.first[0]))
    return target.x[:few], target.y[:few]


def radius_that_half_withstand(target: AttackTarget, curve: Curve) -> float | None:
    """Returns the radius above 0 that about half of the correctly classified records withstand.

    Args:
        target: with its radii.
        curve: of one attack.

    Returns:
        The radius in the units of the data; None where there is none above 0.
    """
    radii = [epsilon for epsilon in target.radii if epsilon > 0]
    return min(radii, key=lambda radius: abs(curve[radius].accuracy - target.clean / 2), default=None)


def is_white_box(run: AttackRun) -> bool:
    """Returns whether an attack follows the gradient of the model that is judged.

    Args:
        run: of the attack.

    Returns:
        True if it does.
    """
    return run.through is None and run.attack.follows_gradient


def fooled_by_any(curves: Curves, names: Collection[str], epsilon: float) -> Tensor:
    """Returns which records any of the named attacks fooled at one radius.

    Args:
        curves: by label.
        names: labels of attacks.
        epsilon: radius in the units of the data.

    Returns:
        (n,) bool.
    """
    return torch.stack([curves[name][epsilon].fooled for name in sorted(names)]).any(0)


def worst_of(found: Sequence[Check]) -> Check:
    """Returns the check with the highest figure.

    Args:
        found: checks of one rule at several radii.

    Returns:
        One of them.
    """
    return max(found, key=lambda check: check.figure)


def curve_of_nearest(target: AttackTarget, nearest: Judged) -> Curve:
    """Returns the curve of an attack that searched for the smallest change.

    Args:
        target: with its radii.
        nearest: distances that the attack found.

    Returns:
        At each radius, fooled is every record whose distance is at most the radius.
    """
    wrong = ~target.right.cpu()
    curve = {}
    for epsilon in target.radii:
        fooled = wrong | (nearest.fooled & (nearest.distance <= epsilon))
        distance = nearest.distance.masked_fill(wrong, 0.0).masked_fill(~fooled, UNLIMITED)
        curve[epsilon] = Judged(fooled=fooled, distance=distance, invalid=nearest.invalid)
    return curve


def attack_settings(run: AttackRun) -> dict[str, Any]:
    """Returns the settings of an attack.

    Args:
        run: of the attack.

    Returns:
        Settings by name, with ``survivors_of`` where it was only given the survivors of other attacks.
    """
    settings = run.attack.model_dump(exclude={"name"})
    return {**settings, "survivors_of": list(run.survivors_of)} if run.survivors_of else settings
