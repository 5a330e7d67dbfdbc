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
"""Records on which checks look at the steps of an attack and at the gradients that it follows, at most."""


def answers_without_attack(target: AttackTarget) -> ModelAnswers | None:
    """What the model says of the records without an attack."""
    decide = target.subject.task.decide
    said = torch.cat([decide(respond(target.judge, x)) for x in target.x.split(SHARD)])
    names = target.subject.dataset.class_names
    return ModelAnswers.of(said.cpu().numpy(), target.y.cpu().numpy(), class_names=names, clusters=target.groups)


def has_run(answer: AdaptiveAttack, runs: Collection[AttackRun]) -> bool:
    """Whether an attack with the same settings was run on the model itself; its label does not tell the settings."""
    return answer.through is None and any(
        run.through is None and run.attack == answer.attack and (run.attack.minimal or UNLIMITED not in run.radii)
        for run in runs
    )


def why_nothing_to_follow(target: AttackTarget, answer: AdaptiveAttack) -> str:
    """Why an adaptive attack finds no gradient to follow, of a model that has none; empty where a stand-in has one."""
    if not target.subject.why_no_gradient or not answer.attack.follows_gradient:
        return ""
    if answer.through is None:
        return target.subject.why_no_gradient
    with generators_kept():
        return why_no_gradient(answer.through, target.x[:2])


def first_records(target: AttackTarget) -> tuple[Tensor, Tensor]:
    """The first records and their labels: ``_PROBED`` of them, or as many as the model can take at once."""
    few = min(_PROBED, len(target.first[0]))
    return target.x[:few], target.y[:few]


def radius_that_half_withstand(target: AttackTarget, curve: Curve) -> float | None:
    """The radius above 0 that about half of the records which are right withstand; None where there is none."""
    radii = [epsilon for epsilon in target.radii if epsilon > 0]
    return min(radii, key=lambda radius: abs(curve[radius].accuracy - target.clean / 2), default=None)


def is_white_box(run: AttackRun) -> bool:
    """Whether an attack follows the gradient of the very model that is judged."""
    return run.through is None and run.attack.follows_gradient


def fooled_by_any(curves: Curves, names: Collection[str], epsilon: float) -> Tensor:
    """Which records any of the named attacks fooled at one radius."""
    return torch.stack([curves[name][epsilon].fooled for name in sorted(names)]).any(0)


def worst_of(found: Sequence[Check]) -> Check:
    """Of one rule's checks at several radii the one with the highest figure."""
    return max(found, key=lambda check: check.figure)


def curve_of_nearest(target: AttackTarget, nearest: Judged) -> Curve:
    """The curve of an attack that looked for the smallest change: fooled at every radius that reaches it."""
    wrong = ~target.right.cpu()
    found = {}
    for epsilon in target.radii:
        fooled = wrong | (nearest.fooled & (nearest.distance <= epsilon))
        distance = nearest.distance.masked_fill(wrong, 0.0).masked_fill(~fooled, UNLIMITED)
        found[epsilon] = Judged(fooled=fooled, distance=distance, invalid=nearest.invalid)
    return found


def attack_settings(run: AttackRun) -> dict[str, Any]:
    """The settings of an attack; where it was given the survivors of other attacks, also which these were."""
    told = run.attack.model_dump(exclude={"name"})
    return {**told, "survivors_of": list(run.survivors_of)} if run.survivors_of else told
