"""Facts about attacks that were run: which follow the model's own gradient, and which fooled which record."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from assay.attacks.adaptive import Answer
from assay.attacks.base import Judged
from assay.evaluations.arena import SHARD, UNLIMITED, Arena, Curve, Curves, Strike
from assay.evaluations.constant_answers import Answers
from assay.models.batches import respond
from assay.models.black_box import why_no_gradient
from assay.results import Check
from assay.seeds import generators_kept

_PROBED = 64
"""Records on which checks look at the steps of an attack and at the gradients that it follows, at most."""


def answers_without_attack(arena: Arena) -> Answers | None:
    """What the model says of the records without an attack."""
    said = torch.cat([respond(arena.judge, x).argmax(1) for x in arena.x.split(SHARD)])
    names = arena.subject.dataset.class_names
    return Answers.of(said.cpu().numpy(), arena.y.cpu().numpy(), class_names=names, clusters=arena.groups)


def has_run(answer: Answer, strikes: Collection[Strike]) -> bool:
    """Whether an attack with the same settings was run on the model itself; its label does not tell the settings."""
    return answer.through is None and any(
        strike.through is None
        and strike.attack == answer.attack
        and (strike.attack.minimal or UNLIMITED not in strike.radii)
        for strike in strikes
    )


def why_nothing_to_follow(arena: Arena, answer: Answer) -> str:
    """Why an adaptive attack finds no gradient to follow, of a model that has none; empty where a stand-in has one."""
    if not arena.subject.why_no_gradient or not answer.attack.follows_gradient:
        return ""
    if answer.through is None:
        return arena.subject.why_no_gradient
    with generators_kept():
        return why_no_gradient(answer.through, arena.x[:2])


def first_records(arena: Arena) -> tuple[Tensor, Tensor]:
    """The first records and their labels: ``_PROBED`` of them, or as many as the model can take at once."""
    few = min(_PROBED, len(arena.first[0]))
    return arena.x[:few], arena.y[:few]


def radius_that_half_withstand(arena: Arena, curve: Curve) -> float | None:
    """The radius above 0 that about half of the records which are right withstand; None where there is none."""
    radii = [epsilon for epsilon in arena.radii if epsilon > 0]
    return min(radii, key=lambda radius: abs(curve[radius].accuracy - arena.clean / 2), default=None)


def is_white_box(strike: Strike) -> bool:
    """Whether an attack follows the gradient of the very model that is judged."""
    return strike.through is None and strike.attack.follows_gradient


def fooled_by_any(curves: Curves, names: Collection[str], epsilon: float) -> Tensor:
    """Which records any of the named attacks fooled at one radius."""
    return torch.stack([curves[name][epsilon].fooled for name in sorted(names)]).any(0)


def worst_of(found: Sequence[Check]) -> Check:
    """Of one rule's checks at several radii the one with the highest figure."""
    return max(found, key=lambda check: check.figure)


def curve_of_nearest(arena: Arena, nearest: Judged) -> Curve:
    """The curve of an attack that looked for the smallest change: fooled at every radius that reaches it."""
    wrong = ~arena.right.cpu()
    found = {}
    for epsilon in arena.radii:
        fooled = wrong | (nearest.fooled & (nearest.distance <= epsilon))
        distance = nearest.distance.masked_fill(wrong, 0.0).masked_fill(~fooled, UNLIMITED)
        found[epsilon] = Judged(fooled=fooled, distance=distance, invalid=nearest.invalid)
    return found


def settings_of(strike: Strike) -> dict[str, Any]:
    """The settings of an attack; where it was given the survivors of other attacks, also which these were."""
    told = strike.attack.model_dump(exclude={"name"})
    return {**told, "survivors_of": list(strike.survivors_of)} if strike.survivors_of else told
