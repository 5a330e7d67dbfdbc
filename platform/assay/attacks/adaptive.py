"""The answer to a model that may be deceiving an attack: attacks made for the suspicion (Tramèr et al. 2020).

Each looks at the model through a stand-in with the same answers and a useful backward pass, or needs none; all are
judged on the model itself. "On Adaptive Attacks to Adversarial Example Defenses", arXiv:2002.08347.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.attacks.base import Attack
from assay.attacks.expectation import Expectation
from assay.attacks.gradients import input_gradient
from assay.attacks.pgd import PGD
from assay.attacks.straight_through import straight_through
from assay.registry import build

BLINDED = frozenset({"zero_gradients", "unbounded_attack", "black_box_against_white_box"})
"""Rules that fire where gradients lead nowhere."""
SATURATED = frozenset({"gradient_masking"})
"""Rules that fire where cross-entropy hides what a margin shows."""
RANDOM = frozenset({"randomised_forward"})
PROBABILITIES = frozenset({"probability_outputs"})
UNFINISHED = frozenset({"step_doubling", "step_size", "boundary_reached", "monotone_in_epsilon"})
"""Rules that fire where an attack stopped too early."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One adaptive attack."""

    label: str
    attack: Attack
    through: nn.Module | None
    """What the attack looks at; None: the model itself."""
    because: tuple[str, ...]
    """The rules that called for it."""


class LogProbabilities(nn.Module):
    """Logits of a model that returns probabilities: their logarithm, which a softmax leaves as they are."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        said = self.model(x)
        return said.clamp_min(torch.finfo(said.dtype).tiny).log()


def answers(raised: Collection[str], model: nn.Module, x: Tensor, *, steps: int, samples: int) -> list[Answer]:
    """The attacks that the rules which did not pass call for; none where all passed.

    Args:
        raised: names of the rules with a verdict of ``warn`` or ``fail``.
        model: the suspect, in evaluation mode.
        x: (n, ...) some valid records, to probe it with.
        steps: of PGD.
        samples: passes over which a randomised model is averaged.
    """
    raised, stand_in = frozenset(raised), _stand_in(raised, model, x, samples)
    margin = PGD(steps=steps, loss="margin")
    possible: list[tuple[str, Attack, nn.Module | None, frozenset[str]]] = [
        ("pgd_margin", margin, None, SATURATED),
        ("pgd_long", PGD(steps=5 * steps, loss="margin", restarts=5), None, UNFINISHED),
        ("square", _attack("square"), None, BLINDED | SATURATED),
    ]
    if stand_in is not None:
        name, through = stand_in
        possible.insert(0, (f"pgd_{name}", margin, through, BLINDED | RANDOM | PROBABILITIES))
    return [
        Answer(label=label, attack=attack, through=through, because=tuple(sorted(raised & rules)))
        for label, attack, through, rules in possible
        if raised & rules
    ]


def _stand_in(raised: Collection[str], model: nn.Module, x: Tensor, samples: int) -> tuple[str, nn.Module] | None:
    """What the suspicions make of the model, and its name; None where that is no other than the model itself."""
    seen, made = model, []
    if BLINDED & set(raised):
        bridged = straight_through(model, x)
        if not _same_gradient(model, bridged, x):
            seen, made = bridged, ["straight_through"]
    if PROBABILITIES & set(raised):
        seen, made = LogProbabilities(seen), [*made, "logarithm"]
    if RANDOM & set(raised):
        seen, made = Expectation(seen, samples), [*made, "expectation"]
    return ("_".join(made), seen) if made else None


def _same_gradient(model: nn.Module, other: nn.Module, x: Tensor) -> bool:
    """Whether two networks lead an attack the same way."""
    ways = []
    for network in (model, other):
        point = x.clone().requires_grad_(True)
        # The generator is put back each time: with equal draws, randomness alone makes no difference.
        with torch.random.fork_rng(), torch.enable_grad():
            best = network(point).amax(1)
        ways.append(input_gradient(best, point).nan_to_num())
    return torch.equal(*ways)


def _attack(name: str) -> Attack:
    attack = build("attack", name)
    assert isinstance(attack, Attack)
    return attack
