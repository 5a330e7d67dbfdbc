"""The answer to a model that may be deceiving an attack: attacks made for the suspicion (Tramèr et al. 2020).

Each looks at the model through a stand-in with the same answers and a useful backward pass, or needs none; all are
judged on the model itself. "On Adaptive Attacks to Adversarial Example Defenses", arXiv:2002.08347.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from assay.attacks.base import Attack
from assay.attacks.expectation import Expectation
from assay.attacks.gradients import input_gradient
from assay.attacks.pgd import PGD
from assay.attacks.straight_through import straight_through
from assay.attacks.targeted_pgd import TargetedPGD
from assay.registry import build
from assay.seeds import generators_kept

_BLACK_BOX = frozenset({"black_box_against_white_box", "black_box_on_survivors"})
BLINDED = _BLACK_BOX | {"zero_gradients", "unbounded_attack"}
"""Rules that fire where gradients lead nowhere."""
SHATTERED = _BLACK_BOX | {"true_slopes"}
"""Rules that fire where gradients are there, and lead astray."""
SEARCHED = BLINDED | SHATTERED
"""Rules that fire where an attack without the model's gradient may find what those with it cannot."""
SATURATED = frozenset({"gradient_masking"})
"""Rules that fire where cross-entropy hides what a margin shows."""
RANDOM = frozenset({"randomised_forward"})
PROBABILITIES = frozenset({"probability_outputs"})
STOPPED_EARLY = frozenset({"stronger_attack", "step_size", "boundary_reached", "monotone_in_epsilon"})
"""Rules that fire where an attack stopped too early."""
_SHAKEN = 0.05
"""Noise that averages over what shatters a gradient, as a share of each input's own spread."""


@dataclass(frozen=True, kw_only=True)
class AdaptiveAttack:
    """One adaptive attack."""

    label: str
    attack: Attack
    through: nn.Module | None
    """What the attack looks at; None: the model itself."""
    because: tuple[str, ...]
    """The rules that called for it."""


class LogitsOfProbabilities(nn.Module):
    """Logits of a model that returns probabilities: their logarithm, which a softmax leaves as they are.

    Where the probabilities are what a softmax returned, it is taken of the logits, so nothing is lost to rounding.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with _LastSoftmax() as softmax:
            said = self.model(x)
        if softmax.value is said and softmax.logits is not None:
            return softmax.logits.log_softmax(1)
        # No logarithm of 0, and a slope there that is steep, but not 0.
        limits = torch.finfo(said.dtype)
        steep = (said + (said.clamp_min(limits.eps) - said).detach()).log()
        return steep + (said.clamp_min(limits.tiny).log() - steep).detach()


class _LastSoftmax(TorchFunctionMode):
    """Within it, the last softmax over classes: what it was given and what it returned."""

    def __init__(self) -> None:
        super().__init__()
        self.logits: Tensor | None = None
        self.value: Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        value = func(*args, **kwargs)
        softmax = args and getattr(func, "__name__", "") in ("softmax", "special_softmax")
        if softmax and value.dim() == 2 and (args[1] if len(args) > 1 else kwargs.get("dim")) in (1, -1):
            self.logits, self.value = args[0].to(value.dtype), value
        return value


class NearBy(nn.Module):
    """A model whose inputs are shaken: averaged over many passes, its gradient is that of the model at large.

    Args:
        model: the suspect.
        spread: (...) standard deviation of the noise, broadcasts to one record.
    """

    def __init__(self, model: nn.Module, spread: Tensor) -> None:
        super().__init__()
        self.model = model
        self.spread: Tensor
        self.register_buffer("spread", spread)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x + self.spread.to(x) * torch.randn_like(x))


def answers(raised: Collection[str], model: nn.Module, x: Tensor, *, steps: int, samples: int) -> list[AdaptiveAttack]:
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
    thorough = TargetedPGD(steps=5 * steps, restarts=3, momentum=0.75)
    smooth = Expectation(NearBy(model if stand_in is None else stand_in[1], _SHAKEN * x.std(0, correction=0)), samples)
    possible: list[tuple[str, Attack, nn.Module | None, frozenset[str]]] = [
        ("pgd_margin", margin, None, SATURATED),
        ("pgd_smoothed_input", PGD(steps=2 * steps, loss="margin", momentum=1.0), smooth, SHATTERED),
        ("pgd_long", thorough, None, STOPPED_EARLY | SHATTERED),
        ("spsa", _attack("spsa"), None, SEARCHED),
        ("square", _attack("square"), None, SEARCHED | SATURATED),
        ("hop_skip_jump", _attack("hop_skip_jump"), None, SEARCHED),
    ]
    if stand_in is not None:
        name, through = stand_in
        possible.insert(0, (f"pgd_{name}", margin, through, BLINDED | RANDOM | PROBABILITIES))
    return [
        AdaptiveAttack(label=label, attack=attack, through=through, because=tuple(sorted(raised & rules)))
        for label, attack, through, rules in possible
        if raised & rules
    ]


def _stand_in(raised: Collection[str], model: nn.Module, x: Tensor, samples: int) -> tuple[str, nn.Module] | None:
    """What the suspicions make of the model, and its name; None where that is no other than the model itself."""
    # The logarithm first: it must see what the model's own softmax returned, before anything is made of that.
    seen: nn.Module = LogitsOfProbabilities(model) if PROBABILITIES & set(raised) else model
    made = [] if seen is model else ["logarithm"]
    if BLINDED & set(raised):
        bridged = straight_through(seen, x)
        if not _same_gradient(seen, bridged, x):
            seen, made = bridged, ["straight_through", *made]
    if RANDOM & set(raised):
        seen, made = Expectation(seen, samples), [*made, "expectation"]
    return ("_".join(made), seen) if made else None


def _same_gradient(model: nn.Module, other: nn.Module, x: Tensor) -> bool:
    """Whether two networks lead an attack the same way."""
    ways = []
    for network in (model, other):
        point = x.clone().requires_grad_(True)
        # The generator is put back each time: with equal draws, randomness alone makes no difference.
        with generators_kept(), torch.enable_grad():
            best = network(point).amax(1)
        ways.append(input_gradient(best, point).nan_to_num())
    return torch.equal(*ways)


def _attack(name: str) -> Attack:
    attack = build("attack", name)
    assert isinstance(attack, Attack)
    return attack
